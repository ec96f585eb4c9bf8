"""JSON for scripts: strict, nothing rounded, and the keys that the documentation promises."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from knowscope_tui.core.as_json import effect_json, reading_json, report_json, scores_json, verify_json
from knowscope_tui.core.edits import EditPlan, EditReport, EditSpec, FactOutcome, ParameterChange, Scores, VerifyReport
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.readings import Ablation, Effect, Mode, Rank, Reading, SiteReading, TokenProb, UnitReading
from knowscope_tui.core.readings import relative_drop as drop
from knowscope_tui.core.units import Family, Site, SiteKind, Unit

UNIT = Unit.feature(4, SiteKind.RESID_POST, 17)
FACT = Fact("The capital of France is", "Paris", "capital/france")


def strict(content: Any) -> Any:
    """`content` through JSON as its specification has it: no NaN, no Infinity."""
    return json.loads(json.dumps(content, allow_nan=False))


def reading(value: float) -> Reading:
    row = UnitReading(UNIT, 5, value, value, value)
    site = SiteReading(UNIT.site, Family.FEATURE, 1, value, value)
    top = (TokenProb(" Paris", value),)
    return Reading("p", "a", ("<bos>", " p"), 1, value, 1, True, top, (row,), (site,), Rank.ATTRIBUTION)


def scores(value: float | None) -> Scores:
    rings = {} if value is None else {"unrelated": value}
    return Scores(value, value, value, value, value, value, value, rings)


def report(value: float) -> EditReport:
    change = ParameterChange("model.layers.0.mlp.down_proj.weight", (2, 3), 4)
    plan = EditPlan(EditSpec((FACT,)), 0.1, (UNIT,), (change,))
    outcome = FactOutcome(FACT, True, True, value, value, "Lyon", 1, 2)
    return EditReport(plan, scores(value), scores(None), (outcome,), 3, applied=True)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_spell_becomes_null(value: float) -> None:
    assert strict(reading_json(reading(value)))["units"][0]["delta_prob"] is None
    assert strict(scores_json(scores(value)))["reliability"] is None
    assert strict(report_json(report(value)))["facts"][0]["p_after"] is None
    effect = Effect("p", "a", Ablation((UNIT,), Mode.SCALE, value), value, value, 1, 2, (), ())
    assert strict(effect_json(effect))["p_before"] is None


def test_numbers_are_not_rounded() -> None:
    value = 0.1 + 0.2
    assert strict(reading_json(reading(value)))["p_answer"] == value


def test_a_reading_has_the_promised_keys() -> None:
    content = strict(reading_json(reading(0.5)))
    assert content.keys() >= {"prompt", "answer", "tokens", "p_answer", "rank", "top_tokens", "units"}
    assert content["top_tokens"] == [{"token": " Paris", "p": 0.5}]
    assert content["units"][0].keys() >= {"unit", "position", "activation", "attribution", "delta_prob"}
    assert content["units"][0]["unit"] == "4.resid_post.f17"
    assert content["sites"][0]["site"] == str(Site(4, SiteKind.RESID_POST))


def test_an_effect_has_the_promised_keys_and_the_relative_drop() -> None:
    content = strict(effect_json(Effect("p", "a", Ablation((UNIT,)), 0.8, 0.2, 1, 5, (), ())))
    assert content.keys() >= {"p_before", "p_after", "delta_prob", "top_before", "top_after"}
    assert content["delta_prob"] == drop(0.8, 0.2)
    assert content["delta_prob"] == pytest.approx(0.75)
    assert content["ablation"]["units"] == ["4.resid_post.f17"]


def test_edit_and_verify_have_the_promised_keys() -> None:
    keys = {"method", "units", "positions_zeroed", "parameters", "before", "after", "facts", "checkpoint"}
    edited = report(0.5)
    verified = VerifyReport("x", "rows", ("u",), edited.plan.parameters, edited.before, edited.after, (), 3, ())
    for content in (strict(report_json(edited)), strict(verify_json(verified))):
        assert content.keys() >= keys
        assert content["positions_zeroed"] == 4
        assert content["after"].keys() >= {"reliability", "generalization", "locality", "delta_ppl"}
    assert strict(verify_json(verified))["intact"] is True


def test_nothing_was_lost_where_there_was_nothing_to_lose() -> None:
    assert drop(0.0, 0.0) == 0.0
    assert drop(0.0, 0.5) == 0.0
    assert drop(0.5, 0.0) == 1.0
