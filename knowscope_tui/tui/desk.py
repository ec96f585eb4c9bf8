"""The desk between the screens and the session: who asked what, and who still wants to hear.

A question is asked in a named slot. A later question in the same slot replaces the earlier one, whose events are then
nobody's and are dropped.

Each lane has a thread of its own, so that a download never stands in front of a question to the model, nor in front of
a look at what there is to download. Revisions are unique across lanes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from knowscope_tui.session.protocol import (
    Event,
    Failed,
    Finished,
    ListReleases,
    Open,
    Progress,
    PullDictionaries,
    Request,
    ShowRelease,
    SourceSpec,
    Stopped,
)
from knowscope_tui.session.runner import Handler, Post, Runner

Hear = Callable[[Event], None]

MODEL = "model"


class Urgency(IntEnum):
    """What gives way to what: a question stops those of its lane that are less urgent."""

    SELFTEST = 0
    STUDY = 1
    SWEEP = 2
    PERSON = 3
    """Somebody waits for the answer."""


_LANES: dict[type[Request], str] = {ListReleases: "shelf", ShowRelease: "shelf", PullDictionaries: "pulls"}


def late_session() -> Handler:
    """The program's session. Called on the runner's thread: this imports torch, which takes seconds."""
    from knowscope_tui.session.session import Session

    return Session()


def late_shelf() -> Handler:
    """The program's shelf of published dictionaries. Called on the thread that asks it."""
    from knowscope_tui.session.shelf import Shelf

    return Shelf()


@dataclass
class _Asked:
    slot: str
    request: Request
    hear: Hear
    doing: str
    urgency: Urgency
    fraction: float | None = None

    @property
    def lane(self) -> str:
        return _LANES.get(type(self.request), MODEL)


class Desk:
    """Numbers requests, hands them to the runner of their lane, and brings each event to the one who asked."""

    def __init__(
        self,
        make_handler: Callable[[], Handler],
        post: Post,
        activity: Callable[[], None],
        make_shelf: Callable[[], Handler] = late_shelf,
    ) -> None:
        self._runners = {MODEL: Runner(make_handler, post)}
        self._make_shelf = make_shelf
        self._post = post
        self._activity = activity
        self._open: dict[int, _Asked] = {}
        self._revision = 0

    def start(self, source: SourceSpec, hear: Hear) -> None:
        """Starts the model's thread and asks it to open `source`."""
        self._runners[MODEL].start()
        self.ask("open", lambda revision: Open(revision, source), hear, "Loading torch")

    def ask(
        self,
        slot: str,
        make: Callable[[int], Request],
        hear: Hear,
        doing: str,
        *,
        urgency: Urgency = Urgency.PERSON,
    ) -> int:
        """Asks what `make` makes of a fresh revision; `hear` gets its events. `doing` says what is going on."""
        self._revision += 1
        for revision in [revision for revision, asked in self._open.items() if asked.slot == slot]:
            del self._open[revision]
        asked = _Asked(slot, make(self._revision), hear, doing, urgency)
        self._stop_less_urgent(asked)
        self._open[self._revision] = asked
        self._runner(asked.lane).submit(asked.request)
        self._activity()
        return self._revision

    def _runner(self, lane: str) -> Runner:
        if lane not in self._runners:
            self._runners[lane] = Runner(self._make_shelf, self._post)
            self._runners[lane].start()
        return self._runners[lane]

    def _stop_less_urgent(self, new: _Asked) -> None:
        for revision, asked in self._open.items():
            if asked.urgency < new.urgency and asked.lane == new.lane:
                self._runner(asked.lane).cancel(revision)

    def cancel(self, slot: str) -> None:
        """Asks the question in `slot` to stop; its `Stopped` is still heard."""
        for revision, asked in list(self._open.items()):
            if asked.slot == slot:
                self._runner(asked.lane).cancel(revision)

    def drop(self, slot: str) -> None:
        """Cancels the question in `slot` and hears nothing more of it."""
        dropped = [(revision, asked) for revision, asked in self._open.items() if asked.slot == slot]
        for revision, asked in dropped:
            del self._open[revision]
            self._runner(asked.lane).cancel(revision)
        if dropped:
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

    def takes(self, urgency: Urgency) -> bool:
        """Whether the model is asked nothing as urgent as that."""
        return all(asked.lane != MODEL or asked.urgency < urgency for asked in self._open.values())

    def asking(self, slot: str) -> bool:
        return any(asked.slot == slot for asked in self._open.values())

    def progress(self, slot: str) -> tuple[str, float | None] | None:
        """What the question in `slot` does and how far it is; None when nobody asks it."""
        return next(((asked.doing, asked.fraction) for asked in self._open.values() if asked.slot == slot), None)

    @property
    def doing(self) -> tuple[str, float | None] | None:
        """What the model works on for a person and how far it is; None when it is free."""
        for asked in self._open.values():
            if asked.lane == MODEL and asked.urgency is Urgency.PERSON:
                return asked.doing, asked.fraction
        return None

    @property
    def busy(self) -> bool:
        """Whether anything at all is asked."""
        return bool(self._open)

    def close(self) -> None:
        for revision, asked in self._open.items():
            self._runner(asked.lane).cancel(revision)
        for lane, runner in self._runners.items():
            # A save that is asked to stop still has to remove what it wrote; a pull goes on where it was next time.
            runner.close(timeout=120.0 if lane == MODEL and self.asking("save") else 2.0)
