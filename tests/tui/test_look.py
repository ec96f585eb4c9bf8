"""How it looks: nothing clipped, themes, keys and their help."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.binding import Binding

from knowscope_tui.errors import ConfigError
from knowscope_tui.tui import themes
from knowscope_tui.tui.app import KnowscopeApp
from knowscope_tui.tui.screens import help as help_screen
from knowscope_tui.tui.table import Columns
from knowscope_tui.tui.widgets.answer import AnswerPanel
from knowscope_tui.tui.widgets.common import KeyBar
from knowscope_tui.tui.widgets.heat import HeatMap
from tests.tui.stand_in import INFO, StandIn

VISITS: list[tuple[str, ...]] = [
    (),
    ("space",),
    ("space", "g", "down", "space"),
    ("f", "f", "b"),
    ("space", "e", "p"),
    ("e", "a", "escape", "s", "enter"),
    ("question_mark",),
    ("l",),
    ("l", "p"),
    ("l", "i"),
]
SIZES = [(120, 36), (80, 24), (104, 30), (103, 24), (200, 60)]


def assert_nothing_clipped(driven: Any, size: tuple[int, int]) -> None:
    screen = driven.app.screen
    width, height = size
    scrolled = {"help-text", "edit-facts", "report", "plan"}
    for widget in screen.query("*"):
        region = widget.region
        if not widget.is_on_screen or not region or widget.has_class("-textual-system"):
            continue
        if widget.id in scrolled:
            assert region.right <= width, widget
            continue
        assert region.x >= 0, widget
        assert region.y >= 0, widget
        assert region.right <= width, (widget, region)
        assert region.bottom <= height, (widget, region)
    for widget in screen.query("*"):
        assert not widget.show_horizontal_scrollbar, widget


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("keys", VISITS)
async def test_nothing_is_clipped(drive: Any, size: tuple[int, int], keys: tuple[str, ...]) -> None:
    async with drive(size=size) as it:
        if keys:
            await it.press(*keys)
        assert_nothing_clipped(it, size)
        bar = it.app.screen.query_one(KeyBar)
        assert bar.virtual_size.width <= bar.size.width
        assert len(bar.children) >= 1


@pytest.mark.parametrize(("size", "compact"), [((120, 36), False), ((80, 24), True)])
async def test_panels_give_way_on_narrow_screens(drive: Any, size: tuple[int, int], compact: bool) -> None:
    async with drive(size=size) as it:
        heat, answer = it.app.main.query_one(HeatMap), it.app.main.query_one(AnswerPanel)
        assert (heat.compact, answer.compact) == (compact, compact)
        assert (heat.region.height == 1) is compact
        assert "resid_post" in it.text("#heat")
        assert "Paris" in it.text("#answers")
        assert it.table.region.height >= 8


async def test_resizing_changes_the_layout_both_ways(drive: Any) -> None:
    async with drive(size=(120, 36)) as it:
        await it.pilot.resize_terminal(80, 24)
        await it.idle()
        assert it.app.main.query_one(HeatMap).compact
        assert_nothing_clipped(it, (80, 24))
        await it.pilot.resize_terminal(120, 36)
        await it.idle()
        assert not it.app.main.query_one(HeatMap).compact
        assert_nothing_clipped(it, (120, 36))


async def test_the_footer_names_the_keys_at_eighty_columns(drive: Any) -> None:
    async with drive(size=(80, 24)) as it:
        keys = it.text("KeyBar")
        for label in ("space toggle", "x clear", "e edit", "s save", "u undo", "i fact", "? help", "^p commands"):
            assert label in keys
        await it.press("i")
        keys = it.text("KeyBar")
        assert "toggle" not in keys
        assert "i fact" not in keys
        assert "look" in keys


@pytest.mark.parametrize("longest", [12, 19, 24])
def test_columns_fit_their_table(longest: int) -> None:
    for width in range(longest + 23, 160):
        columns = Columns.within(width, longest)
        figures = 3 if columns.attribution else 2
        bars = [columns.bar] * (figures - 1) + [columns.delta_bar]
        taken = columns.LEFT + columns.unit + sum(columns.GAP + (bar and bar + 1) + columns.NUMBER for bar in bars)
        assert taken <= width
        assert len(columns.starts()) == figures


@pytest.mark.parametrize("size", [(120, 36), (113, 30), (80, 24)])
async def test_a_model_of_many_layers_leaves_the_units_room(drive: Any, size: tuple[int, int]) -> None:
    session = StandIn(info=replace(INFO, n_layers=26))
    async with drive(size=size, session=session) as it:
        assert_nothing_clipped(it, size)
        await it.press("space", "g", "m", "m", "p")
        heading = it.text("#units").split("\n")[0]
        assert "beside▾" in heading
        assert not any("…" in line for line in it.text("#units").split("\n"))
        assert "ΔProb beside 1 off" in it.screen()
        assert "at all tokens" in it.screen()
        assert "all 181 exact" in it.title
        await it.press("question_mark", "escape", "b")
        assert_nothing_clipped(it, size)


# --- themes ----------------------------------------------------------------------------------------------------------


def test_the_bundled_themes_load() -> None:
    loaded = themes.load_themes()
    assert loaded.errors == ()
    names = {theme.name for theme in loaded.themes}
    assert names >= {"knowscope-dark", "knowscope-light", "ansi-16", "high-contrast"}


@pytest.mark.parametrize("name", [theme.name for theme in themes.load_themes().themes])
async def test_every_theme_draws_every_screen(drive: Any, name: str) -> None:
    async with drive(size=(80, 24), theme=name) as it:
        assert it.app.theme == name
        await it.press("space", "e", "p", "question_mark", "escape", "escape")
        assert it.app.screen is it.app.main


async def test_t_goes_through_the_themes_live(drive: Any) -> None:
    async with drive() as it:
        seen = [it.app.theme]
        for _ in range(3):
            await it.press("t")
            seen.append(it.app.theme)
        assert len(set(seen)) == 4


async def test_sixteen_colours_uses_nothing_else(drive: Any) -> None:
    async with drive(theme="ansi-16") as it:
        assert it.app.native_ansi_color
        await it.press("space")
        for strip in it.app.screen._compositor.render_strips():
            for segment in strip:
                for colour in (segment.style.color, segment.style.bgcolor) if segment.style else ():
                    assert colour is None or colour.triplet is None, segment


async def test_a_broken_theme_is_said_and_the_app_starts(drive: Any, own_config: Path) -> None:
    folder = own_config / "knowscope-tui" / "themes"
    folder.mkdir(parents=True)
    (folder / "broken.toml").write_text("name = [")
    (folder / "mine.toml").write_text('name = "mine"\nprimary = "#ff00ff"\n')
    async with drive(theme="mine") as it:
        assert it.app.theme == "mine"
        (message,) = it.notifications()
        assert "broken.toml" in message
        assert "Correct it or move it away." in message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('primary = "red"', "'name' is missing"),
        ('name = "x"', "'primary' is missing"),
        ('name = "x"\nprimary = "no-colour"', "is no colour"),
        ('name = "x"\nprimary = "red"\ncolour = "red"', "no setting called 'colour'"),
        ('name = "x"\nprimary = "red"\ndark = "yes"', "true or false"),
        ('name = "x"\nprimary = "red"\nvariables = 3', "must hold texts"),
        ('name = "x"\nprimary = 3', "'primary' is missing"),
    ],
)
def test_a_broken_theme_names_its_fault(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "theme.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=reason):
        themes.read_theme(path)


async def test_an_unknown_theme_lists_the_known_ones(drive: Any) -> None:
    async with drive(theme="nope") as it:
        assert "There is no theme called 'nope'. Use one of: " in it.notifications()[0]


# --- keys ------------------------------------------------------------------------------------------------------------

OWNERS = [owner for _title, owner in help_screen.GROUPS] + [KnowscopeApp, help_screen.HelpScreen]


@pytest.mark.parametrize("owner", OWNERS)
def test_every_binding_has_an_id_and_a_tooltip(owner: Any) -> None:
    bindings = help_screen.own_bindings(owner)
    assert bindings
    assert len(bindings) == len(owner.__dict__["BINDINGS"])
    for binding in bindings:
        assert isinstance(binding, Binding)
        assert binding.id, binding
        assert binding.tooltip.endswith("."), binding
        assert binding.description, binding


def test_ids_are_unique() -> None:
    ids = [binding.id for owner in OWNERS for binding in help_screen.own_bindings(owner)]
    assert len(ids) == len(set(ids))


async def test_every_binding_stands_in_the_help(drive: Any) -> None:
    async with drive() as it:
        await it.press("question_mark")
        text = it.text("#help-text")
        for owner in OWNERS:
            for binding in help_screen.own_bindings(owner):
                assert binding.tooltip in text, binding
        for word, meaning in help_screen.WORDS:
            assert word in text
            assert meaning in text


async def test_a_keymap_moves_a_key_and_the_help_knows(drive: Any) -> None:
    async with drive(keymap={"main.toggle": "z", "app.quit": "ctrl+q,f10"}) as it:
        await it.press("z")
        assert len(it.scope.off) == 1
        await it.press("question_mark")
        line = next(line for line in it.text("#help-text").split("\n") if "Switch the marked unit" in line)
        assert line.split()[0] == "z"
        assert line.endswith("main.toggle")


async def test_the_command_palette_holds_the_commands(drive: Any) -> None:
    async with drive() as it:
        names = {command.title for command in it.app.get_system_commands(it.app.screen)}
        assert {"Theme", "Quit", "Help", "Switch every unit on again"} <= names
        await it.press("space")
        assert it.scope.off
        await it.pilot.press("ctrl+p")
        await it.pilot.pause()
        await it.pilot.press(*"every unit on")
        await it.until(lambda: it.app.screen.query("OptionList").first().option_count)
        await it.pilot.press("enter", "enter")
        await it.until(lambda: not it.scope.off, "the command")
