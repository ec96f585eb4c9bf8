"""The leak tests of an edit as they run: a row each, and under them what the marked one found."""

from __future__ import annotations

from textual.content import Content

from knowscope_tui.core.proof import Leak, LeakResult, LeakTest
from knowscope_tui.text import count, cut, fit, visible
from knowscope_tui.tui.messages import LeakMarked
from knowscope_tui.tui.widgets.rows import RowsTable, moving_keys

_TEST = 38


class LeaksTable(RowsTable[LeakTest]):
    """Waiting, running, done or not run: every test has a row from the start."""

    BINDINGS = moving_keys("leaks", "test")

    def __init__(self) -> None:
        super().__init__("leaks", "")
        self._results: dict[LeakTest, LeakResult] = {}
        self._running = False
        self._asked = False
        self.set_rows(list(LeakTest), 0)

    def begin(self, *, asked: bool) -> None:
        """Another edit is measured, with its leaks tested if that is `asked`."""
        self._results, self._running, self._asked = {}, asked, asked
        self.refresh()
        self.cursor_moved()

    def add(self, result: LeakResult) -> None:
        self._results[result.test] = result
        self.refresh()
        self.cursor_moved()

    def end(self) -> None:
        """Nothing more comes."""
        self._running = False
        self.refresh()

    @property
    def done(self) -> int:
        return len(self._results)

    def heading(self, width: int) -> Content:
        return Content.styled(f"{' leak test':<{_TEST}}{'facts that leak':<20}{'seconds':>8}", "$muted")

    def line(self, row: LeakTest, width: int, at_cursor: bool) -> Content:
        result = self._results.get(row)
        if result is None:
            return Content.assemble(fit(f" {row.value}", _TEST), (self._state(row), "" if at_cursor else "$muted"))
        leaking = len(result.leaking)
        said = f"{leaking} of {result.tested} leak" if result.tested else "not known before"
        sign, style = ("! ", "$warning") if leaking else ("● ", "$success") if result.tested else ("· ", "$muted")
        return Content.assemble(
            fit(f" {row.value}", _TEST),
            (sign + said.ljust(18), "" if at_cursor else style),
            f"{result.seconds:>8.1f}",
        )

    def _state(self, test: LeakTest) -> str:
        if not self._running:
            return "not run"
        left = [one for one in LeakTest if one not in self._results]
        return "◌ running…" if left and test is left[0] else "waiting"

    def cursor_moved(self) -> None:
        if self.is_mounted:
            self.post_message(LeakMarked())

    def detail(self) -> Content:
        """What the marked test did, and which facts leak, by name."""
        result = self._results.get(self.row) if self.row is not None else None
        if result is None:
            return Content("")
        lines = [Content.styled(visible(result.note), "$muted")] if result.note else []
        if result.leaking:
            named = ", ".join(_named(leak) for leak in result.leaking[:6])
            more = len(result.leaking) - 6
            tail = f" and {count(more, 'other')}" if more > 0 else ""
            lines.append(Content.styled(f"leaks: {named}{tail}", "$warning"))
        return Content("\n").join(lines)


def _named(leak: Leak) -> str:
    name = leak.fact.id or leak.fact.subject or cut(leak.fact.prompt, 30)
    return visible(f"{name} ({leak.detail})" if leak.detail else f"{name} ({leak.leaked} of {leak.tried})")
