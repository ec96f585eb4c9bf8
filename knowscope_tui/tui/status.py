"""Carries what goes on to the top line, and says what a person should know about what is open, each thing once."""

from __future__ import annotations

from typing import Literal

from textual.screen import Screen

from knowscope_tui.text import visible
from knowscope_tui.tui.desk import Desk
from knowscope_tui.tui.librarian import PULL
from knowscope_tui.tui.microscope import Microscope
from knowscope_tui.tui.selftest import SelfTester
from knowscope_tui.tui.widgets.header import TopLine
from knowscope_tui.tui.words import done, problems


class Status:
    """Knows the top line of the main screen; `broken` says that no model could be opened."""

    def __init__(self, screen: Screen[None], desk: Desk, scope: Microscope, tester: SelfTester) -> None:
        self._screen, self._desk, self._scope, self._tester = screen, desk, scope, tester
        self._said: set[str] = set()
        self.broken = False

    def show_activity(self) -> None:
        top, doing = self._screen.query_one(TopLine), self._desk.doing
        if doing is not None:
            what, fraction = doing
            top.show_state("◌", visible(what.rstrip(".… ")), "$warning", done(fraction))
            return
        pull = self._desk.progress(PULL)
        pulling = f"  ↓ pulling{done(pull[1])}" if pull is not None else ""
        if self.broken:
            top.show_state("✗", "no model", "$error", pulling)
        else:
            top.show_state("●", "ready", "$success", pulling)

    def show_test(self) -> None:
        """What the self-test found or how far it is; what it found wrong is said too."""
        tester, progress = self._tester, self._tester.progress
        otherwise = f"testing{done(progress[1])}" if progress is not None else "! not tested" if tester.failure else ""
        self._screen.query_one(TopLine).show_test(tester.result, otherwise)
        if tester.failure:
            self._say_once(f"The self-test failed: {tester.failure}", "warning")
        for problem in problems(tester.result) if tester.result is not None else ():
            self._say_once(f"Self-test: {problem} Press l, then i.", "warning")

    def remark(self) -> None:
        """Says what a person should know about what was opened."""
        for remark in self._scope.info.remarks if self._scope.info is not None else ():
            self._say_once(remark, "information")

    def _say_once(self, text: str, severity: Literal["information", "warning"]) -> None:
        if text not in self._said:
            self._said.add(text)
            self._screen.app.notify(visible(text), severity=severity, timeout=10, markup=False)
