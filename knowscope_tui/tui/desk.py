"""The desk between the screens and the session: who asked what, and who still wants to hear.

A question is asked in a named slot. A later question in the same slot replaces the earlier one, whose events are then
nobody's and are dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from knowscope_tui.session.protocol import Event, Failed, Finished, Open, Progress, Request, SourceSpec, Stopped
from knowscope_tui.session.runner import Handler, Post, Runner

Hear = Callable[[Event], None]


def late_session() -> Handler:
    """The program's session. Called on the runner's thread: this imports torch, which takes seconds."""
    from knowscope_tui.session.session import Session

    return Session()


@dataclass
class _Asked:
    slot: str
    request: Request
    hear: Hear
    doing: str
    fraction: float | None = None


class Desk:
    """Numbers requests, hands them to the runner, and brings each event to the one who asked."""

    def __init__(self, make_handler: Callable[[], Handler], post: Post, activity: Callable[[], None]) -> None:
        self._runner = Runner(make_handler, post)
        self._activity = activity
        self._open: dict[int, _Asked] = {}
        self._revision = 0

    def start(self, source: SourceSpec, hear: Hear) -> None:
        """Starts the runner's thread and asks it to open `source`."""
        self._runner.start()
        self.ask("open", lambda revision: Open(revision, source), hear, "Loading torch")

    def ask(self, slot: str, make: Callable[[int], Request], hear: Hear, doing: str) -> int:
        """Asks what `make` makes of a fresh revision; `hear` gets its events. `doing` says what is going on."""
        self._revision += 1
        for revision in [revision for revision, asked in self._open.items() if asked.slot == slot]:
            del self._open[revision]
        request = make(self._revision)
        self._open[self._revision] = _Asked(slot, request, hear, doing)
        self._runner.submit(request)
        self._activity()
        return self._revision

    def cancel(self, slot: str) -> None:
        """Asks the question in `slot` to stop; its `Stopped` is still heard."""
        for revision, asked in list(self._open.items()):
            if asked.slot == slot:
                self._runner.cancel(revision)

    def drop(self, slot: str) -> None:
        """Cancels the question in `slot` and hears nothing more of it."""
        for revision, asked in list(self._open.items()):
            if asked.slot == slot:
                del self._open[revision]
                self._runner.cancel(revision)
        self._activity()

    def take(self, event: Event) -> None:
        """Brings `event` to the one who asked; an event of a question nobody asks any more is dropped."""
        asked = self._open.get(event.revision)
        if asked is None:
            return
        if isinstance(event, Progress):
            asked.doing, asked.fraction = event.doing, event.fraction
        if isinstance(event, (Finished, Stopped, Failed)):
            del self._open[event.revision]
        asked.hear(event)
        self._activity()

    def asking(self, slot: str) -> bool:
        return any(asked.slot == slot for asked in self._open.values())

    @property
    def doing(self) -> tuple[str, float | None] | None:
        """What the session works on and how far it is; None when it is idle."""
        for asked in self._open.values():
            return asked.doing, asked.fraction
        return None

    def close(self) -> None:
        # A save that is asked to stop still has to remove what it wrote.
        self._runner.close(timeout=120.0 if self.asking("save") else 2.0)
