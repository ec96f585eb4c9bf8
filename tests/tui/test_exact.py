"""Exact values while they come in: the order they bring, what they give way to, and beside what they are measured."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from knowscope_tui.core.readings import Ablation, SweepPart, UnitEffect
from knowscope_tui.core.units import Family
from knowscope_tui.session.protocol import Ablate, Failed, Probe, SweepUnits, Swept
from knowscope_tui.tui.app import KnowscopeApp
from knowscope_tui.tui.listing import BETWEEN_REDRAWS
from tests.tui.stand_in import UNLISTED, StandIn, delta_beside, delta_prob


class Picky(StandIn):
    """A session that cannot read one fact."""

    def handle(self, request: Any, post: Any, check: Any) -> None:
        if isinstance(request, Probe) and "unreadable" in request.prompt:
            raise ValueError("unreadable")
        super().handle(request, post, check)


def paced(**settings: Any) -> StandIn:
    """A session whose sweeps go on by one part for each permit."""
    return StandIn(pace=threading.Semaphore(0), **settings)


async def parts(it: Any, number: int) -> None:
    """Lets the sweep go on by `number` parts, and waits until they are drawn."""
    known = it.exact.measured
    it.session.pace.release(number)
    await it.until(lambda: it.exact.measured >= known + number * it.session.part or it.exact.ended, "parts")
    await it.until(lambda: it.app.main._panels.units._redraw is None, "the redraw")


def values(it: Any) -> list[Any]:
    """What the column ΔProb holds, from the top."""
    return [it.table._delta.values.get(unit) for unit in it.units]


# --- coming in --------------------------------------------------------------------------------------------------------


async def test_the_gradient_ranking_stands_at_once_and_exact_values_replace_it(drive: Any) -> None:
    async with drive(session=paced(part=40), settle=False) as it:
        await it.until(lambda: it.asked(SweepUnits), "the sweep")
        assert it.exact.measured == 0
        attributions = [row.attribution for row in it.table._rows]
        assert attributions == sorted(attributions, reverse=True)
        assert "…" in it.text("#units")
        assert "● ready" in it.screen()
        await parts(it, 1)
        known = [value for value in values(it) if value is not None]
        assert known == sorted(known, reverse=True)
        assert len(known) == 40
        assert values(it)[:40] == known
        rest = [row.attribution for row in it.table._rows[40:]]
        assert rest == sorted(rest, reverse=True)
        assert "40 of 144 features exact" in it.title
        await parts(it, 3)
        assert "exact: " in it.title
        assert " features, " in it.title
        it.session.pace.release(10)
        await it.until(lambda: it.exact.ended, "the end")
        await it.idle()
        assert it.title == "Units · all 182 exact"
        assert None not in values(it)
        assert values(it) == sorted(values(it), reverse=True)


async def test_a_unit_that_the_reading_does_not_list_appears_if_it_matters(drive: Any) -> None:
    strong, weak = UNLISTED
    async with drive() as it:
        assert strong in it.units
        assert weak not in it.units
        assert weak in it.exact.deltas
        await it.press("slash", f"={strong}", "enter")
        assert it.units == [strong]
        line = next(line for line in it.text("#units").split("\n") if str(strong) in line)
        assert line.count("–") == 2
        assert "0.44" in line
        await it.press("space")
        assert it.scope.off == (strong,)


async def test_the_cursor_stays_on_its_unit_and_the_table_does_not_scroll(drive: Any) -> None:
    async with drive(session=paced(part=20), settle=False) as it:
        await it.until(lambda: it.asked(SweepUnits), "the sweep")
        first = it.units[0]
        await parts(it, 1)
        assert it.table._cursor == 0
        await it.pilot.press("down", "down")
        unit = it.table.unit
        assert unit != first
        it.table.scroll_to(y=10, animate=False)
        for _ in range(4):
            await parts(it, 1)
            assert it.table.unit == unit
            assert it.table.scroll_offset.y == 10
        await it.pilot.press("space")
        await it.until(lambda: it.scope.off == (unit,), "the toggle")
        assert 0 <= it.table._cursor - it.table.scroll_offset.y < it.table.size.height


async def test_a_toggled_unit_is_held_while_the_table_settles(drive: Any) -> None:
    async with drive(session=paced(part=20), settle=False) as it:
        await it.until(lambda: it.scope.effect is not None and it.scope.effect.continuation_after, "the first effect")
        unit = it.table.unit
        await it.pilot.press("space")
        await it.until(lambda: it.scope.off == (unit,), "the toggle")
        await parts(it, 3)
        await it.pilot.press("space")
        await it.until(lambda: it.scope.off == (), "the toggle back")


async def test_redraws_are_few_while_parts_are_many(drive: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with drive(session=paced(part=1), settle=False) as it:
        await it.until(lambda: it.asked(SweepUnits), "the sweep")
        drawn: list[int] = []
        show = it.table.show

        def counted(*rows: Any, **how: Any) -> None:
            drawn.append(len(rows))
            show(*rows, **how)

        monkeypatch.setattr(it.table, "show", counted)
        loop = it.app._loop
        started = loop.time()
        it.session.pace.release(1000)
        await it.until(lambda: it.exact.ended, "the end")
        assert len(it.exact.deltas) == 182
        assert len(drawn) <= (loop.time() - started) / BETWEEN_REDRAWS + 3


# --- giving way -------------------------------------------------------------------------------------------------------


async def test_a_sweep_gives_way_to_a_toggle_and_goes_on_by_itself(drive: Any) -> None:
    async with drive(session=paced(), settle=False) as it:
        await it.until(lambda: it.asked(SweepUnits), "the sweep")
        await parts(it, 1)
        await it.pilot.press("space")
        await it.until(lambda: it.scope.effect.ablation.units, "the toggled effect, while the sweep has no permit")
        await it.until(lambda: len(it.asked(SweepUnits)) == 2, "the sweep again")
        one, other = it.asked(SweepUnits)
        assert (one.prompt, one.answer, one.position, one.given) == (
            other.prompt,
            other.answer,
            other.position,
            other.given,
        )
        assert it.exact.measured == 60
        it.session.pace.release(10)
        await it.until(lambda: it.exact.whole, "all of it")


@pytest.mark.parametrize("keys", [("left",), ("i", "ctrl+u", "=Tobin Marsh was born in", "enter")])
async def test_a_new_position_or_prompt_cancels_it_and_what_still_comes_is_dropped(
    drive: Any, keys: tuple[str, ...]
) -> None:
    async with drive(session=paced(), settle=False) as it:
        await it.until(lambda: it.asked(SweepUnits), "the sweep")
        await parts(it, 1)
        (stale,) = it.asked(SweepUnits)
        for key in keys[:-1]:
            if key.startswith("="):
                await it.pilot.press(*key[1:])
            else:
                await it.pilot.press(key)
        await it.pilot.press(keys[-1])
        await it.until(lambda: len(it.asked(SweepUnits)) == 2, "the sweep of the other reading")
        assert it.exact.measured == 0
        effect = UnitEffect(UNLISTED[0], 0.0, 1.0)
        it.app.desk.take(Swept(stale.revision, SweepPart(Ablation(), 0.9, (effect,), 1, 1)))
        await it.pilot.pause()
        assert it.exact.measured == 0
        assert UNLISTED[0] not in it.units


async def test_nothing_is_heard_of_a_sweep_from_the_moment_another_fact_is_asked(drive: Any) -> None:
    async with drive(session=paced(), settle=False) as it:
        await it.until(lambda: it.asked(SweepUnits), "the sweep")
        (stale,) = it.asked(SweepUnits)
        it.scope.look("Tobin Marsh was born in")
        it.app.desk.take(Failed(stale.revision, "Too late.", "", stale))
        await it.until(lambda: it.scope.reading.answer == "Tarnby", "the other reading")
        assert it.notifications() == []
        assert it.scope.sweeper.wanted


async def test_a_prompt_that_cannot_be_read_leaves_the_sweep_of_what_is_in_view(drive: Any) -> None:
    async with drive(session=Picky(pace=threading.Semaphore(0)), settle=False) as it:
        await it.until(lambda: it.asked(SweepUnits), "the sweep")
        await parts(it, 1)
        await it.pilot.press("i", "ctrl+u", *"unreadable", "enter")
        await it.until(it.notifications, "what went wrong")
        it.session.pace.release(10)
        await it.until(lambda: it.exact.whole, "all of it")


async def test_escape_stops_and_r_goes_on(drive: Any) -> None:
    async with drive(session=paced(), settle=False) as it:
        await it.until(lambda: it.asked(SweepUnits), "the sweep")
        await parts(it, 1)
        await it.press("escape")
        assert it.title == "Units · stopped: 60 of 182 exact, r goes on"
        assert it.notifications() == ["Measuring is stopped; r goes on."]
        assert "…" not in it.text("#units")
        await it.press("space")
        assert len(it.asked(SweepUnits)) == 1
        it.session.pace.release(10)
        await it.press("r")
        assert it.exact.whole
        assert "all 182 exact" in it.title
        await it.press("r")
        assert it.notifications()[-1] == "Every active unit is measured already."
        await it.press("left")
        assert it.exact.whole


async def test_r_stops_too_and_escape_lifts_a_filter_before_it_stops(drive: Any) -> None:
    async with drive(session=paced(), settle=False) as it:
        await it.until(lambda: it.asked(SweepUnits), "the sweep")
        await it.pilot.press("tab", "shift+tab")
        heat = it.app.main.query_one("#heat")
        heat.focus()
        await it.pilot.press("enter", "escape")
        assert heat.picked is not None
        await it.pilot.press("escape")
        assert heat.picked is None
        assert it.scope.sweeper.wanted
        await it.pilot.press("slash", "escape")
        assert it.scope.sweeper.wanted
        await it.pilot.press("r")
        await it.until(lambda: not it.scope.sweeper.wanted, "the stop")


async def test_the_self_test_waits_for_the_sweep(drive: Any) -> None:
    from knowscope_tui.session.protocol import RunSelfTest

    async with drive(session=paced(), settle=False) as it:
        await it.until(lambda: it.asked(SweepUnits), "the sweep")
        await parts(it, 1)
        assert not it.asked(RunSelfTest)
        it.session.pace.release(10)
        await it.until(lambda: it.asked(RunSelfTest), "the self-test")
        assert it.exact.whole


# --- when it goes wrong -----------------------------------------------------------------------------------------------


async def test_a_sweep_that_fails_keeps_what_it_found_and_says_why(drive: Any) -> None:
    class Breaking(StandIn):
        broken = True

        def handle(self, request: Any, post: Any, check: Any) -> None:
            if not (isinstance(request, SweepUnits) and self.broken):
                return super().handle(request, post, check)
            self.requests.append(request)
            effect = UnitEffect(UNLISTED[0], 0.1, 0.44)
            post(Swept(request.revision, SweepPart(request.given, 0.9, (effect,), 1, 182)))
            raise RuntimeError("[red]out of luck[/red]")

    session = Breaking()
    async with drive(session=session) as it:
        (said,) = it.notifications()
        assert said.startswith("Unexpected: [red]out of luck[/red]. Please report this, with ")
        assert "crash-" in said
        assert it.title == "Units · stopped: 1 of 182 exact, r goes on"
        assert it.units[0] == UNLISTED[0]
        await it.press("space")
        assert len(it.asked(SweepUnits)) == 1
        session.broken = False
        await it.press("r")
        assert it.exact.whole


async def test_time_for_neurons_that_is_over_is_said_and_r_measures_more(drive: Any) -> None:
    class Hasty(StandIn):
        def handle(self, request: Any, post: Any, check: Any) -> None:
            if not isinstance(request, SweepUnits):
                return super().handle(request, post, check)

            def some(event: Any) -> None:
                if isinstance(event, Swept) and event.part.measured > 160:
                    event = Swept(event.revision, SweepPart(event.part.given, 0.9, (), 120, 239_860))
                elif isinstance(event, Swept):
                    event = Swept(
                        event.revision,
                        SweepPart(event.part.given, 0.9, event.part.effects, event.part.measured, 239_860),
                    )
                post(event)

            return super().handle(request, some, check)

    async with drive(session=Hasty()) as it:
        assert it.title == "Units · exact: 120 features, 0 of 239,716 neurons"
        await it.pilot.resize_terminal(108, 36)
        await it.idle()
        assert it.title == "Units · 120 of 239,860 exact"
        await it.press("r")
        assert len(it.asked(SweepUnits)) == 2


# --- beside -----------------------------------------------------------------------------------------------------------


async def test_beside_measures_what_matters_once_units_are_off(drive: Any) -> None:
    async with drive() as it:
        unit = it.table.unit
        await it.press("space")
        assert it.asked(SweepUnits)[-1].given == Ablation()
        await it.press("g")
        given = Ablation((unit,))
        assert it.asked(SweepUnits)[-1].given == given
        assert it.units[0] == unit
        assert it.table.unit == unit
        assert values(it)[1:] == sorted((delta_beside(other, given) for other in it.units[1:]), reverse=True)
        shown = it.screen()
        assert "ΔProb beside 1 off" in shown
        assert "all 181 exact beside 1 off" in it.title
        assert "beside▾" in it.text("#units")
        row = next(line for line in it.text("#units").split("\n") if str(unit) in line)
        assert row.rstrip().endswith("off")
        await it.press("g")
        assert "ΔProb alone" in it.screen()
        assert values(it) == sorted((delta_prob(other) for other in it.units), reverse=True)


async def test_beside_does_not_wait_for_the_sweep_that_runs(drive: Any) -> None:
    async with drive(session=paced(), settle=False) as it:
        await it.until(lambda: it.asked(SweepUnits), "the sweep")
        await it.pilot.press("space")
        await it.until(lambda: len(it.asked(SweepUnits)) == 2, "the sweep again")
        await it.pilot.press("g")
        await it.until(lambda: it.asked(SweepUnits)[-1].given == Ablation(it.scope.off), "the sweep beside")
        await it.pilot.press("g")
        await it.until(lambda: it.asked(SweepUnits)[-1].given == Ablation(), "the sweep alone, without a permit so far")


async def test_toggling_another_unit_asks_again_beside_both(drive: Any) -> None:
    async with drive() as it:
        await it.press("space", "g", "down", "space")
        assert len(it.scope.off) == 2
        assert it.asked(SweepUnits)[-1].given == Ablation(it.scope.off)
        assert tuple(it.units[:2]) == it.scope.off
        assert "beside 2 off" in it.title
        before = len(it.asked(SweepUnits))
        await it.press("x")
        assert "all 182 exact" in it.title
        assert len(it.asked(SweepUnits)) == before
        await it.press("space", "p")
        assert it.asked(SweepUnits)[-1].given == it.scope.switches.ablation


async def test_values_beside_another_set_do_not_stay(drive: Any) -> None:
    async with drive(session=paced(), settle=False) as it:
        it.session.pace.release(4)
        await it.until(lambda: it.session.requests)
        await it.idle()
        await it.press("space")
        await it.pilot.press("g")
        await parts(it, 1)
        await it.pilot.press("down", "space")
        await it.until(lambda: len(it.scope.off) == 2)
        assert it.exact.measured == 0
        await it.until(lambda: it.table._delta.given == it.scope.off, "the redraw")
        assert set(values(it)) == {None}


async def test_with_nothing_off_both_are_the_same_and_it_says_so(drive: Any) -> None:
    async with drive() as it:
        before = len(it.asked(SweepUnits))
        await it.press("g")
        assert len(it.asked(SweepUnits)) == before
        assert values(it) == sorted(values(it), reverse=True)
        assert "Nothing is switched off yet" in it.notifications()[0]
        assert "ΔProb beside 0 off" in it.screen()


async def test_the_chip_does_what_g_does(drive: Any) -> None:
    async with drive(size=(80, 24)) as it:
        await it.press("space")
        await it.pilot.click("#beside")
        await it.idle()
        assert it.scope.beside
        assert "ΔProb beside 1 off" in it.screen()


# --- families ---------------------------------------------------------------------------------------------------------


async def test_families_are_a_matter_of_view_alone(drive: Any) -> None:
    async with drive() as it:
        asked = len(it.session.requests)
        heat = it.app.main.query_one("#heat")
        await it.press("f")
        assert {unit.family for unit in it.units} == {Family.FEATURE}
        assert {cell.family for cell in heat._cells.values()} == {Family.FEATURE}
        assert "mlp_act" not in it.text("#heat")
        await it.press("f")
        assert {unit.family for unit in it.units} == {Family.NEURON}
        assert {cell.family for cell in heat._cells.values()} == {Family.NEURON}
        await it.press("f")
        assert len({unit.family for unit in it.units}) == 2
        assert len(it.session.requests) == asked


async def test_a_picked_site_of_the_other_family_is_let_go(drive: Any) -> None:
    async with drive() as it:
        heat = it.app.main.query_one("#heat")
        heat.focus()
        await it.press("enter")
        assert heat.picked is not None
        await it.press("f", "f")
        assert heat.picked is None
        assert {unit.family for unit in it.units} == {Family.NEURON}


# --- the way there ----------------------------------------------------------------------------------------------------


def test_the_app_has_the_new_commands() -> None:
    names = {binding.id for binding in KnowscopeApp(None).main.BINDINGS}  # type: ignore[arg-type, union-attr]
    assert {"main.smallest", "main.beside", "main.measure"} <= names


async def test_every_toggle_is_measured_once(drive: Any) -> None:
    async with drive() as it:
        before = len(it.asked(Ablate))
        await it.press("space", "down", "space")
        assert len(it.asked(Ablate)) == before + 2


async def test_a_fact_that_is_refused_leaves_what_is_switched_off_and_its_figures(drive: Any) -> None:
    async with drive(session=Picky()) as it:
        await it.press("space")
        await it.idle()
        off, prompt = it.scope.off, it.scope.shown.prompt
        assert off
        it.scope.look("an unreadable fact")
        assert it.scope.off == ()
        await it.until(lambda: it.notifications(), "the refusal")
        await it.idle()
        assert (it.scope.off, it.scope.shown.prompt) == (off, prompt)
        assert "Switched off: 1" in it.screen()
