"""The prompt's tokens in one line, with the reading position marked."""

from __future__ import annotations

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.widget import Widget

from knowscope_tui.text import cut, token_text
from knowscope_tui.tui.messages import PositionPicked


class TokenStrip(Widget):
    """Tokens in a row; those that do not fit are passed over around the reading position. A click moves it."""

    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__(id="tokens")
        self._tokens: tuple[str, ...] = ()
        self._position = 0
        self._places: list[tuple[int, int, int]] = []
        self.tooltip = "Click a token to read units there; ← and → move too."

    def show(self, tokens: tuple[str, ...], position: int) -> None:
        self._tokens, self._position = tokens, position
        self.refresh()

    def render(self) -> Content:
        self._places = []
        if not self._tokens:
            return Content.styled("The tokens of the fact stand here once it is read.", "$muted")
        last = len(self._tokens) - 1
        where = "last token" if self._position == last else f"token {self._position + 1} of {last + 1}"
        note = f"reading at: {where}  ←/→ moves"
        width = self.content_size.width
        if width < 70:
            note = f"at: {where}  ←/→"
        room = width - cell_len(note) - 2
        strip = self._strip(room)
        return Content.assemble(strip, " " * (room - strip.cell_length + 2), (note, "$muted"))

    def _strip(self, room: int) -> Content:
        """The longest run of tokens around the reading position that fits `room` cells."""
        texts = [cut(token_text(token), 20) for token in self._tokens]
        widths = [cell_len(text) + 2 for text in texts]
        first, last = self._window(widths, room - 4)
        pieces: list[Content | tuple[str, str]] = [("… ", "$muted")] if first else []
        at = 2 if first else 0
        for index in range(first, last + 1):
            here = index == self._position
            pieces.append((f"[{texts[index]}]" if here else f" {texts[index]} ", "bold reverse" if here else ""))
            self._places.append((at, at + widths[index], index))
            at += widths[index]
        if last < len(texts) - 1:
            pieces.append((" …", "$muted"))
        return Content.assemble(*pieces)

    def _window(self, widths: list[int], room: int) -> tuple[int, int]:
        if sum(widths) <= room + 4:
            return 0, len(widths) - 1
        first = last = self._position
        used = widths[first]
        while True:
            grown = False
            if first > 0 and used + widths[first - 1] <= room:
                first -= 1
                used += widths[first]
                grown = True
            if last < len(widths) - 1 and used + widths[last + 1] <= room:
                last += 1
                used += widths[last]
                grown = True
            if not grown:
                return first, last

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None:
            return
        for start, end, index in self._places:
            if start <= offset.x < end:
                self.post_message(PositionPicked(index))
