"""A study that runs behind everything a person asks: it gives way, and goes on where it was when the model is free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from knowscope_tui.core.studies import Findings, StudyName
from knowscope_tui.session.protocol import Event, Failed, Finished, Progress, RunStudy, Stopped, StudyGrown
from knowscope_tui.tui.desk import Desk, Urgency
from knowscope_tui.tui.said import Said

SLOT = "study"
STOPPED = Said("●", "stopped; what is measured is kept, and Run goes on from there", "$warning")


@dataclass(frozen=True)
class Wanted:
    """The study that a person asked for."""

    name: StudyName
    folder: str
    limit: int | None


@dataclass
class About:
    """What is known of one study."""

    wanted: Wanted | None = None
    """As it was asked for last."""
    findings: Findings | None = None
    growing: bool = False
    """Whether `findings` are of some of its items."""
    said: Said | None = None
    """How it ended."""


class Students:
    """The state of the study screen, which outlives it.

    `tell` says how a study ended to a person who looks at another one, or at none.
    """

    def __init__(self, desk: Desk, tell: Callable[[Said], None]) -> None:
        self._desk = desk
        self._tell = tell
        self._changed: Callable[[], None] = lambda: None
        self._watched: Callable[[], StudyName | None] = lambda: None
        self.asked: Wanted | None = None
        """The last study that was asked for."""
        self.doing: tuple[str, float | None] | None = None
        self._studies = {name: About() for name in StudyName}
        self._wanted = False

    def attach(self, changed: Callable[[], None], watched: Callable[[], StudyName]) -> None:
        """The screen is there: it hears of changes, and says which study is looked at."""
        self._changed, self._watched = changed, watched

    def detach(self) -> None:
        self._changed, self._watched = lambda: None, lambda: None

    @property
    def running(self) -> bool:
        """Whether it is measured or waits for its turn."""
        return self._wanted

    def about(self, name: StudyName) -> About:
        return self._studies[name]

    def run(self, wanted: Wanted) -> None:
        """Starts `wanted`, in place of what ran before."""
        if self._wanted and self.asked is not None and self.asked != wanted:
            self._note(self.asked.name, STOPPED, aloud=True)
        about = self.about(wanted.name)
        if wanted != about.wanted:
            about.findings, about.growing = None, False
        about.wanted, about.said = wanted, None
        self.asked, self._wanted = wanted, True
        self._wait(wanted.name)
        self._desk.drop(SLOT)
        self.when_free()
        self._changed()

    def stop(self) -> bool:
        """Stops it; what is measured is kept. Whether anything ran."""
        running, self._wanted = self._wanted, False
        if running and self.asked is not None:
            self._desk.drop(SLOT)
            self._end(self.asked.name, STOPPED)
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
                about = self.about(name)
                about.findings, about.growing = findings, not page
                if page:
                    self._wanted = False
                    self._note(name, Said("●", f"finished: {page}", "$success"))
            case Stopped():
                self._wait(name)
            case Failed(what=what, hint=hint):
                self._wanted = False
                self._end(name, Said("✗", f"{what} {hint}".strip(), "$error"))
            case Finished():
                self._wanted = False
                self.doing = None
            case _:
                return
        self._changed()

    def _end(self, name: StudyName, said: Said) -> None:
        self.doing = None
        self._note(name, said)
        self._changed()

    def _note(self, name: StudyName, said: Said, *, aloud: bool = False) -> None:
        self.about(name).said = said
        if aloud or self._watched() is not name:
            self._tell(Said(said.sign, f"Study {name.value}: {said.text}", said.style))

    def _wait(self, name: StudyName) -> None:
        self.doing = (f"{name.value}: waiting until the model is free", None)
