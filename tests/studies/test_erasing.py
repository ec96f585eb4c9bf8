"""Edits are measured as an edit is, leave no bit behind, and equal locality means what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from knowscope_tui.core.edits import EditSpec, Method
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.kept import Kept
from knowscope_tui.core.progress import silent
from knowscope_tui.core.studies import Row, StudyOptions, Verdict
from knowscope_tui.core.units import SiteKind
from knowscope_tui.engine.deltas.change import made
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.methods.plan import plan_edit
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.proof import evaluate
from knowscope_tui.studies.erasing import STUDY, known
from knowscope_tui.studies.erasing.edits import OWN, one_fact
from knowscope_tui.studies.erasing.findings import findings, strongest_within
from knowscope_tui.studies.erasing.judging import Judge
from knowscope_tui.studies.erasing.known import FOLDER, Ground, erased_facts, private_facts
from knowscope_tui.studies.study import Subject
from tests.tiny import bits

TEXTS = ("The train was late.", "They painted the old door green.", "It rains in the valley.", "Bread is cheap.")


@pytest.fixture
def subject(lm: LanguageModel, library: Library, facts: list[Fact], tmp_path: Path) -> Subject:
    return Subject(lm, library, tuple(facts), TEXTS, StudyOptions(limit=2), tmp_path)


@pytest.fixture
def ground(lm: LanguageModel, facts: list[Fact]) -> Ground:
    return Ground(lm, Kept(tuple(facts[3:6]), tuple(facts[6:])), TEXTS[:2], TEXTS[2:])


@pytest.mark.parametrize("method", [Method.POSITIONS, Method.NEURONS])
def test_a_row_says_what_a_proof_says(subject: Subject, ground: Ground, method: Method) -> None:
    lm, fact = subject.lm, subject.facts[0]
    before = bits(lm.model)
    edit = next(one_fact(subject, ground, method, fact))
    assert edit.setting == OWN
    (row,) = Judge(ground, [fact]).rows(edit)
    assert bits(lm.model) == before
    planned = plan_edit(lm, subject.library, EditSpec((fact,), method, SiteKind.RESID_POST))
    assert row["positions"] == sum(change.positions for change in planned.changes)
    taken = evaluate.take(lm, [fact], ground.kept.held, ground.judging_texts)
    with made(lm.model, planned.changes):
        scores = evaluate.scores(taken, evaluate.take(lm, [fact], ground.kept.held, ground.judging_texts))
    assert row["erased"] == scores.reliability.value
    assert scores.generalization.value is not None
    assert row["paraphrases_erased"] == pytest.approx(scores.generalization.value * int(str(row["paraphrases"])))
    rings = {ring: figure.value for ring, figure in scores.rings.items()}
    for ring, value in rings.items():
        assert int(str(row[f"{ring}, kept"])) / int(str(row[f"{ring}, asked"])) == value
    assert row["delta_ppl"] == pytest.approx(scores.delta_ppl.value, abs=1e-6)


def test_the_subject_stays_untouched_and_the_injected_model_is_found_again(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "STEPS", 2)
    before = bits(subject.lm.model)
    made = known.ground(subject, silent)
    assert bits(subject.lm.model) == before
    assert bits(made.lm.model) != before

    def refuse(*_args: object) -> None:
        raise AssertionError("it was there")

    monkeypatch.setattr(known, "_inject", refuse)
    assert bits(known.ground(subject, silent).lm.model) == bits(made.lm.model)
    text = (subject.cache / FOLDER / "knowscope_injection.json").read_text()
    assert private_facts(subject)[0].subject not in text


def test_what_is_erased_has_siblings_that_stay_and_the_same_seed_gives_the_same(subject: Subject) -> None:
    erased = erased_facts(subject)
    others = [fact for fact in private_facts(subject) if fact not in erased]
    assert len(erased) == 2
    assert all(any(other.subject == fact.subject for other in others) for fact in erased)
    assert private_facts(subject) == private_facts(subject)
    other = replace(subject, options=StudyOptions(limit=2, seed=1))
    assert private_facts(other) != private_facts(subject)
    prompts = [prompt for fact in private_facts(subject) for prompt in (fact.prompt, *fact.edit_prompts)]
    assert not set(prompts) & {prompt for fact in private_facts(subject) for prompt in fact.paraphrases}


def _row(method: str, setting: str, strength: float, fact: int, gen: int, kept: int) -> Row:
    rings = {f"{ring}, {word}": count for ring in ("same subject", "same relation", "unrelated")
             for word, count in (("asked", 10), ("kept", kept))}  # fmt: skip
    return {
        "method": method, "setting": setting, "strength": strength, "together": False, "fact": f"f{fact}",
        "positions": 10, "known": 1, "erased": int(gen > 2), "paraphrases": 5, "paraphrases_erased": gen,
        "p_before": 0.9, "p_after": 0.1, **rings, "delta_ppl": 0.01 * (10 - kept) + 0.001 * fact,
    }  # fmt: skip


def _rows() -> list[Row]:
    rows = []
    for fact in range(12):
        rows += [
            _row("positions", "own", 0.07, fact, 4, 10),
            _row("positions", "τ2 0.02", 0.02, fact, 5, 4),
            _row("neurons", "own", 10, fact, 0, 10),
            _row("neurons", "30 neurons", 30, fact, 1 if fact % 4 == 0 else 0, 10),
            _row("neurons", "300 neurons", 300, fact, 5, 2),
        ]
    return rows


def test_at_equal_locality_stands_the_rung_that_erases_most_of_those_that_keep_it() -> None:
    rows = _rows()
    assert {row["setting"] for row in strongest_within(rows, "positions", 0.95)} == {"own"}
    assert {row["setting"] for row in strongest_within(rows, "neurons", 0.95)} == {"30 neurons"}
    assert {row["setting"] for row in strongest_within(rows, "neurons", 0.2)} == {"300 neurons"}
    assert strongest_within(rows, "neurons", 1.1) == []


def test_claims_follow_from_the_rows() -> None:
    claims = {claim.text.split(":")[0].split(" of ")[0]: claim for claim in findings(_rows()).claims}
    assert claims["Rel"].verdict is Verdict.HOLDS
    assert claims["Gen"].verdict is Verdict.HOLDS
    assert claims["Loc"].verdict is Verdict.DOES_NOT
    last = findings(_rows()).claims[-1]
    assert last.ours.value == pytest.approx(0.8 - 2 * 3 * 0.2 / 12)
    assert last.verdict is Verdict.HOLDS


def test_facts_that_were_not_learned_count_nowhere() -> None:
    rows = _rows()
    unknown = [{**row, "fact": "lost", "known": 0, "paraphrases": 0, "paraphrases_erased": 0} for row in rows[:5]]
    with_them = findings([*rows, *unknown])
    assert with_them.claims == findings(rows).claims
    assert any("had not been learned" in remark for remark in with_them.remarks)


def test_items_name_every_fact_and_the_whole(subject: Subject) -> None:
    keys = STUDY.keys(subject)
    assert len(set(keys)) == len(keys)
    assert "positions:000" in keys
    assert "precise:all" in keys
