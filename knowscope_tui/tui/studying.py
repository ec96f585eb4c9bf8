"""A study that runs behind everything a person asks: it gives way, and goes on where it was when the model is free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from knowscope_tui.core.studies import Findings, StudyName
from knowscope_tui.session.protocol import Event, Failed, Finished, Progress, RunStudy, Stopped, StudyGrown
from knowscope_tui.tui.desk import Desk, Urgency

SLOT = "study"


@dataclass(frozen=True)
class Wanted:
    """The study that a person asked for."""

    name: StudyName
    folder: str
    limit: int | None


class Students:
    """The state of the study screen, which outlives it."""

    def __init__(self, desk: Desk, tell: Callable[[str], None]) -> None:
        self._desk = desk
        self._tell = tell
        """Says how a study ended to whoever does not look at it."""
        self._watched = False
        self._changed: Callable[[], None] = lambda: None
        self.asked: Wanted | None = None
        """The last study that was asked for."""
        self.findings: dict[StudyName, Findings] = {}
        """What is known of each study that was asked for."""
        self.growing: set[StudyName] = set()
        """Those whose findings are of some of their items."""
        self.doing: tuple[str, float | None] | None = None
        self.said: dict[StudyName, tuple[str, str]] = {}
        """How each ended, and the style of that."""
        self._last: dict[StudyName, Wanted] = {}
        self._wanted = False

    def attach(self, changed: Callable[[], None]) -> None:
        self._changed, self._watched = changed, True

    def detach(self) -> None:
        self._changed, self._watched = lambda: None, False

    @property
    def running(self) -> bool:
        """Whether it is measured or waits for its turn."""
        return self._wanted

    def run(self, wanted: Wanted) -> None:
        """Starts `wanted`, in place of what ran before."""
        if wanted != self._last.get(wanted.name):
            self.findings.pop(wanted.name, None)
        self._last[wanted.name] = wanted
        self.said.pop(wanted.name, None)
        self.asked, self._wanted, self.doing = wanted, True, ("Waiting until the model is free", None)
        self._desk.drop(SLOT)
        self.when_free()
        self._changed()

    def stop(self) -> bool:
        """Stops it; what is measured is kept. Whether anything ran."""
        running, self._wanted = self._wanted, False
        if running and self.asked is not None:
            self._desk.drop(SLOT)
            self._end(self.asked.name, "● stopped; what is measured is kept, and Run goes on from there", "$warning")
        return running

    def when_free(self) -> None:
        """The model is free: goes on, if it is wanted and does not run."""
        wanted = self.asked
        if wanted is None or not self._wanted or self._desk.asking(SLOT) or not self._desk.takes(Urgency.STUDY):
            return
        self._desk.ask(
            SLOT,
            lambda revision: RunStudy(revision, wanted.name, wanted.folder, wanted.limit),
            lambda event: self._hear(wanted.name, event),
            f"Study {wanted.name.value}",
            urgency=Urgency.STUDY,
        )

    def _hear(self, name: StudyName, event: Event) -> None:
        match event:
            case Progress(doing=doing, fraction=fraction):
                self.doing = (doing, fraction)
            case StudyGrown(findings=findings, page=page):
                self.findings[name] = findings
                self.growing.add(name)
                if page:
                    self.growing.discard(name)
                    self._note(name, f"● finished: {page}", "$success")
            case Stopped():
                self.doing = ("Waiting until the model is free", None)
            case Failed(what=what, hint=hint):
                self._wanted = False
                self._end(name, f"✗ {what} {hint}".strip(), "$error")
            case Finished():
                self._wanted = False
                self.doing = None
            case _:
                return
        self._changed()

    def _end(self, name: StudyName, text: str, style: str) -> None:
        self.doing = None
        self._note(name, text, style)
        self._changed()

    def _note(self, name: StudyName, text: str, style: str) -> None:
        self.said[name] = (text, style)
        if not self._watched:
            self._tell(f"Study {name.value}: {text[2:]}")
