"""The study screen: choose, run behind other questions, see claims and plots grow, open a unit."""

from __future__ import annotations

from typing import Any

import pytest
from textual.widgets import Input, OptionList

from knowscope_tui.core.studies import StudyName
from knowscope_tui.session.protocol import RunStudy
from knowscope_tui.tui.screens.study import StudyScreen
from knowscope_tui.tui.studying import Wanted
from knowscope_tui.tui.widgets.units import UnitsTable
from tests.tui import stand_in
from tests.tui.stand_in import STUDIED, StandIn


def screen(it: Any) -> StudyScreen:
    found = it.app.screen
    assert isinstance(found, StudyScreen)
    return found


async def test_a_study_is_chosen_runs_and_grows(drive: Any) -> None:
    async with drive() as it:
        await it.press("d")
        assert "How much of the answer" in it.text("#study-question")
        await it.press("down", "r")
        asked = it.asked(RunStudy)[-1]
        assert (asked.name, asked.folder, asked.limit) == (StudyName.LADDER, "./knowscope-ladder", 20)
        await it.until(lambda: "finished" in it.text("#study-said"))
        claims = it.text("#study-claims")
        assert "✓ holds  Features carry more" in claims
        assert "0.50 (0.40 to 0.60)" in claims
        assert it.app.screen.query_one("#study-plot").shown.title == "Bars"
        await it.press("n")
        assert it.app.screen.query_one("#study-plot").shown.title == "Values"


async def test_a_unit_of_a_plot_is_opened_on_the_main_screen(drive: Any) -> None:
    async with drive() as it:
        it.scope.look("The capital of Japan is", "Tokyo")
        await it.idle()
        await it.press("d", "r")
        await it.until(lambda: "finished" in it.text("#study-said"))
        await it.press("u")
        await it.press("n", "u")
        listed = it.app.screen.query_one("#study-units", OptionList)
        assert listed.has_focus
        await it.press("enter")
        assert it.app.screen is it.app.main
        assert it.app.main.query_one("#filter", Input).value == STUDIED
        assert it.app.main.query_one(UnitsTable).has_focus


async def test_a_unit_that_is_silent_on_the_fact_in_view_is_said(drive: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in, "STUDIED", "1.resid_post.f99999")
    async with drive() as it:
        it.scope.look("The capital of Japan is", "Tokyo")
        await it.idle()
        await it.press("d", "r")
        await it.until(lambda: "finished" in it.text("#study-said"))
        await it.press("n", "u", "enter")
        assert it.app.screen is it.app.main
        assert it.app.main.query_one("#filter", Input).value == ""
        assert "1.resid_post.f99999 is silent on the fact in view" in it.notifications()[-1]


async def test_each_study_keeps_what_is_known_of_it(drive: Any) -> None:
    async with drive() as it:
        await it.press("d", "r")
        await it.until(lambda: "finished" in it.text("#study-said"))
        await it.press("down")
        assert it.text("#study-claims") == ""
        assert not it.app.screen.query_one("#study-said").display
        assert it.app.screen.query_one("#study-folder", Input).value == "./knowscope-ladder"
        it.app.screen.query_one("#study-folder", Input).value = "taken"
        await it.press("r")
        await it.until(lambda: "another run" in it.text("#study-said"))
        await it.press("up")
        assert "✓ holds" in it.text("#study-claims")
        assert "finished" in it.text("#study-said")


async def test_a_study_gives_way_and_goes_on(drive: Any) -> None:
    async with drive(session=StandIn(gated=(RunStudy,))) as it:
        await it.pilot.press("d", "r")
        await it.until(lambda: it.asked(RunStudy), "the study")
        await it.pilot.press("escape")
        before = len(it.asked(RunStudy))
        it.scope.look("The capital of Japan is", "Tokyo")
        await it.until(lambda: it.scope.reading and it.scope.reading.answer == "Tokyo", "the answer to a person")
        await it.until(lambda: len(it.asked(RunStudy)) > before, "the study again, once the model is free")
        await it.pilot.press("d")
        assert screen(it)._chosen is StudyName.COMPONENTS
        await it.pilot.press("x")
        await it.idle()
        assert not it.app.main.students.running
        assert "what is measured is kept" in it.text("#study-said")


async def test_what_cannot_be_is_a_sentence(drive: Any) -> None:
    async with drive() as it:
        await it.press("d")
        it.app.screen.query_one("#study-folder", Input).value = "taken"
        await it.press("r")
        await it.until(lambda: "another run" in it.text("#study-said"))
        asked = len(it.asked(RunStudy))
        it.app.screen.query_one("#study-folder", Input).value = " "
        await it.press("r")
        it.app.screen.query_one("#study-folder", Input).value = "x"
        it.app.screen.query_one("#study-limit", Input).value = "0"
        await it.press("r")
        assert len(it.asked(RunStudy)) == asked
        await it.press("escape")
        assert it.app.screen is it.app.main


async def test_it_fits_a_small_terminal(drive: Any) -> None:
    async with drive(size=(80, 24)) as it:
        await it.press("d", "r")
        await it.until(lambda: "finished" in it.text("#study-said"))
        for name in ("#study-claims", "#study-plot", "#study-said", "#study-buttons"):
            region = it.app.screen.query_one(name).region
            assert region.height > 0
            assert region.right <= 80
            assert region.bottom <= 24


async def test_a_study_that_another_run_replaces_is_said_to_be_kept_and_can_go_on(drive: Any) -> None:
    async with drive(session=StandIn(gated=(RunStudy,))) as it:
        await it.pilot.press("d")
        it.app.screen.query_one("#study-folder", Input).value = "mine"
        it.app.screen.query_one("#study-limit", Input).value = "40"
        await it.pilot.press("r")
        await it.until(lambda: it.asked(RunStudy), "the study")
        await it.pilot.press("down")
        assert "Plots appear" not in it.text("#study-legend")
        assert "components: waiting" in it.text("#study-said")
        it.app.screen.query_one("#study-limit", Input).value = "7"
        await it.pilot.press("r")
        await it.until(lambda: it.app.main.students.asked.name is StudyName.LADDER, "the other study")
        assert "Study components: stopped; what is measured is kept" in it.notifications()[-1]
        await it.pilot.press("up")
        assert "what is measured is kept" in it.text("#study-said")
        assert it.app.screen.query_one("#study-folder", Input).value == "mine"
        assert it.app.screen.query_one("#study-limit", Input).value == "40"
        await it.pilot.press("down", "r")
        assert len(it.notifications()) == 1  # The same study in the same place goes on.
        it.app.screen.query_one("#study-folder", Input).value = "elsewhere"
        await it.pilot.press("r")
        await it.until(lambda: it.app.main.students.asked.folder == "elsewhere")
        assert "Study ladder: stopped" in it.notifications()[-1]
        assert len(it.notifications()) == 2


async def test_an_end_is_told_to_who_looks_at_another_study(drive: Any) -> None:
    async with drive() as it:
        await it.press("d", "down")
        it.app.main.students.run(Wanted(StudyName.COMPONENTS, "taken", 20))
        await it.until(lambda: it.notifications())
        assert "Study components: " in it.notifications()[-1]
        assert "another run" in it.notifications()[-1]
        assert not it.app.screen.query_one("#study-said").display
