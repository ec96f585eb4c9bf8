"""The self-test of what is open: asked when the model is free, given up for any other question, asked again.

No widget in here, as in `microscope`.
"""

from __future__ import annotations

from collections.abc import Callable

from knowscope_tui.core.checks import SelfTest
from knowscope_tui.session.protocol import Event, Failed, RunSelfTest, SelfTested, Stopped
from knowscope_tui.tui.desk import Desk, Urgency

_SLOT = "selftest"


class SelfTester:
    """`result` is what the last test found of what is open now; `failure` is a sentence where it could not be made."""

    def __init__(self, desk: Desk, changed: Callable[[], None]) -> None:
        self._desk = desk
        self._changed = changed
        self._wanted = False
        self.result: SelfTest | None = None
        self.failure = ""

    def want(self) -> None:
        """What was found holds no longer; the test is made when the model is free."""
        self._desk.drop(_SLOT)
        self.result, self.failure, self._wanted = None, "", True
        self._changed()

    def when_free(self) -> None:
        """The model is free: asks for the test, if it is wanted."""
        if not self._wanted or not self._desk.takes(Urgency.SELFTEST):
            return
        self._desk.ask(_SLOT, RunSelfTest, self._hear, "Testing", urgency=Urgency.SELFTEST)
        self._changed()

    @property
    def waiting(self) -> bool:
        """Whether the test is wanted and not made yet."""
        return self._wanted

    @property
    def progress(self) -> tuple[str, float | None] | None:
        """What the test does and how far it is, while it runs."""
        return self._desk.progress(_SLOT)

    def _hear(self, event: Event) -> None:
        match event:
            case SelfTested(result=result):
                self.result, self._wanted = result, False
            case Failed():
                self.failure, self._wanted = f"{event.what} {event.hint}".strip(), False
            case Stopped():
                pass
        self._changed()
