"""Editing, undoing, saving and leaving."""

from __future__ import annotations

from typing import Any

from textual.widgets import Input, Select

from knowscope_tui.core.edits import Method
from knowscope_tui.core.units import SiteKind
from knowscope_tui.session.protocol import ApplyEdit, PlanEdit, PreviewEdit, Save, Undo
from knowscope_tui.tui.screens.quit import QuitScreen
from tests.tui.stand_in import FACTS, StandIn


async def test_the_edit_takes_the_switched_off_units_and_the_facts_phrasings(drive: Any) -> None:
    async with drive() as it:
        await it.press("space")
        (unit,) = it.scope.off
        await it.press("e")
        spec = it.asked(PlanEdit)[-1].spec
        assert spec.units == (unit,)
        assert spec.facts == (FACTS[0],)
        assert spec.tau2 is None
        assert "positions" in it.text("#plan")
        assert "down_proj" in it.text("#plan")
        assert str(unit) in it.text("#plan")
        assert "0.05" in it.text("#tau2-note")


async def test_without_switched_off_units_the_strongest_of_a_site_are_taken(drive: Any) -> None:
    async with drive() as it:
        await it.press("e")
        spec = it.asked(PlanEdit)[-1].spec
        assert (spec.units, spec.site, spec.top) == ((), SiteKind.RESID_POST, 10)
        it.app.screen.query_one("#which", Select).value = SiteKind.MLP_OUT.value
        it.app.screen.query_one("#method", Select).value = Method.ROWS
        it.app.screen.query_one("#top-n", Input).value = "5"
        await it.idle()
        spec = it.asked(PlanEdit)[-1].spec
        assert (spec.site, spec.method, spec.top) == (SiteKind.MLP_OUT, Method.ROWS, 5)
        assert "rows" in it.text("#method-means")


async def test_tau2_counts_positions_live(drive: Any) -> None:
    async with drive() as it:
        await it.press("e")
        first = it.text("#plan")
        await it.press(*"0.4")
        assert it.asked(PlanEdit)[-1].spec.tau2 == 0.4
        fewer = it.text("#plan")
        assert fewer != first
        await it.press("down")
        assert it.asked(PlanEdit)[-1].spec.tau2 < 0.4
        await it.press("up", "up")
        assert it.asked(PlanEdit)[-1].spec.tau2 > 0.4
        await it.press("d")
        assert it.asked(PlanEdit)[-1].spec.tau2 is None


async def test_a_tau2_that_makes_no_sense_is_explained(drive: Any) -> None:
    async with drive() as it:
        await it.press("e", *"7")
        assert "between 0 and 1" in it.text("#plan")
        before = len(it.asked(PreviewEdit))
        await it.press("p")
        assert len(it.asked(PreviewEdit)) == before
        await it.press("backspace", "=1.2.3")
        assert "no number" in it.text("#plan")


async def test_preview_measures_and_keeps_nothing(drive: Any) -> None:
    async with drive() as it:
        await it.press("e", "p")
        report = it.text("#report")
        for word in ("Rel", "Gen", "Loc", "ΔPPL", "[i]Lyon[/i]", "0.981 → 0.011", "same subject", "+0.20 %"):
            assert word in report
        assert it.scope.edits == 0
        assert not it.scope.unsaved


async def test_apply_keeps_the_answer_from_before_and_undo_takes_it_back(drive: Any) -> None:
    async with drive() as it:
        await it.press("e", "a")
        assert len(it.asked(ApplyEdit)) == 1
        await it.press("escape")
        assert it.app.screen is it.app.main
        assert "1 edit · unsaved" in it.screen()
        assert it.scope.reading.p_answer < 0.1
        assert "0.981 → 0.029" in it.text("#effect")
        assert ".981" in it.text("#answers")
        await it.press("u")
        assert len(it.asked(Undo)) == 1
        assert it.scope.edits == 0
        assert "edit ·" not in it.screen()
        assert it.scope.reading.p_answer > 0.9


async def test_undo_in_the_edit_screen(drive: Any) -> None:
    async with drive() as it:
        await it.press("e", "a", "u")
        assert it.scope.edits == 0
        assert "0 edits on" in it.text("#edit-state")
        await it.press("u")
        assert it.notifications() == ["There is no edit to undo. Apply one first."]


async def test_escape_stops_a_running_edit_before_it_closes(drive: Any) -> None:
    session = StandIn(gated=(ApplyEdit,))
    async with drive(session=session) as it:
        await it.press("e")
        await it.pilot.press("a")
        await it.until(lambda: it.asked(ApplyEdit))
        await it.press("escape")
        assert it.app.screen.id == "edit"
        assert "stopped" in it.text("#edit-state")
        assert it.scope.edits == 0
        await it.press("escape")
        assert it.app.screen is it.app.main


async def test_the_buttons_work_with_the_mouse(drive: Any) -> None:
    async with drive(size=(80, 24)) as it:
        await it.press("e")
        await it.pilot.click("#preview")
        await it.idle()
        assert len(it.asked(PreviewEdit)) == 1
        await it.pilot.click("#apply")
        await it.idle()
        assert it.scope.edits == 1
        await it.pilot.click("#close")
        await it.idle()
        assert it.app.screen is it.app.main


async def test_save_says_where_and_how_to_load(drive: Any) -> None:
    async with drive() as it:
        await it.press("e", "a", "escape", "s", "enter")
        assert it.asked(Save)[-1].folder == "./knowscope-edited"
        state = it.text("#save-state")
        assert "Saved ./knowscope-edited" in state
        assert "5.2 GB" in state
        assert "AutoModelForCausalLM.from_pretrained('./knowscope-edited')" in state
        assert not it.scope.unsaved
        await it.press("escape")
        assert "1 edit · saved" in it.screen()


async def test_an_existing_folder_can_be_corrected(drive: Any) -> None:
    async with drive() as it:
        await it.press("e", "a", "escape", "s", "ctrl+u", "=./there-already", "enter")
        assert "exists. Name one that does not exist yet." in it.text("#save-state")
        assert it.app.screen.focused.id == "folder"
        assert it.scope.unsaved
        await it.press("ctrl+u", "=./[bold]2", "enter")
        assert "Saved ./[bold]2" in it.text("#save-state")


async def test_a_folder_without_a_name_is_not_asked(drive: Any) -> None:
    async with drive() as it:
        await it.press("e", "a", "escape", "s", "ctrl+u", "enter")
        assert it.asked(Save) == []
        assert "has no name" in it.text("#save-state")


async def test_saving_can_be_stopped(drive: Any) -> None:
    session = StandIn(gated=(Save,))
    async with drive(session=session) as it:
        await it.press("e", "a", "escape", "s")
        await it.pilot.press("enter")
        await it.until(lambda: it.asked(Save))
        await it.press("escape")
        assert "nothing was saved" in it.text("#save-state")
        assert it.scope.unsaved


async def test_nothing_to_save_or_undo_is_said(drive: Any) -> None:
    async with drive() as it:
        await it.press("s", "u")
        assert it.notifications() == [
            "There is no edit to save. Press e to make one.",
            "There is no edit to undo. Press e to make one.",
        ]


async def test_quit_leaves_at_once_without_edits(drive: Any) -> None:
    async with drive() as it:
        await it.pilot.press("q")
        await it.until(lambda: it.app._exit)


async def test_quit_asks_when_edits_are_unsaved(drive: Any) -> None:
    async with drive() as it:
        await it.press("e", "a", "escape", "q")
        assert it.app.screen.id == "quit"
        await it.press("escape")
        assert it.app.screen is it.app.main
        await it.press("q", "s")
        assert it.app.screen.id == "save"
        await it.press("enter")
        await it.pilot.press("escape")
        await it.until(lambda: it.app._exit)


async def test_quitting_without_saving_is_a_choice(drive: Any) -> None:
    async with drive() as it:
        await it.press("e", "a")
        await it.press("ctrl+q")
        assert it.app.screen.id == "quit"
        await it.pilot.press("q")
        await it.until(lambda: it.app._exit)
        assert it.asked(Save) == []


async def test_undo_pressed_twice_undoes_once_and_shows_it(drive: Any) -> None:
    async with drive() as it:
        await it.press("e", "a", "escape")
        assert it.scope.edits == 1
        it.scope.undo()
        it.scope.undo()
        await it.idle()
        assert it.scope.edits == 0
        assert it.notifications() == []


async def test_quit_asks_while_an_edit_is_being_applied(drive: Any) -> None:
    session = StandIn(gated=(ApplyEdit,))
    async with drive(session=session) as it:
        await it.press("e")
        await it.pilot.press("a")
        await it.until(lambda: it.asked(ApplyEdit))
        await it.pilot.press("ctrl+q")
        await it.until(lambda: isinstance(it.app.screen, QuitScreen))
        assert "An edit is being applied" in it.screen()
        await it.pilot.press("escape")
        session.gate.set()
        await it.idle()
        assert it.scope.unsaved


async def test_save_says_beforehand_what_it_would_write_and_link(drive: Any) -> None:
    async with drive() as it:
        await it.press("e", "a", "escape", "s")
        plan = it.text("#save-plan")
        for word in ("linked", "rewritten with the edit", "writes", "free"):
            assert word in plan
        assert not it.asked(Save)
        await it.press("tab", "space", "shift+tab", "enter")
        assert it.asked(Save)[-1].options.include_facts is True
