"""The interpretability study: what is foretold by a true explanation, and what by none."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.studies import StudyOptions
from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.engine.hooks import capture
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.studies.interpretability import STUDY
from knowscope_tui.studies.interpretability.contexts import Context, Shown, draw_contexts, watch
from knowscope_tui.studies.interpretability.interpreter import LexicalInterpreter, Task
from knowscope_tui.studies.interpretability.lexical import Simulator
from knowscope_tui.studies.interpretability.scores import area, marked, pearson, scored, told_apart
from knowscope_tui.studies.study import Subject

WORDS = ["<bos>", "the", "cat", "dog", "sat", "ran", "red", "big", "on", "mat"]
UNIT = Unit(Site(1, SiteKind.RESID_POST), Family.FEATURE, 3)


def quiet(_doing: str, _fraction: float | None) -> None:
    """Nobody watches."""


def sentences(count: int = 200, seed: int = 0) -> list[Context]:
    rng = random.Random(seed)
    made = []
    for number in range(count):
        ids = tuple(rng.randrange(1, len(WORDS)) for _ in range(6))
        made.append(Context((0, *ids), tuple(WORDS[token] for token in ids), number % 2 == 0))
    return made


def shown(contexts: list[Context], rule: object) -> Shown:
    """A unit with activation `rule(ids, place)`."""
    assert callable(rule)
    values = [np.array([rule(c.ids[1:], place) for place in range(6)], dtype=np.float32) for c in contexts]
    return Shown(contexts, values)


def after_cat(ids: tuple[int, ...], place: int) -> float:
    return 4.0 if place and ids[place - 1] == 2 else 0.0


def noise(_ids: tuple[int, ...], _place: int, rng: random.Random = random.Random(5)) -> float:
    return rng.random()


def test_a_unit_that_follows_a_rule_is_explained_by_it() -> None:
    contexts = sentences()
    explanation = Simulator(contexts).explain(shown(contexts, after_cat))
    assert explanation.text.startswith("after “cat” +4")
    found = LexicalInterpreter(contexts).interpret(Task.of(UNIT, shown(contexts, after_cat), 0))
    assert found.simulation == pytest.approx(1.0, abs=1e-3)
    assert found.detection == 1.0
    assert found.fuzzing == 1.0


def test_noise_is_not_explained() -> None:
    contexts = sentences(400)
    found = LexicalInterpreter(contexts).interpret(Task.of(UNIT, shown(contexts, noise), 0))
    assert found.simulation is not None
    assert abs(found.simulation) < 0.3


def test_what_is_scored_is_never_what_was_fitted() -> None:
    """A unit that follows a rule in one half alone, and another one in the other, gets no credit."""
    contexts = sentences()
    fitted = shown([c for c in contexts if c.fitted], after_cat)
    held = shown([c for c in contexts if not c.fitted], lambda ids, place: 4.0 if ids[place] == 5 else 0.0)
    whole = Shown([*fitted.contexts, *held.contexts], [*fitted.values, *held.values])
    found = LexicalInterpreter(contexts).interpret(Task.of(UNIT, whole, 0))
    assert found.simulation is not None
    assert found.simulation < 0.3


def test_scores_by_hand() -> None:
    assert pearson([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0)
    assert pearson([1, 1, 1], [2, 4, 6]) == 0.0
    assert pearson([1, 2, 3], [5, 5, 5]) is None
    assert area([0.9, 0.8, 0.1], [True, True, False]) == 1.0
    assert area([0.1, 0.8, 0.5], [True, True, False]) == 0.5
    assert area([0.5, 0.5], [True, False]) == 0.5
    assert area([0.5], [True]) is None


def test_draws_hold_what_they_say() -> None:
    held = shown(sentences(), after_cat)
    rng = random.Random(1)
    chosen, fires = told_apart(held, 4.0, rng)
    assert sum(fires) == len(fires) / 2 == 10
    for index, yes in zip(chosen, fires, strict=True):
        assert bool(held.peaks[index] == 4.0) is yes
    for mark in marked(held, 4.0, rng):
        on = {int(place) for place in np.nonzero(held.values[mark.context])[0]}
        assert (set(mark.places) == on) is mark.right
        assert mark.right or not on & set(mark.places)
    picked = scored(held, rng)
    assert len(picked) == len(set(picked)) == 20
    silent = shown(sentences(), lambda _ids, _place: 0.0)
    assert told_apart(silent, 0.0, rng) == ([], [])
    assert marked(silent, 0.0, rng) == []


@pytest.fixture
def subject(lm: LanguageModel, library: Library, facts: list[Fact], tmp_path: Path) -> Subject:
    from knowscope_tui.demo import corpus

    return Subject(lm, library, tuple(facts), corpus.reference_texts()[:40], StudyOptions(), tmp_path)


def test_units_show_on_a_batch_what_they_show_on_a_sentence_alone(subject: Subject) -> None:
    lm, library = subject.lm, subject.library
    contexts = draw_contexts(subject)
    units = [UNIT, Unit(Site(0, SiteKind.ATTN_Z), Family.FEATURE, 5), Unit(Site(2, SiteKind.MLP_ACT), Family.NEURON, 7)]
    found = watch(lm, library, contexts, units, quiet)
    for index in (0, len(contexts) // 2, len(contexts) - 1):
        with capture(lm.model, [unit.site for unit in units]) as cache:
            lm.model(input_ids=lm.tensor([contexts[index].ids]))
        for unit in units:
            activation = cache[unit.site][0, 1:]
            alone = library.at(unit.site).encode(activation) if unit.family is Family.FEATURE else activation
            assert np.allclose(found[unit].values[index], alone[:, unit.index], atol=1e-4)


def test_rows_depend_on_their_key_alone(subject: Subject) -> None:
    keys = STUDY.keys(subject)
    assert len(set(keys)) == len(subject.facts)
    forth, back = STUDY.prepare(subject, quiet), STUDY.prepare(subject, quiet)
    rows = [forth(key, quiet) for key in keys]
    assert rows == [back(key, quiet) for key in reversed(keys)][::-1]
    assert {row["kind"] for own in rows for row in own} >= {"resid_post", "mlp_act"}
    findings = STUDY.findings([row for own in rows for row in own])
    assert any("lexical" in remark for remark in findings.remarks)
    assert {table.name for table in findings.tables} == {"scores", "explanations"}
    assert STUDY.findings([]).claims == ()
