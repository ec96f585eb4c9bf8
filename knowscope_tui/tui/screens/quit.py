"""Asks before edits that no checkpoint holds are lost."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from knowscope_tui.text import count
from knowscope_tui.tui.widgets.common import KeyBar


class QuitScreen(ModalScreen[str]):
    """Dismissed with `save`, `quit` or `stay`."""

    CSS_PATH = "dialog.tcss"
    AUTO_FOCUS = "#stay"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "choose('save')", "save first", id="quit.save", tooltip="Save the edited model, then quit."),
        Binding("q", "choose('quit')", "quit without saving", id="quit.quit", tooltip="Quit; the edits are lost."),
        Binding("escape", "choose('stay')", "stay", id="quit.stay", tooltip="Do not quit."),
    ]

    def __init__(self, edits: int, *, applying: bool) -> None:
        super().__init__(id="quit")
        self._edits, self._applying = edits, applying

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(Content(self._at_stake()))
            with Horizontal(classes="buttons"):
                yield Button("Save first", id="save", variant="primary", compact=True)
                yield Button("Quit without saving", id="quit", variant="error", compact=True)
                yield Button("Stay", id="stay", compact=True)
        yield KeyBar()

    def _at_stake(self) -> str:
        if self._applying:
            return "An edit is being applied to the model in memory, and would be lost."
        are = "is" if self._edits == 1 else "are"
        return f"{count(self._edits, 'edit')} {are} in memory alone, and would be lost."

    def on_mount(self) -> None:
        self.query_one(".dialog").border_title = "Quit?"

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.action_choose(event.button.id or "stay")

    def action_choose(self, choice: str) -> None:
        self.dismiss(choice)
