"""The top line: what is open, what was edited, what is being done, and the answer's probability."""

from __future__ import annotations

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.widget import Widget

from knowscope_tui.core.checks import SelfTest
from knowscope_tui.session.protocol import ModelInfo
from knowscope_tui.text import count, cut, fit, visible
from knowscope_tui.tui.messages import ChipPressed
from knowscope_tui.tui.words import model_parts, plan_line, problems, verdicts

NAME = " knowscope "
ROOM_FOR_VERDICT = 104
"""Columns from which on the self-test's result stands here when all is well; what is wrong stands here always."""


class TopLine(Widget):
    """One line; what is open gives way to the state on the right when there is little room."""

    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__(id="top")
        self._info: ModelInfo | None = None
        self._test: SelfTest | None = None
        self._testing = ""
        self._journal = ""
        self._state = ("◌", "starting", "", "$warning")
        self._answer = ""
        self._verdict_at = range(0)

    def show_model(self, info: ModelInfo) -> None:
        self._info = info
        self._explain()
        self.refresh()

    def show_test(self, test: SelfTest | None, otherwise: str = "") -> None:
        """What the self-test found; while it found nothing yet, how far it is or why there is none."""
        self._test, self._testing = test, otherwise
        self._explain()
        self.refresh()

    def show_journal(self, edits: int, unsaved: bool) -> None:
        self._journal = f"{count(edits, 'edit')} · {'unsaved' if unsaved else 'saved'}" if edits else ""
        self.refresh()

    def show_state(self, sign: str, words: str, style: str, done: str = "") -> None:
        """What goes on; `done`, how far it is, is never cut."""
        self._state = (sign, words, done, style)
        self.refresh()

    def show_answer(self, text: str) -> None:
        self._answer = text
        self.refresh()

    def _explain(self) -> None:
        lines = []
        if self._info is not None:
            lines = [" · ".join(text for text, _ in model_parts(self._info)), plan_line(self._info.plan)]
        if self._test is not None:
            lines += [verdicts(self._test)[0], *problems(self._test)]
        self.tooltip = Content("\n".join(lines)) if lines else None

    # --- drawing ----------------------------------------------------------------------------------------------------

    def render(self) -> Content:
        width = self.content_size.width
        right = self._right(width)
        room = width - len(NAME) - _length(right) - 3
        verdict = self._verdict(width, room)
        if verdict is not None:
            right = [verdict, *right]
            room -= cell_len(verdict[0]) + 3
        start = len(NAME) + room + 2
        self._verdict_at = range(start, start + cell_len(verdict[0])) if verdict is not None else range(0)
        spaced = [piece for pair in zip(right, [("   ", "")] * len(right), strict=True) for piece in pair][:-1]
        return Content.assemble(
            (NAME, "bold $primary reverse"), " ", (fit(self._opened(room), room), "$muted"), " ", *spaced
        )

    def _right(self, width: int) -> list[tuple[str, str]]:
        sign, words, done, style = self._state
        longest = (34 if self._info is not None else width - len(NAME) - 8) - len(done)
        pieces = [(f"✎ {self._journal}", "bold $warning")] if self._journal else []
        pieces.append((f"{sign} {cut(words, longest)}{done}", f"bold {style}"))
        if self._answer:
            pieces.append((cut(visible(self._answer), 24), "bold"))
        return pieces

    def _verdict(self, width: int, room: int) -> tuple[str, str] | None:
        """The longest form that leaves what is open whole; else the shortest."""
        if self._test is None:
            return (self._testing, "$muted") if self._testing and width >= ROOM_FOR_VERDICT else None
        passed, forms = self._test.passed, verdicts(self._test)
        if passed and width < ROOM_FOR_VERDICT:
            return None
        whole = cell_len(self._opened(10_000))
        text = next((form for form in forms if cell_len(form) + 3 + whole <= room), forms[-1])
        return text, "$success" if passed else "bold $error"

    def _opened(self, room: int) -> str:
        """What is open, without the pieces that find no room."""
        if self._info is None:
            return ""
        parts = model_parts(self._info)
        while True:
            line = " · ".join(text for text, _ in parts)
            if cell_len(line) <= room or len(parts) == 1:
                return line
            parts.remove(max(parts, key=lambda part: part[1]))

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is not None and offset.x in self._verdict_at:
            self.post_message(ChipPressed("library('in use')"))


def _length(pieces: list[tuple[str, str]]) -> int:
    return sum(cell_len(text) for text, _ in pieces) + 3 * (len(pieces) - 1)
