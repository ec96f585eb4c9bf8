"""The terminal program: wires the main screen, the themes and the session's thread together.

Importing this module loads no torch; the session's thread does, behind the first paint.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.screen import ModalScreen, Screen

from knowscope_tui.session.protocol import SourceSpec
from knowscope_tui.session.runner import Handler
from knowscope_tui.text import visible
from knowscope_tui.tui.desk import Desk, late_session, late_shelf
from knowscope_tui.tui.messages import SessionEvent
from knowscope_tui.tui.screens.main import MainScreen
from knowscope_tui.tui.terminal import end_with_terminal
from knowscope_tui.tui.themes import DEFAULT_THEME, SIXTEEN_COLOURS_THEME, load_themes


class KnowscopeApp(App[None]):
    """The microscope in a terminal. `make_handler` and `make_shelf` stand in for the session in tests."""

    TITLE = "knowscope"
    CSS_PATH: ClassVar[str] = "app.tcss"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "ctrl+p",
            "command_palette",
            "commands",
            id="app.commands",
            tooltip="Find a command by its name.",
            priority=True,
        ),
        Binding("ctrl+q", "quit", "quit", id="app.quit", tooltip="Leave from anywhere.", show=False, priority=True),
        Binding("tab", "app.focus_next", "next panel", id="app.next", show=False, tooltip="Go to the next panel."),
        Binding(
            "shift+tab",
            "app.focus_previous",
            "previous",
            id="app.previous",
            show=False,
            tooltip="Go to the panel before.",
        ),
    ]

    def __init__(
        self,
        source: SourceSpec,
        make_handler: Callable[[], Handler] | None = None,
        theme: str | None = None,
        keymap: Mapping[str, str] | None = None,
        make_shelf: Callable[[], Handler] = late_shelf,
    ) -> None:
        super().__init__()
        if keymap:
            self.set_keymap(keymap)
        self._source = source
        self._asked_theme = theme
        self._problems: list[str] = []
        self._frozen = 0
        self.desk = Desk(make_handler or late_session, self._post_event, self._show_activity, make_shelf)
        self.main = MainScreen(self.desk, source)
        self._load_themes()

    def get_default_screen(self) -> Screen[None]:
        return self.main

    def on_mount(self) -> None:
        for problem in self._problems:
            self.notify(visible(problem), severity="warning", timeout=10, markup=False)
        self.call_after_refresh(self._painted)

    def _painted(self) -> None:
        """The screen is there: what takes long may begin."""
        gc.enable()
        self.desk.start(self._source, self.main.hear_open)

    def on_unmount(self) -> None:
        self.desk.close()
        gc.unfreeze()

    # --- the session ------------------------------------------------------------------------------------------------

    def _post_event(self, event: object) -> None:
        """Runs on the session's threads: brings an event to the screen's."""
        from knowscope_tui.session.protocol import Event

        assert isinstance(event, Event)
        self.post_message(SessionEvent(event))

    def on_session_event(self, message: SessionEvent) -> None:
        if self.is_running:  # While it closes, the screens that would show it are gone already.
            self.desk.take(message.event)

    def _show_activity(self) -> None:
        if self.main.is_mounted:
            self.main.show_activity()
            self._freeze()

    def _freeze(self) -> None:
        """Takes what was loaded out of the garbage collector's sight: torch and a model are a million objects, and
        looking through them again and again would stop the screen for a third of a second each time."""
        stage = bool(self.main.scope.info) + bool(self.main.scope.effect and self.main.scope.effect.continuation_after)
        if stage > self._frozen:
            self._frozen = stage
            gc.freeze()

    # --- themes -----------------------------------------------------------------------------------------------------

    def _load_themes(self) -> None:
        loaded = load_themes()
        self._problems += [str(error) for error in loaded.errors]
        self._own_themes = [theme.name for theme in loaded.themes]
        for theme in loaded.themes:
            self.register_theme(theme)
        wanted = self._asked_theme or self._fitting_theme()
        if wanted in self.available_themes:
            self.theme = wanted
        elif self._asked_theme:
            names = ", ".join(self._own_themes)
            self._problems.append(f"There is no theme called {wanted!r}. Use one of: {names}.")

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """`$muted`, for text of lesser weight, in themes that do not say what it is."""
        theme = self.current_theme
        if theme.ansi:
            return {"muted": "ansi_default"}
        ground = Color.parse(theme.background or ("#121212" if theme.dark else "#efefef"))
        ink = Color.parse(theme.foreground) if theme.foreground else ground.inverse
        return {"muted": ground.blend(ink, 0.65).hex}

    def _fitting_theme(self) -> str:
        return SIXTEEN_COLOURS_THEME if self.console.color_system == "standard" else DEFAULT_THEME

    def action_next_theme(self) -> None:
        """Goes to the next of the program's and the person's own themes."""
        names = self._own_themes
        if names:
            at = names.index(self.theme) if self.theme in names else -1
            self.theme = names[(at + 1) % len(names)]
            self.notify(f"Theme: {visible(self.theme)}", timeout=2, markup=False)

    # --- commands ---------------------------------------------------------------------------------------------------

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        yield SystemCommand("Theme", "Choose a theme; it is shown at once", self.action_change_theme)
        yield SystemCommand("Quit", "Leave; asks first when edits are unsaved", self.action_quit)
        yield SystemCommand("Screenshot", "Save a picture of the screen (SVG)", self.deliver_screenshot)
        yield SystemCommand("Help", "Every key and every word", self.action_help)
        if isinstance(screen, ModalScreen):
            return
        for binding in type(screen).BINDINGS:
            if isinstance(binding, Binding) and not binding.action.startswith("app."):
                name = binding.tooltip.partition(":")[0].rstrip(".")
                key = f"Key: {self.get_key_display(binding)}"
                yield SystemCommand(name, key, self._runs(screen, binding.action))

    def _runs(self, screen: Screen[object], action: str) -> Callable[[], None]:
        def run() -> None:
            self.call_later(screen.run_action, action)

        return run

    def action_help(self) -> None:
        from knowscope_tui.tui.screens.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(dict(self._keymap)))

    async def action_quit(self) -> None:
        """Quits; asks first when the model in memory holds unsaved edits."""
        from knowscope_tui.tui.screens.quit import QuitScreen

        applying = self.desk.asking("apply")
        if not self.main.scope.unsaved and not applying:
            self.exit()
        elif not isinstance(self.screen, QuitScreen):
            self.push_screen(QuitScreen(self.main.scope.edits, applying=applying), self._quit_chosen)

    def action_help_quit(self) -> None:
        """Ctrl+C leaves as `q` does."""
        self.call_later(self.action_quit)

    def _quit_chosen(self, choice: str | None) -> None:
        from knowscope_tui.tui.screens.save import SaveScreen

        if choice == "quit":
            self.exit()
        elif choice == "save":
            self.push_screen(SaveScreen(self.desk, self.main.scope), lambda saved: self.exit() if saved else None)


def run(source: SourceSpec, theme: str | None = None, keymap: Mapping[str, str] | None = None) -> None:
    """Runs the terminal program until a person leaves it."""
    end_with_terminal()
    gc.disable()  # Collecting garbage while widgets are built costs a sixth of the time to the first paint.
    KnowscopeApp(source, theme=theme, keymap=keymap).run()
