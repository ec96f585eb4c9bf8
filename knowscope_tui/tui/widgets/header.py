"""The top line: what is open, what was edited, what is being done, and the answer's probability."""

from __future__ import annotations

from rich.cells import cell_len
from textual.content import Content
from textual.widget import Widget

from knowscope_tui.session.protocol import ModelInfo
from knowscope_tui.text import count, cut, fit, visible


class TopLine(Widget):
    """One line; what is open gives way to the state on the right when there is little room."""

    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__(id="top")
        self._opened = ""
        self._journal = ""
        self._state = ("◌", "starting", "$warning")
        self._answer = ""

    def show_model(self, info: ModelInfo) -> None:
        kinds = " ".join(kind.value for kind in info.dictionary_kinds) or "no dictionaries"
        widths = "/".join(str(width) for width in info.features_per_site)
        dtype = info.dtype.replace("bfloat", "bf").replace("float", "f")
        parts = [visible(info.name), f"{info.device} {dtype}", f"{info.n_layers} layers", kinds]
        if widths:
            parts.append(f"{widths} features/site")
        self._opened = " · ".join(parts)
        self.refresh()

    def show_journal(self, edits: int, unsaved: bool) -> None:
        self._journal = f"{count(edits, 'edit')} · {'unsaved' if unsaved else 'saved'}" if edits else ""
        self.refresh()

    def show_state(self, sign: str, words: str, style: str) -> None:
        self._state = (sign, words, style)
        self.refresh()

    def show_answer(self, text: str) -> None:
        self._answer = text
        self.refresh()

    def render(self) -> Content:
        width = self.content_size.width
        sign, words, style = self._state
        pieces = []
        if self._journal:
            pieces.append((f"✎ {self._journal}", "bold $warning"))
        pieces.append((f"{sign} {cut(words, 34)}", f"bold {style}"))
        if self._answer:
            pieces.append((cut(visible(self._answer), 24), "bold"))
        right = sum(cell_len(text) for text, _ in pieces) + 3 * (len(pieces) - 1)
        name = " knowscope "
        room = width - len(name) - right - 3
        spaced = [piece for pair in zip(pieces, [("   ", "")] * len(pieces), strict=True) for piece in pair][:-1]
        return Content.assemble((name, "bold $primary reverse"), " ", (fit(self._opened, room), "$muted"), " ", *spaced)
