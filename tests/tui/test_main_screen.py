"""The main screen, by keys and by mouse."""

from __future__ import annotations

from typing import Any

import pytest
from textual.widgets import Input

from knowscope_tui.core.readings import Mode, Positions
from knowscope_tui.core.units import Family, Site, SiteKind
from knowscope_tui.session.protocol import Ablate, Probe, SweepUnits
from knowscope_tui.tui.widgets.fact import Suggestions
from knowscope_tui.tui.widgets.heat import HeatMap
from knowscope_tui.tui.widgets.tokens import TokenStrip
from tests.tui.stand_in import FACTS, StandIn, delta_prob


async def test_the_demo_opens_with_its_first_fact_read(drive: Any) -> None:
    async with drive() as it:
        shown = it.screen()
        assert "● ready" in shown
        assert "The capital of France is" in shown
        assert "P 0.981  rank 1" in shown
        assert it.app.screen.focused is it.table
        assert len(it.asked(Probe)) == len(it.asked(SweepUnits)) == 1
        assert it.exact.whole


async def test_what_is_typed_before_the_model_is_there_is_read_when_it_is(drive: Any) -> None:
    session = StandIn(gated=())
    from knowscope_tui.session.protocol import Open

    session.gated = (Open,)
    async with drive(session=session, settle=False) as it:
        await it.until(lambda: session.requests)
        await it.pilot.press(*"Orla Venn works as a", "enter")
        assert "Loading" in it.screen()
        session.gate.set()
        await it.until(lambda: it.scope.reading is not None)
        assert it.scope.reading.prompt == "Orla Venn works as a"


async def test_a_typed_fact_is_probed_with_the_models_own_answer(drive: Any) -> None:
    async with drive() as it:
        await it.press("i", "ctrl+u", "=Tobin Marsh was born in", "enter")
        probe = it.asked(Probe)[-1]
        assert (probe.prompt, probe.answer) == ("Tobin Marsh was born in", None)
        assert it.scope.reading.answer == "Tarnby"
        assert it.app.main.query_one("#answer-input", Input).placeholder == "Tarnby"
        assert it.app.screen.focused is it.table


async def test_an_answer_that_is_not_the_models_shows_its_rank(drive: Any) -> None:
    async with drive() as it:
        answer = it.app.main.query_one("#answer-input", Input)
        answer.focus()
        await it.press("ctrl+u", "=Rome", "enter")
        assert it.asked(Probe)[-1].answer == "Rome"
        assert "rank 4  says Paris" in it.text("#verdict")


async def test_an_empty_fact_says_what_to_do(drive: Any) -> None:
    async with drive() as it:
        before = len(it.asked(Probe))
        await it.press("i", "ctrl+u", "enter")
        assert len(it.asked(Probe)) == before
        assert it.notifications() == ["The fact is empty. Type the words before its answer."]


async def test_suggestions_match_anywhere_and_enter_takes_one(drive: Any) -> None:
    async with drive() as it:
        await it.press("i", "ctrl+u", "=warsaw")
        shown = it.app.main.query_one(Suggestions)
        assert shown.display
        assert shown.option_count == 1
        await it.press("down", "enter")
        assert not shown.display
        assert (it.scope.shown.prompt, it.scope.shown.answer) == ("The capital of Poland is", "Warsaw")
        assert it.app.main.query_one("#answer-input", Input).value == "Warsaw"


async def test_suggestions_are_eight_at_most_and_can_be_clicked(drive: Any) -> None:
    async with drive(size=(80, 24)) as it:
        await it.press("i", "ctrl+u", "=capital")
        shown = it.app.main.query_one(Suggestions)
        assert shown.option_count == 8
        await it.pilot.click(Suggestions, offset=(6, 2))
        await it.idle()
        assert it.scope.shown.prompt == "The capital of Peru is"


async def test_escape_closes_suggestions_first_then_leaves_the_input(drive: Any) -> None:
    async with drive() as it:
        await it.press("i", "ctrl+u", *"cap", "escape")
        assert not it.app.main.query_one(Suggestions).display
        assert it.app.screen.focused.id == "prompt"
        await it.press("escape")
        assert it.app.screen.focused is it.table


async def test_editing_a_suggested_prompt_drops_its_answer(drive: Any) -> None:
    async with drive() as it:
        await it.press("i", "end", "backspace", "backspace")
        assert it.app.main.query_one("#answer-input", Input).value == ""


async def test_arrows_move_the_reading_position_but_never_to_bos(drive: Any) -> None:
    async with drive() as it:
        assert it.scope.reading.position == 5
        await it.press("left")
        assert it.scope.reading.position == 4
        assert "token 5 of 6" in it.text("#tokens")
        assert "[France]" in it.text("#tokens")
        for _ in range(8):
            await it.press("left")
        assert it.scope.reading.position == 1
        await it.press("right")
        assert it.scope.reading.position == 2


async def test_clicking_a_token_moves_the_reading_position(drive: Any) -> None:
    async with drive() as it:
        start, _end, _index = next(place for place in it.app.main.query_one(TokenStrip)._places if place[2] == 2)
        await it.pilot.click(TokenStrip, offset=(start + 1, 0))
        await it.idle()
        assert it.scope.reading.position == 2
        assert "[capital]" in it.text("#tokens")


async def test_space_toggles_and_the_answer_moves(drive: Any) -> None:
    async with drive() as it:
        unit = it.table.unit
        await it.press("space")
        ablate = it.asked(Ablate)[-1]
        assert ablate.ablation.units == (unit,)
        expected = delta_prob(unit)
        assert it.scope.effect.delta_prob == pytest.approx(expected)
        effect = it.text("#effect")
        assert "Switched off: 1" in effect
        assert f"ΔProb {expected:.2f}" in effect
        assert "generates:" in effect
        assert "■ off" in it.screen()
        await it.press("space")
        assert it.scope.off == ()
        assert it.scope.effect.delta_prob == 0
        assert "■ off" not in it.screen()


async def test_clicking_a_row_toggles_it(drive: Any) -> None:
    async with drive() as it:
        third = it.units[2]
        await it.pilot.click(it.table, offset=(20, 3))
        await it.idle()
        assert it.scope.off == (third,)
        await it.press("x")
        assert it.scope.off == ()


async def test_another_fact_starts_with_everything_on(drive: Any) -> None:
    async with drive() as it:
        await it.press("space")
        await it.press("i", "ctrl+u", "=Tobin Marsh was born in", "enter")
        assert it.scope.off == ()
        assert "Nothing is switched off." in it.text("#effect")


async def test_a_switched_off_unit_stays_reachable_elsewhere(drive: Any) -> None:
    async with drive() as it:
        await it.press("space")
        (unit,) = it.scope.off
        await it.press("f", "f")
        assert it.scope.family == "neurons"
        assert it.units[0] == unit
        assert {other.family for other in it.units[1:]} == {Family.NEURON}


async def test_modes_and_positions_reach_the_ablation(drive: Any) -> None:
    async with drive() as it:
        await it.press("space", "m", "p")
        ablation = it.asked(Ablate)[-1].ablation
        assert (ablation.mode, ablation.positions) == (Mode.MEAN, Positions.ALL)
        await it.press("m")
        ablation = it.asked(Ablate)[-1].ablation
        assert (ablation.mode, ablation.factor) == (Mode.SCALE, 0.5)
        assert "scale 0.5" in it.screen()
        assert "all tokens" in it.screen()


async def test_sorting_by_key_and_by_heading(drive: Any) -> None:
    async with drive() as it:
        values = [it.exact.deltas[unit] for unit in it.units]
        assert values == sorted(values, reverse=True)
        await it.press("o")
        values = [row.attribution for row in it.table._rows if row.attribution is not None]
        assert values == sorted(values, reverse=True)
        start = it.table._columns(it.table.scrollable_content_region.width).starts()[0][0]
        await it.pilot.click(it.table, offset=(start + 2, 0))
        await it.idle()
        values = [row.activation for row in it.table._rows if row.activation is not None]
        assert values == sorted(values, reverse=True)
        assert "act" in it.screen()


async def test_filter_holds_every_word(drive: Any) -> None:
    async with drive() as it:
        every = len(it.units)
        await it.press("slash", "=resid 4", "enter")
        assert 0 < len(it.units) < every
        assert all("resid" in str(unit) and "4" in str(unit) for unit in it.units)
        assert it.app.screen.focused is it.table
        await it.press("slash", "ctrl+u", "=nothing-like-it", "escape")
        assert it.units == []
        assert "No unit matches the filter." in it.screen()


async def test_clicking_a_heat_cell_filters_and_escape_lifts_it(drive: Any) -> None:
    async with drive() as it:
        heat = it.app.main.query_one(HeatMap)
        site = Site(3, SiteKind.MLP_OUT)
        x, y = next(place for place, at in heat._places.items() if at == site)
        await it.pilot.click(heat, offset=(x + 2, y + 1))
        await it.idle()
        assert it.units
        assert {unit.site for unit in it.units} == {site}
        assert "3.mlp_out" in it.app.main.query_one("#units-panel").border_subtitle
        await it.press("escape", "escape")
        assert len({unit.site for unit in it.units}) > 1


async def test_the_heat_map_by_keys(drive: Any) -> None:
    async with drive() as it:
        heat = it.app.main.query_one(HeatMap)
        heat.focus()
        await it.press("right", "down", "enter")
        assert {unit.site for unit in it.units} == {Site(1, SiteKind.MLP_OUT)}
        await it.press("enter")
        assert len({unit.site for unit in it.units}) > 1


async def test_the_compact_heat_line_can_be_clicked(drive: Any) -> None:
    async with drive(size=(80, 24)) as it:
        heat = it.app.main.query_one(HeatMap)
        x, y = next(place for place, at in heat._places.items() if at == Site(4, SiteKind.RESID_POST))
        await it.pilot.click(heat, offset=(x + 2, y))
        await it.idle()
        assert {unit.site for unit in it.units} == {Site(4, SiteKind.RESID_POST)}


async def test_chips_do_what_their_keys_do(drive: Any) -> None:
    async with drive() as it:
        await it.pilot.click("#family")
        await it.idle()
        assert it.scope.family == "features"
        assert {unit.family for unit in it.units} == {Family.FEATURE}
        await it.pilot.click("#mode")
        await it.idle()
        assert it.scope.switches.mode == "mean"


async def test_events_of_a_stale_revision_are_dropped(drive: Any) -> None:
    async with drive() as it:
        stale = it.asked(Probe)[0]
        await it.press("i", "ctrl+u", "=Tobin Marsh was born in", "enter")
        reading = it.scope.reading
        posted: list[Any] = []
        it.session._probe(stale, posted.append)
        for event in posted:
            it.app.desk.take(event)
        await it.pilot.pause()
        assert it.scope.reading is reading


async def test_markup_and_control_characters_are_shown_literally(drive: Any) -> None:
    odd = FACTS[5]
    async with drive() as it:
        await it.press("i", "ctrl+u", "=markup", "down", "enter")
        assert it.scope.shown.prompt == odd.prompt
        shown = it.screen()
        assert "\x1b" not in shown
        assert "[bold]markup[/bold]" in shown
        assert "[red]red[/]" in shown
        assert "␛" in shown
        assert "[b]L" in it.text("#answers")


async def test_a_model_that_is_not_there_is_said_in_one_sentence(drive: Any) -> None:
    async with drive(model="missing") as it:
        assert it.notifications() == ["There is no model at 'missing'. Name a folder that holds one."]
        assert "✗ no model" in it.screen()
        await it.press("e", "s", "u")
        await it.press("question_mark")
        assert it.app.screen.id == "help"


async def test_a_handler_that_breaks_leaves_the_app_alive(drive: Any) -> None:
    class Broken(StandIn):
        def handle(self, request: Any, post: Any, check: Any) -> None:
            if isinstance(request, Ablate) and request.ablation.units:
                raise RuntimeError("[red]boom\x1b[2J")
            super().handle(request, post, check)

    async with drive(session=Broken()) as it:
        await it.press("space")
        (said,) = it.notifications()
        assert said.startswith("Unexpected: [red]boom␛[2J. Please report this, with ")
        assert "crash-" in said
        await it.press("x")
        assert it.scope.off == ()
