"""The library screen: finding, pulling and using dictionaries, by keys and by mouse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from textual.widgets import Input

from knowscope_tui.core.dictionaries import Choice, DictionarySource
from knowscope_tui.core.units import Family, Site, SiteKind
from knowscope_tui.session.protocol import (
    ListReleases,
    Open,
    Probe,
    PullDictionaries,
    RunSelfTest,
    ShowRelease,
    UseDictionaries,
)
from knowscope_tui.tui.widgets.in_use import InUseTable
from knowscope_tui.tui.widgets.releases import ReleasesTable
from tests.tui.shelf import GPT2, MLP, ODD, RES, TRANSCODERS, ShelfStandIn
from tests.tui.stand_in import GEMMA, StandIn


@pytest.fixture
def library(drive: Any) -> Any:
    """Opens the app on a model for which releases are listed."""

    def opened(**options: Any) -> Any:
        return drive(**{"session": StandIn(info=GEMMA), "model": "google/gemma-2-2b", **options})

    return opened


def names(it: Any) -> list[str]:
    return [state.release.name for state in it.app.screen.query_one(ReleasesTable)._rows]


def line_of(it: Any, name: str) -> Any:
    return next(line for line in it.text("#releases").split("\n") if name in line)


# --- looking ---------------------------------------------------------------------------------------------------------


async def test_it_lists_what_was_made_for_the_model_with_what_can_be_used_first(library: Any) -> None:
    async with library() as it:
        assert not it.shelf.requests
        await it.press("l")
        assert it.app.screen.id == "library"
        assert it.asked(ListReleases)[-1].model == "gemma-2-2b"
        assert names(it)[:2] == [RES, MLP]
        assert names(it)[-1] == TRANSCODERS
        assert GPT2 not in names(it)
        assert "● " + RES in line_of(it, RES)
        assert "906 MB" in line_of(it, MLP)
        assert "· 0/6" in line_of(it, MLP)
        assert "16k–65k" in line_of(it, MLP)
        assert "✗ not usable" in it.screen()


async def test_the_detail_follows_the_cursor(library: Any) -> None:
    async with library() as it:
        await it.press("l", "down")
        assert it.asked(ShowRelease)[-1].release == MLP
        facts = it.text("#release-facts")
        for words in (
            "google/gemma-scope-2b-pt-mlp",
            "mlp_out in layers 0 to 5",
            "16k 65k",
            "22 100, canonical by name",
            "none of 24",
        ):
            assert words in facts
        assert "6 dictionaries, 6 still to pull: 906 MB to download." in it.text("#outcome")
        await it.press("end")
        assert "Cannot be used here: its dictionaries are transcoders." in it.text("#release-facts")
        await it.press("p")
        assert not it.asked(PullDictionaries)
        assert "cannot be used here" in it.notifications()[-1]


async def test_searching_holds_every_word_and_enter_goes_to_the_table(library: Any) -> None:
    async with library() as it:
        await it.press("l", "slash", "=scope mlp", "enter")
        assert names(it) == [MLP]
        assert it.app.screen.focused.id == "releases"
        assert MLP in str(it.app.screen.query_one("#release-detail").border_title)
        await it.press("slash", "=x", "escape")
        assert names(it) == []
        assert "No release holds these words." in it.screen()
        assert it.app.screen.focused.id == "releases"


async def test_m_lists_the_releases_of_every_model(library: Any) -> None:
    async with library() as it:
        await it.press("l", "m")
        assert it.asked(ListReleases)[-1].model is None
        assert GPT2 in names(it)
        assert "all models" in it.text("#models")
        await it.pilot.click("#models")
        await it.idle()
        assert GPT2 not in names(it)


async def test_a_listing_that_fails_is_said_in_its_place(library: Any) -> None:
    async with library(shelf=ShelfStandIn(without_registry=True)) as it:
        await it.press("l")
        assert "sae-lens is [b]not[/b] installed. Install it: pip install sae-lens." in it.screen()
        await it.press("p", "u", "space", "w")
        assert not it.asked(PullDictionaries)


async def test_the_demo_lists_every_model(drive: Any) -> None:
    async with drive() as it:
        await it.press("l")
        assert it.asked(ListReleases)[-1].model is None
        assert GPT2 in names(it)


async def test_it_opens_while_the_model_is_still_loading(library: Any) -> None:
    session = StandIn(info=GEMMA, gated=(Open,))
    async with library(session=session, settle=False) as it:
        await it.until(lambda: session.requests)
        await it.pilot.press("escape", "l")
        await it.until(lambda: it.app.screen.query("#releases") and names(it), "the listing")
        assert "no model is open yet" in it.screen()
        await it.pilot.press("u")
        await it.pilot.pause()
        assert "none is open yet" in it.notifications()[-1]
        session.gate.set()
        await it.idle()
        assert "6 dictionaries in use" in it.text("#library-title")


async def test_names_are_shown_literally(library: Any) -> None:
    async with library() as it:
        await it.press("l", "down", "down")
        assert "odd-[b]markup[/b]-␛[2J-release" in line_of(it, "odd")
        assert "\x1b" not in it.screen()
        assert it.app.screen.query_one(ReleasesTable).release == ODD


# --- choosing --------------------------------------------------------------------------------------------------------


async def test_width_l0_and_layers_reach_the_pull(library: Any) -> None:
    async with library() as it:
        await it.press("l", "w", "w", "c", *"25", "tab", *"2-4", "enter")
        assert it.app.screen.focused.id == "releases"
        assert "3 dictionaries, 3 still to pull" in it.text("#outcome")
        await it.press("p")
        (pull,) = it.asked(PullDictionaries)
        assert pull.release == RES
        assert pull.choice == Choice(65_536, 25.0, (2, 4))
        assert pull.sae_dtype == "bfloat16"
        assert {id for _name, id in it.shelf.cached} == {f"layer_{layer}/width_65536/22" for layer in (2, 3, 4)}


async def test_a_choice_that_makes_no_sense_is_explained(library: Any) -> None:
    async with library() as it:
        await it.press("l", "c", "tab", *"4-2")
        assert "is no range of layers" in it.text("#outcome")
        await it.press("escape", "p")
        assert not it.asked(PullDictionaries)
        assert "is no range of layers" in it.notifications()[-1]
        await it.press("c", "tab", "ctrl+u", *"9", "escape")
        assert "has no dictionary in layers 9 to 9" in it.text("#outcome")


async def test_letters_keep_their_meaning_in_number_inputs(library: Any) -> None:
    async with library() as it:
        await it.press("l", "c", "w")
        assert it.app.screen.query_one("#l0", Input).value == ""
        assert "16k" in it.text("#width")


# --- pulling ---------------------------------------------------------------------------------------------------------


async def test_a_pull_shows_how_far_it_is_and_then_what_is_here(library: Any) -> None:
    shelf = ShelfStandIn(gated=True)
    async with library(shelf=shelf) as it:
        await it.press("l")
        await it.pilot.press("p")
        await it.until(lambda: "38 MB of 151 MB" in it.text("#library-said"), "progress")
        assert "17 %" in it.text("#library-said")
        assert "escape stops it" in it.text("#library-said")
        await it.pilot.press("p")
        await it.pilot.pause()
        assert "One thing at a time" in it.notifications()[-1]
        await it.pilot.press("down")
        await it.until(lambda: "mlp_out" in it.text("#release-facts"), "a look while it pulls")
        shelf.gate.set()
        await it.idle()
        assert "● 6 dictionaries pulled; 906 MB in the cache." in it.text("#library-said")
        assert "✓ 6/6" in line_of(it, RES)
        await it.press("home")
        assert "all here: u opens them" in it.text("#outcome")


async def test_escape_stops_a_pull_and_the_next_goes_on(library: Any) -> None:
    shelf = ShelfStandIn(gated=True)
    async with library(shelf=shelf) as it:
        await it.press("l")
        await it.pilot.press("p")
        await it.until(lambda: "17 %" in it.text("#library-said"), "progress")
        await it.press("escape")
        assert "Stopped. Pulling it again goes on where it was." in it.text("#library-said")
        assert "◐ 1/6" in line_of(it, RES)
        shelf.gate.set()
        await it.press("p")
        assert "5 dictionaries pulled, 1 was here" in it.text("#library-said")
        await it.press("escape")
        assert it.app.screen is it.app.main


async def test_a_failed_pull_is_said_in_the_screen(library: Any) -> None:
    async with library(shelf=ShelfStandIn(out_of_reach=True)) as it:
        await it.press("l", "p")
        said = it.text("#library-said")
        assert said == "✗ The hub [b]did not[/b] answer. Check the network and run it again."


async def test_a_pull_goes_on_when_the_library_is_left(library: Any) -> None:
    shelf = ShelfStandIn(gated=True)
    async with library(shelf=shelf) as it:
        await it.press("l")
        await it.pilot.press("p")
        await it.until(lambda: "17 %" in it.text("#library-said"), "progress")
        await it.pilot.press("l")
        await it.until(lambda: it.app.screen is it.app.main)
        assert "● ready  ↓ pulling 17 %" in it.screen()
        await it.pilot.press("space")
        await it.until(lambda: it.scope.effect.ablation.units, "an answer of the model meanwhile")
        shelf.gate.set()
        await it.idle()
        assert "6 dictionaries pulled" in it.notifications()[-1]
        assert "pulling" not in it.screen()


async def test_several_marked_releases_are_pulled_one_after_the_other(library: Any) -> None:
    async with library() as it:
        await it.press("l", "space", "down", "space")
        assert "12 dictionaries of 2 releases, 12 still to pull: 1.8 GB to download." in it.text("#outcome")
        assert "■" in line_of(it, RES)
        await it.press("p")
        assert [pull.release for pull in it.asked(PullDictionaries)] == [RES, MLP]
        assert "12 dictionaries pulled" in it.text("#library-said")
        assert "12 dictionaries of 2 releases, all here: u opens them." in it.text("#outcome")


async def test_closing_the_app_stops_a_pull(library: Any) -> None:
    shelf = ShelfStandIn(gated=True)
    async with library(shelf=shelf) as it:
        await it.press("l")
        await it.pilot.press("p")
        await it.until(lambda: shelf.cached, "the first dictionary")
        runner = it.app.desk._runners["pulls"]
        await it.pilot.press("ctrl+q")
    assert not runner._thread.is_alive()
    assert len(shelf.cached) == 1


# --- using -----------------------------------------------------------------------------------------------------------


async def test_using_pulls_opens_and_reads_the_fact_again(library: Any) -> None:
    async with library() as it:
        await it.press("space")
        (off,) = it.scope.off
        assert off.family is Family.FEATURE
        readings = len(it.asked(Probe))
        await it.press("l", "space", "down", "space", "w", "w", "u")
        (use,) = it.asked(UseDictionaries)
        assert use.dictionaries == (DictionarySource(release=RES), DictionarySource(release=MLP))
        assert use.choice.width == 65_536
        assert len(it.asked(PullDictionaries)) == 2
        assert "● 12 dictionaries in use." in it.text("#library-said")
        assert "12 dictionaries in use" in it.text("#library-title")
        assert "● " + MLP in line_of(it, MLP)
        assert "■" not in it.text("#releases")
        await it.press("l")
        assert it.scope.off == ()
        assert len(it.asked(Probe)) > readings
        assert "12/12" in it.text("#top")
        assert it.app.main.query_one("#top").tooltip.plain.count("65k features/site") == 1


async def test_dictionaries_that_do_not_fit_the_model_are_refused_in_a_sentence(library: Any) -> None:
    async with library() as it:
        await it.press("l", "m", "slash", "=gpt2", "enter", "u")
        assert "was made for another model. Press u again" in it.notifications()[-1]
        assert not it.asked(PullDictionaries)
        await it.press("u")
        assert it.text("#library-said").startswith("✗ These dictionaries were made for gpt2-small.")
        assert "6 dictionaries in use" in it.text("#library-title")


async def test_opening_dictionaries_can_be_stopped(library: Any) -> None:
    async with library(session=StandIn(info=GEMMA, gated=(UseDictionaries,))) as it:
        await it.press("l")
        await it.pilot.press("u")
        await it.until(lambda: it.asked(UseDictionaries), "the request")
        await it.until(lambda: "Opening dictionaries" in it.text("#library-said"))
        await it.press("escape")
        assert "The dictionaries in use are as they were." in it.text("#library-said")


# --- in use ----------------------------------------------------------------------------------------------------------


async def test_what_is_open_is_shown_with_the_verdict_of_the_self_test(library: Any) -> None:
    wrong = Site(3, SiteKind.RESID_POST)
    async with library(session=StandIn(info=GEMMA, wrong=(wrong,))) as it:
        await it.press("l", "i")
        table = it.app.screen.query_one(InUseTable)
        assert it.app.screen.focused is table
        assert [row.used.site.layer for row in table._rows] == [3, 0, 1, 2, 4, 5]
        assert "! 1 of 6 dictionaries is wrong" in it.text("#in-use-summary")
        assert "cpu: model 5.2 GB, 18 dictionaries mapped (11.6 GB)" in it.text("#in-use-summary")
        rows = it.text("#in-use").split("\n")
        for words in (
            "! 3.resid_post",
            "bf16",
            "300",
            "23.0",
            "-0.40",
            "L0 is 300.0, and its name [i]says[/i] 22␛[2J.",
        ):
            assert words in rows[1]
        assert "✓ 0.resid_post" in rows[2]
        assert rows[2].rstrip().endswith("as named")
        assert RES in it.text("#in-use-row")


async def test_t_tests_again(library: Any) -> None:
    async with library() as it:
        before = len(it.asked(RunSelfTest))
        it.session.wrong = (Site(1, SiteKind.RESID_POST),)
        await it.press("l", "t")
        assert len(it.asked(RunSelfTest)) == before + 1
        assert "! 1.resid_post" in it.text("#in-use")
        await it.pilot.click("#view")
        await it.idle()
        assert it.app.screen.query_one(ReleasesTable).display
        assert it.app.screen.query_one("#pull").display


async def test_a_click_on_the_verdict_shows_what_is_in_use(library: Any) -> None:
    async with library() as it:
        at = it.text("#top").index("✓ exact")
        await it.pilot.click("#top", offset=(at + 2, 0))
        await it.idle()
        assert it.app.screen.query_one("#in-use-view").display


async def test_a_model_without_dictionaries_shows_neurons_and_where_to_get_some(library: Any) -> None:
    bare = replace(GEMMA, dictionaries=(), dictionary_kinds=(), features_per_site=())
    async with library(session=StandIn(info=bare)) as it:
        assert "no dictionaries" in it.text("#top")
        assert "neurons alone: l brings dictionaries" in it.app.main.query_one("#units-panel").border_subtitle
        assert "✓ exact" in it.text("#top")
        await it.press("l", "i")
        assert "No dictionary is open." in it.screen()
        await it.press("i", "u")
        assert "6 dictionaries in use" in it.text("#library-title")
        await it.press("escape")
        assert "neurons alone" not in it.app.main.query_one("#units-panel").border_subtitle


# --- keys and the mouse ----------------------------------------------------------------------------------------------


async def test_the_mouse_marks_pulls_and_closes(library: Any) -> None:
    async with library(size=(80, 24)) as it:
        await it.press("l")
        await it.pilot.click("#releases", offset=(1, 2))
        await it.pilot.click("#releases", offset=(30, 3))
        await it.idle()
        table = it.app.screen.query_one(ReleasesTable)
        assert table.release == ODD
        assert set(it.app.main.librarian.catalogue.marked) == {MLP}
        await it.pilot.click("#pull")
        await it.idle()
        assert [pull.release for pull in it.asked(PullDictionaries)] == [MLP]
        await it.pilot.click("#leave")
        await it.idle()
        assert it.app.screen is it.app.main


async def test_a_keymap_moves_its_keys(library: Any) -> None:
    async with library(keymap={"main.library": "f2", "library.pull": "f3"}) as it:
        await it.press("l")
        assert it.app.screen is it.app.main
        await it.press("f2", "f3")
        assert len(it.asked(PullDictionaries)) == 1


async def test_it_stands_in_the_command_palette(library: Any) -> None:
    async with library() as it:
        titles = {command.title for command in it.app.get_system_commands(it.app.screen)}
        assert "Find, pull and use dictionaries; self-test" in titles
        await it.press("l")
        commands = {command.title: command for command in it.app.get_system_commands(it.app.screen)}
        commands["Download and convert what is chosen"].callback()
        await it.idle()
        assert len(it.asked(PullDictionaries)) == 1


async def test_coming_back_finds_the_library_as_it_is_now(library: Any) -> None:
    async with library() as it:
        await it.press("l", "slash", "=mlp", "enter", "p", "escape", "l")
        assert names(it)[:2] == [RES, MLP]
        assert "✓ 6/6" in line_of(it, MLP)


async def test_coming_back_finds_the_choice_and_the_marks(library: Any) -> None:
    async with library() as it:
        await it.press("l", "down", "space", "w", "c", *"25", "tab", *"2-4", "escape", "escape", "l")
        assert "3 dictionaries, 3 still to pull: 453 MB to download." in it.text("#outcome")
        assert it.app.screen.query_one("#l0", Input).value == "25"
        assert "■" in line_of(it, MLP)
