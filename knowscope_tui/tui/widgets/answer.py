"""The answer panel: the likeliest next tokens at this moment, beside what they were."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from knowscope_tui.core.readings import TokenProb
from knowscope_tui.text import bar, cut, fit, probability, token_text


@dataclass(frozen=True)
class AnswerView:
    """The answer's first token and both lists of top tokens. `was_means` says what the second list is."""

    answer: str
    p_now: float
    p_was: float
    top_now: tuple[TokenProb, ...]
    top_was: tuple[TokenProb, ...]
    was_means: str

    def rows(self) -> list[tuple[str, float | None, float | None]]:
        """The answer first, then every other token by its probability at this moment, then by what it was."""
        now = {row.token: row.p for row in self.top_now}
        was = {row.token: row.p for row in self.top_was}
        others = [token for token in {**now, **was} if not self._is_answer(token)]
        others.sort(key=lambda token: (now.get(token, -1.0), was.get(token, -1.0)), reverse=True)
        return [(self.answer, self.p_now, self.p_was), *((token, now.get(token), was.get(token)) for token in others)]

    def _is_answer(self, token: str) -> bool:
        return token_text(token) == token_text(self.answer)


class AnswerPanel(Widget):
    """A table with a bar for each token; with `compact`, one line."""

    ALLOW_SELECT = False

    compact = reactive(False, layout=True)

    def __init__(self) -> None:
        super().__init__(id="answers")
        self.border_title = "Answer"
        self._view: AnswerView | None = None

    def show(self, view: AnswerView | None) -> None:
        self._view = view
        self.border_subtitle = view.was_means if view is not None else ""
        self.refresh()

    def render(self) -> Content:
        view, width = self._view, self.content_size.width
        if view is None:
            return Content("")
        return self._line(view, width) if self.compact else self._table(view, width)

    def _table(self, view: AnswerView, width: int) -> Content:
        name = max(width - 19, 6)
        lines = [Content.styled(f"{'':{name + 6}}{'now':>6} {'was':>6}", "$muted")]
        for index, (token, now, was) in enumerate(view.rows()[: max(self.content_size.height - 1, 1)]):
            style = "bold" if index == 0 else ""
            bar_style = "$accent" if index == 0 else "$secondary"
            mark = "▸" if index == 0 else " "
            lines.append(
                Content.assemble(
                    (mark + fit(token_text(token), name - 2) + " ", style),
                    (bar(now or 0.0, 5) + " ", bar_style),
                    (f"{_cell(now):>6}", style),
                    (f" {_cell(was):>6}", "$muted"),
                )
            )
        return Content("\n").join(lines)

    def _line(self, view: AnswerView, width: int) -> Content:
        pieces: list[tuple[str, str]] = [("answer now│was ", "$muted")]
        left = width - len(pieces[0][0])
        for index, (token, now, was) in enumerate(view.rows()):
            text = f"{cut(token_text(token), 12)} {_cell(now)}│{_cell(was)}  "
            if len(text) > left:
                break
            pieces.append((text, "bold $accent" if index == 0 else ""))
            left -= len(text)
        return Content.assemble(*pieces)


def _cell(value: float | None) -> str:
    return probability(value).removeprefix("0")
