"""Which units a study takes, and the two studies that switch them off."""

from __future__ import annotations

from pathlib import Path

import pytest

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.readings import Ablation
from knowscope_tui.core.studies import StudyOptions
from knowscope_tui.core.units import SiteKind
from knowscope_tui.engine.ablate import measure_ablation
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.sweep import sweep
from knowscope_tui.errors import UsageError
from knowscope_tui.studies import components, ladder
from knowscope_tui.studies.selection import knowledge_neurons, watch_fact
from knowscope_tui.studies.study import Study, Subject


def quiet(_doing: str, _fraction: float | None) -> None:
    """Nobody watches."""


@pytest.fixture
def subject(lm: LanguageModel, library: Library, facts: list[Fact], tmp_path: Path) -> Subject:
    return Subject(lm, library, tuple(facts[:4]), (), StudyOptions(), tmp_path)


def test_units_are_switched_off_as_the_plain_way_does_it(subject: Subject) -> None:
    fact = subject.facts[0]
    watched = watch_fact(subject, fact)
    for kind in watched.kinds:
        units = watched.top(kind, 5)
        plain = measure_ablation(
            subject.lm, subject.library, subject.lm.ask(fact.prompt, fact.answer), Ablation(units)
        ).delta_prob
        assert watched.delta_prob(units) == pytest.approx(plain, abs=1e-4)
        assert {unit.site.layer for unit in watched.top(kind, 5, 1)} <= {1}
    assert watched.delta_prob(()) == 0.0


def test_the_rule_of_the_paper_takes_what_exceeds_a_share_of_the_largest(subject: Subject) -> None:
    watched = watch_fact(subject, subject.facts[0])
    kind = SiteKind.RESID_POST
    values = {site: active for site, active in watched.activation.items() if site.kind is kind}
    largest = max(float(active.max()) for active in values.values())
    chosen = watched.selected(kind, 0.3)
    assert chosen
    assert all(float(values[unit.site][unit.index]) > 0.3 * largest for unit in chosen)
    assert len(chosen) == sum(int((active > 0.3 * largest).sum()) for active in values.values())
    assert len(watched.selected(kind, 0.0)) == sum(int((active > 0).sum()) for active in values.values())


def test_knowledge_neurons_are_neurons_of_the_layers_asked_for(
    lm: LanguageModel, library: Library, facts: list[Fact], tmp_path: Path
) -> None:
    narrow = Subject(lm, library, tuple(facts[:1]), (), StudyOptions(layers=(1,)), tmp_path)
    found = knowledge_neurons(narrow, facts[0], 6, quiet)
    assert 0 < len(found) <= 6
    assert {(unit.site.kind, unit.site.layer) for unit in found} == {(SiteKind.MLP_ACT, 1)}


@pytest.mark.parametrize("study", [components.STUDY, ladder.STUDY], ids=lambda study: study.name.value)
def test_rows_depend_on_their_key_alone(subject: Subject, study: Study) -> None:
    keys = study.keys(subject)
    forth, back = study.prepare(subject, quiet), study.prepare(subject, quiet)
    rows = [forth(key, quiet) for key in keys]
    assert rows == [back(key, quiet) for key in reversed(keys)][::-1]
    flat = [row for own in rows for row in own]
    assert len({tuple(row) for row in flat}) == 1, "every row has the same keys"
    found = study.findings(flat)
    assert found.tables
    assert found.claims
    assert study.findings([]).claims == ()


def test_the_first_rung_by_exact_effect_is_the_best_single_unit(subject: Subject) -> None:
    measure = ladder.STUDY.prepare(subject, quiet)
    key = ladder.STUDY.keys(subject)[0]
    rows = [row for row in measure(key, quiet) if row["ranked_by"] == ladder.EXACT and row["units"] == ladder.FEATURES]
    watched = watch_fact(subject, subject.facts[0], (SiteKind.RESID_POST,))
    every = watched.selected(SiteKind.RESID_POST, 0.0)
    least = min(sweep(subject.lm, subject.library, watched.trace, every))
    assert rows[0]["delta_prob"] == pytest.approx(1 - least / watched.p_answer, abs=1e-4)
    assert [row["step"] for row in rows] == list(ladder.STEPS)


def test_a_ladder_needs_its_features(lm: LanguageModel, facts: list[Fact], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs resid_post features"):
        ladder.STUDY.prepare(Subject(lm, Library(), tuple(facts), (), StudyOptions(), tmp_path), quiet)


def test_what_is_claimed_follows_from_the_rows() -> None:
    def row(kind: str, fact: int, delta_prob: float) -> dict[str, object]:
        told = {"fact": str(fact), "kind": kind, "rule": components.BY_COUNT, "layer": components.ALL_LAYERS}
        return {**told, "units": 10, "chosen": 10, "strongest": "", "p_answer": 0.9, "delta_prob": delta_prob}

    rows = [row(kind, fact, value + fact / 1000) for fact in range(20) for kind, value in
            (("resid_post", 0.9), ("mlp_out", 0.5), ("attn_z", 0.5), ("mlp_act", 0.1))]  # fmt: skip
    verdicts = [claim.verdict.value for claim in components.STUDY.findings(rows).claims]  # type: ignore[arg-type]
    assert verdicts == ["holds", "holds", "does not hold", "holds", "holds", "holds"]
