"""Small pieces that several screens use: inputs that keep text safe, clickable words, and the line of keys."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Checkbox, Footer, Input, Static
from textual.widgets._footer import FooterKey

from knowscope_tui.text import typed
from knowscope_tui.tui.messages import ChipPressed, InputLeft


class SafeInput(Input):
    """A one-line input that keeps printable characters only, and is left with escape."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "back", id="input.leave", tooltip="Leave the input without further ado."),
    ]

    def validate_value(self, value: str) -> str:
        return typed(value)

    def _on_paste(self, event: events.Paste) -> None:
        lines = event.text.strip("\r\n")
        super()._on_paste(events.Paste(typed(lines)))
        event.stop()
        event.prevent_default()

    def check_consume_key(self, key: str, character: str | None) -> bool:
        return key == "slash" or super().check_consume_key(key, character)

    def action_leave(self) -> None:
        self.post_message(InputLeft())


class Tick(Checkbox):
    """A checkbox that shows a sign when it is on and an empty box when it is off, in any colour."""

    BUTTON_LEFT, BUTTON_RIGHT = "[", "]"

    @property
    def BUTTON_INNER(self) -> str:  # type: ignore[override]
        """The sign that textual draws between the two others."""
        return "✓" if self.value else " "


class NumberInput(SafeInput):
    """An input for a number: letters pass it by, so that they keep their meaning as keys."""

    CHARACTERS: ClassVar[str] = "0123456789.,"

    def check_consume_key(self, key: str, character: str | None) -> bool:
        del key
        return character is not None and character in self.CHARACTERS

    async def _on_key(self, event: events.Key) -> None:
        if event.is_printable and not self.check_consume_key(event.key, event.character):
            event.prevent_default()
            return
        await super()._on_key(event)


class RangeInput(NumberInput):
    """An input for a range of numbers, written 10-20."""

    CHARACTERS = "0123456789-"


class Chip(Static):
    """A word that stands for a key: clicking it does what the key does."""

    ALLOW_SELECT = False

    def __init__(self, action: str, id: str, tooltip: str) -> None:
        super().__init__("", id=id)
        self._action = action
        self._shown = ("", "")
        self.tooltip = tooltip

    def show(self, name: str, value: str) -> None:
        if self._shown == (name, value):
            return
        wider = cell_len("".join(self._shown)) != cell_len(name + value)
        self._shown = (name, value)
        content = Content.assemble((f"{name} ", "$muted") if name else "", (value, "bold $primary"))
        self.update(content, layout=wider)  # To lay the screen out anew takes longer than all the rest.

    def on_click(self, event: events.Click) -> None:
        event.stop()
        self.post_message(ChipPressed(self._action))


class KeyBar(Footer):
    """The keys that work right now, in order of importance, as many as fit the width."""

    def __init__(self) -> None:
        super().__init__(show_command_palette=False, compact=True)

    def compose(self) -> ComposeResult:
        left = self.app.size.width  # Its own padding, and the gap that the last key does without.
        for key in self._keys():
            left -= cell_len(key.key_display) + 1 + cell_len(key.description) + 1
            if left < 0:
                return
            yield key

    def _keys(self) -> list[FooterKey]:
        keys: list[FooterKey] = []
        for widget in super().compose():
            _collect(widget, keys)
        keys.sort(key=_importance)
        return keys

    def on_resize(self) -> None:
        self.call_after_refresh(self.recompose)


def _importance(key: FooterKey) -> int:
    """What every screen has comes after what a person came for, and before what is seldom changed."""
    return _ORDER.get(key.action, 0)


_SELDOM = (
    *("filter", "cycle_family", "cycle_sort", "cycle_positions", "cycle_mode", "app.next_theme"),
    *("width", "choices", "search", "models"),
)
_SECOND = ("study", "find_set", "cycle_beside", "measure")
_ORDER = {"app.help": 1, "command_palette": 2, "app.quit": 4} | dict.fromkeys(_SECOND, 3) | dict.fromkeys(_SELDOM, 5)


def _collect(widget: Widget, keys: list[FooterKey]) -> None:
    if isinstance(widget, FooterKey):
        keys.append(widget)
