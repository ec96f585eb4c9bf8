"""The smallest set: switched off as it is found, said in a sentence, and put back when it is stopped."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from knowscope_tui.core.readings import Ablation, Mode, Positions, UnitEffect, UnitSet
from knowscope_tui.core.units import Family, Unit
from knowscope_tui.session.protocol import Ablate, FindSet, SetFound
from knowscope_tui.tui.widgets.answer import AnswerPanel
from knowscope_tui.tui.words import set_found
from tests.tui.stand_in import StandIn


class Paced(StandIn):
    """A search takes a step for each permit; all else is answered at once."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.steps = threading.Semaphore(0)

    def _find(self, request: Any, post: Any, check: Any) -> None:
        self.pace = self.steps
        try:
            super()._find(request, post, check)
        finally:
            self.pace = None


async def step(it: Any, number: int = 1) -> None:
    """Lets the search take `number` steps and waits until the switches follow."""
    off = len(it.scope.search.step.units) if it.scope.search.step is not None else 0
    it.session.steps.release(number)
    await it.until(lambda: it.scope.search.step and len(it.scope.search.step.units) == off + number, "a step")


async def test_it_ends_with_exactly_the_found_units_off_and_says_what_they_do(drive: Any) -> None:
    async with drive() as it:
        await it.press("b")
        (search,) = it.asked(FindSet)
        reading = it.scope.reading
        assert (search.prompt, search.answer, search.position) == (reading.prompt, reading.answer, reading.position)
        number = len(it.scope.off)
        assert number >= 2
        assert {unit.family for unit in it.scope.off} == {Family.FEATURE}
        assert it.asked(Ablate)[-1].ablation == Ablation(it.scope.off)
        assert it.scope.effect.ablation == Ablation(it.scope.off)
        assert it.scope.effect.p_after <= 0.05
        (said,) = it.notifications()
        assert said == f"{number} features bring P(Paris) from 0.981 to {it.scope.effect.p_after:.3f}."
        assert f"Switched off: {number}" in it.text("#effect")
        assert "generates:" in it.text("#effect")
        assert "● ready" in it.screen()


async def test_each_step_switches_off_live_and_the_panels_follow(drive: Any) -> None:
    session = Paced()
    async with drive(session=session) as it:
        await it.pilot.press("b")
        await it.until(lambda: it.asked(FindSet), "the search")
        assert "Looking for the smallest set" in it.text("#top")
        assert it.scope.off == ()
        shown = []
        for number in (1, 2):
            await step(it)
            assert len(it.scope.off) == number
            p = it.scope.search.step.p_after
            assert f"P(Paris) {p:.3f}" in it.text("#top")
            assert f"Switched off: {number}" in it.text("#effect")
            assert f"0.981 → {p:.3f}" in it.text("#effect")
            assert it.app.main.query_one(AnswerPanel)._view.p_now == p
            await it.until(lambda number=number: it.screen().count("■ off") == number, "the marks")
            shown.append(p)
        assert shown[1] < shown[0]
        assert not any(ablate.ablation.units for ablate in it.asked(Ablate))
        assert "escape puts the switches back" in it.text("#effect")


@pytest.mark.parametrize("key", ["escape", "b"])
async def test_stopping_puts_the_switches_back_as_they_were(drive: Any, key: str) -> None:
    session = Paced()
    async with drive(session=session) as it:
        await it.press("down", "space", "m", "p")
        before, effect = it.scope.switches, it.scope.effect
        await it.pilot.press("b")
        await step(it, 2)
        assert it.scope.switches.mode == "zero"
        assert it.scope.switches.positions is Positions.LAST
        await it.press(key)
        assert it.scope.switches == before
        assert it.scope.effect == effect
        assert it.asked(Ablate)[-1].ablation.mode is Mode.MEAN
        assert f"P(Paris) {effect.p_after:.3f}" in it.text("#top")
        assert "mean at all tokens" in it.text("#effect")
        if key == "escape":
            assert it.notifications() == ["The search is stopped; the switches are as they were."]
        session.steps.release(50)
        await it.idle()
        assert it.scope.switches == before


async def test_a_toggle_takes_over_from_a_search(drive: Any) -> None:
    session = Paced()
    async with drive(session=session) as it:
        await it.pilot.press("b")
        await step(it)
        (found,) = it.scope.off
        unit = next(unit for unit in it.units if unit != found)
        while it.table.unit != unit:
            await it.pilot.press("down")
        await it.press("space")
        assert it.scope.off == (found, unit)
        assert it.scope.effect.ablation.units == (found, unit)
        session.steps.release(50)
        await it.idle()
        assert it.scope.off == (found, unit)


@pytest.mark.parametrize("keys", [("left",), ("i", "ctrl+u", "=Tobin Marsh was born in", "enter")])
async def test_another_reading_ends_a_search(drive: Any, keys: tuple[str, ...]) -> None:
    session = Paced()
    async with drive(session=session) as it:
        await it.pilot.press("b")
        await step(it)
        (stale,) = it.asked(FindSet)
        await it.press(*keys)
        assert it.scope.off == ()
        assert not it.scope.search.running
        found = UnitSet("", "", 0.05, 1.0, 0.0, (), (it.units[0],))
        it.app.desk.take(SetFound(stale.revision, found, final=True))
        assert it.scope.off == ()
        assert it.notifications() == []


async def test_a_search_that_fails_puts_the_switches_back(drive: Any) -> None:
    class Breaking(StandIn):
        def _find(self, request: Any, post: Any, check: Any) -> None:
            unit = Unit.feature(0, self.info.dictionary_kinds[0], 1)
            effect = UnitEffect(unit, 0.5, 0.4)
            post(SetFound(request.revision, UnitSet("p", "Paris", 0.05, 0.9, 0.5, (effect,), (unit,)), final=False))
            raise RuntimeError("no luck")

    async with drive(session=Breaking()) as it:
        await it.press("space")
        before = it.scope.switches
        await it.press("b")
        assert it.scope.switches == before
        assert it.scope.effect.ablation == before.ablation
        (said,) = it.notifications()
        assert said.startswith("Unexpected: no luck. Please report this, with ")
        assert "crash-" in said


async def test_a_search_beside_measures_beside_the_found_set(drive: Any) -> None:
    async with drive() as it:
        await it.press("g", "b")
        assert it.exact.given == Ablation(it.scope.off)
        assert it.exact.ended
        assert tuple(it.units[: len(it.scope.off)]) == it.scope.off


async def test_without_a_fact_it_says_what_to_do(drive: Any) -> None:
    async with drive(session=StandIn(facts=())) as it:
        await it.press("tab", "tab")
        it.table.focus()
        await it.press("b", "r")
        assert it.notifications() == [
            "There is no fact yet. Type one and press enter.",
            "There is no fact to measure yet.",
        ]


async def test_the_command_palette_starts_it(drive: Any) -> None:
    async with drive() as it:
        titles = {command.title for command in it.app.get_system_commands(it.app.screen)}
        assert "Find the smallest set of features that brings the answer down" in titles


# --- the sentence -----------------------------------------------------------------------------------------------------


def found(p_before: float, p_after: float, units: int, answer: str = "Paris") -> UnitSet:
    made = tuple(Unit.neuron(0, index) for index in range(units))
    return UnitSet("The capital of France is", answer, 0.05, p_before, p_after, (), made)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (found(0.962, 0.02, 3), "3 features bring P(Paris) from 0.962 to 0.020."),
        (found(0.962, 0.02, 1), "1 feature brings P(Paris) from 0.962 to 0.020."),
        (found(0.962, 0.31, 20), "Even 20 features only bring P(Paris) from 0.962 to 0.310."),
        (found(0.962, 0.31, 1), "Even 1 feature only brings P(Paris) from 0.962 to 0.310."),
        (found(0.02, 0.02, 0), "Nothing needs to be switched off: P(Paris) is 0.020 already."),
        (found(0.9, 0.9, 0), "No feature here lowers P(Paris): it stays at 0.900."),
        (found(0.962, 0.0001, 2), "2 features bring P(Paris) from 0.962 to <.001."),
        (found(0.9, 0.0, 2, "[b]\x1b[2J"), "2 features bring P([b]␛[2J) from 0.900 to 0.000."),
    ],
)
def test_what_was_found_is_one_sentence(what: UnitSet, said: str) -> None:
    assert set_found(what) == said
