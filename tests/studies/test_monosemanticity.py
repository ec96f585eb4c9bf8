"""Inputs are what they are said to be, activations are the unit's, and claims follow from the rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.progress import silent
from knowscope_tui.core.studies import Row, StudyOptions, Verdict
from knowscope_tui.core.units import Unit
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.studies.monosemanticity import NO_SHARE, RELATED, SET, SHARES, STUDY
from knowscope_tui.studies.study import Subject
from tests.tiny import activations


@pytest.fixture
def subject(lm: LanguageModel, library: Library, facts: list[Fact], tmp_path: Path) -> Subject:
    told = [replace(fact, edit_prompts=(f"Some say that {fact.prompt}",)) for fact in facts]
    return Subject(lm, library, tuple(told), (), StudyOptions(), tmp_path)


def test_sets_hold_as_many_related_inputs_as_they_say(subject: Subject) -> None:
    key = STUDY.keys(subject)[0]
    rows = STUDY.prepare(subject, silent)(key, silent)
    assert rows == STUDY.prepare(subject, silent)(key, silent)
    for family in ("features", "neurons"):
        for share in SHARES:
            own = [row for row in rows if row["family"] == family and row["share"] == share]
            assert len(own) == SET
            assert sum(row["group"] == RELATED for row in own) == share * SET // 100
    assert {row["group"] for row in rows if row["share"] == NO_SHARE} <= {"same subject", "same relation"}
    assert max(abs(float(str(row["activation"]))) for row in rows) <= 1.0


def test_activations_are_the_units_at_the_last_token(subject: Subject) -> None:
    fact = subject.facts[1]
    rows = STUDY.prepare(subject, silent)(STUDY.keys(subject)[1], silent)
    prompts = {int(str(row["input"])) for row in rows if row["group"] == RELATED}
    for family in ("features", "neurons"):
        own = [row for row in rows if row["family"] == family]
        unit = Unit.parse(str(own[0]["unit"]))
        told = []
        for text in (*fact.edit_prompts, *fact.paraphrases):
            h = activations(subject.lm, subject.lm.ask(text, fact.answer), [unit.site])[unit.site]
            last = h[subject.lm.ask(text, fact.answer).last]
            told.append(
                float(
                    last[unit.index] if family == "neurons" else subject.library.at(unit.site).encode(last)[unit.index]
                )
            )
        found = {row["input"]: float(str(row["activation"])) for row in own if row["group"] == RELATED}
        values = [found[number] for number in sorted(prompts)]
        # Scale and sign are the unit's: ratios between inputs stay.
        assert values[0] * told[1] == pytest.approx(values[1] * told[0], abs=1e-4)


def test_a_fact_without_other_phrasings_is_no_item(subject: Subject) -> None:
    bare = replace(subject.facts[0], edit_prompts=(), paraphrases=())
    assert len(STUDY.keys(replace(subject, facts=(bare, *subject.facts[1:])))) == len(subject.facts) - 1


def _rows(features: float, neurons: float) -> list[Row]:
    """Twelve facts whose related inputs lie so far above the others."""
    rows: list[Row] = []
    for fact in range(12):
        for family, gap in (("features", features), ("neurons", neurons)):
            for number in range(2 * SET):
                related = number < SET
                noise = ((number * 7 + fact * 3) % 11) / 11
                rows.append(
                    {
                        "key": str(fact), "fact": "", "unit": "1.resid_post.f3", "family": family, "share": 50,
                        "group": RELATED if related else "unrelated", "input": number,
                        "activation": noise + gap * related,
                    }
                )  # fmt: skip
    return rows


def test_claims_follow_from_the_rows() -> None:
    apart = STUDY.findings(_rows(3.0, 0.1)).claims
    assert [claim.verdict for claim in apart] == [Verdict.HOLDS] * 3
    mixed = STUDY.findings(_rows(0.0, 3.0)).claims
    assert [claim.verdict for claim in mixed] == [Verdict.DOES_NOT] * 3
    twice = [*_rows(3.0, 0.1), *_rows(3.0, 0.1)]
    assert STUDY.findings(twice).claims == apart, "an input that is in several sets counts once"


def test_no_rows_say_nothing() -> None:
    assert STUDY.findings([]).claims == ()
