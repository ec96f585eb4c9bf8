"""JSON for scripts: strict, nothing rounded, and the keys that the documentation promises."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from knowscope_tui.core.as_json import (
    cached_json,
    effect_json,
    entry_json,
    memory_json,
    pulled_json,
    reading_json,
    release_json,
    self_test_json,
)
from knowscope_tui.core.checks import DictionaryCheck, SelfTest
from knowscope_tui.core.dictionaries import CachedDictionary, Entry, EntryState, Pulled, Release, ReleaseState
from knowscope_tui.core.edit_json import report_json, scores_json, verify_json
from knowscope_tui.core.edits import EditPlan, EditSpec, ParameterChange
from knowscope_tui.core.fact_names import FactNames
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.memory import MemoryPlan, Need, Place
from knowscope_tui.core.proof import EditReport, FactOutcome, Figure, Proof, Scores, VerifyReport
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
    figure = Figure(value, 3, value, value)
    return Scores(figure, figure, figure, figure, value, value, value, {"unrelated": figure})


def report(value: float) -> EditReport:
    change = ParameterChange("model.layers.0.mlp.down_proj.weight", 0, (2, 3), 4, 4)
    plan = EditPlan(EditSpec((FACT,)), 0.1, (UNIT,), (change,))
    outcome = FactOutcome(FACT, True, True, value, value, "Lyon", 1, 2)
    return EditReport(plan, Proof(scores(value), scores(None), (outcome,), 3), applied=True)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_spell_becomes_null(value: float) -> None:
    assert strict(reading_json(reading(value)))["units"][0]["delta_prob"] is None
    assert strict(scores_json(scores(value)))["reliability"]["value"] is None
    assert strict(report_json(report(value), FactNames()))["facts"][0]["p_after"] is None
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
    keys = {"method", "units", "positions", "parameters", "before", "after", "facts", "checkpoint"}
    edited = report(0.5)
    verified = VerifyReport("x", "rows", ("u",), edited.plan.parameters, edited.proof, (), ())
    for content in (strict(report_json(edited, FactNames())), strict(verify_json(verified, FactNames()))):
        assert content.keys() >= keys
        assert content["positions"] == 4
        assert content["after"].keys() >= {"reliability", "generalization", "locality", "delta_ppl"}
    assert strict(verify_json(verified, FactNames()))["intact"] is True


def test_nothing_was_lost_where_there_was_nothing_to_lose() -> None:
    assert drop(0.0, 0.0) == 0.0
    assert drop(0.0, 0.5) == 0.0
    assert drop(0.5, 0.0) == 1.0


def test_a_self_test_is_strict_and_says_whether_it_is_passed() -> None:
    check = DictionaryCheck(UNIT.site, "r id", 512, "bfloat16", math.nan, None, -math.inf, "It is wrong.")
    content = strict(self_test_json(SelfTest(math.nan, 12, (check,), ("The model is wrong.",))))
    assert (content["passed"], content["parity"], content["problems"]) == (False, None, ["The model is wrong."])
    assert content["dictionaries"] == [
        {
            "site": "4.resid_post",
            "source": "r id",
            "features": 512,
            "dtype": "bfloat16",
            "l0": None,
            "expected_l0": None,
            "explained": None,
            "problem": "It is wrong.",
        }
    ]
    assert strict(self_test_json(SelfTest(0.0, 12, ())))["passed"] is True


def test_a_plan_names_places_and_whether_it_fits() -> None:
    plan = MemoryPlan("cpu", (Need("model", Place.HOST, 5),), {Place.HOST: 9, Place.DISK: 3}, 2, 0)
    content = strict(memory_json(plan))
    assert content["needs"] == [{"what": "model", "place": "host", "bytes": 5}]
    assert content["free"] == {"host": 9, "disk": 3}
    assert (content["fits"], content["problem"]) == (True, None)


def test_releases_and_dictionaries_have_the_promised_keys() -> None:
    entry = Entry("r", "id", "owner/repo", "path", UNIT.site, 16384, 71.0)
    placeless = Entry("r", "other", "owner/repo", "path", None)
    release = Release("r", "owner/repo", "m", (entry, placeless))
    content = strict(release_json(ReleaseState(release, 1, None, 0, 0, 0)))
    assert (content["sites"], content["layers"], content["widths"]) == (["resid_post"], [4], [16384])
    assert (content["dictionaries"], content["usual_bytes"], content["why_not"]) == (2, None, None)
    assert strict(entry_json(EntryState(entry, 9, True, 0)))["site"] == "4.resid_post"
    assert strict(entry_json(EntryState(placeless, None, False, 0)))["site"] is None
    assert strict(pulled_json(Pulled("r", 1, 2, 3))) == {"release": "r", "made": 1, "present": 2, "bytes": 3}
    cached = CachedDictionary("/f", "r id", UNIT.site, 16384, "bfloat16", 9, 1.5)
    assert strict(cached_json(cached)) == {
        "name": "r id",
        "file": "/f",
        "site": "4.resid_post",
        "width": 16384,
        "dtype": "bfloat16",
        "bytes": 9,
        "used": 1.5,
        "problem": None,
    }
