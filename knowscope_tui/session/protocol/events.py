"""Events: what a face hears back."""

from __future__ import annotations

from dataclasses import dataclass

from knowscope_tui.core.checks import SelfTest
from knowscope_tui.core.dictionaries import EntryState, Pulled, ReleaseState
from knowscope_tui.core.edits import EditPlan, Frontier, JournalState
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.memory import MemoryPlan
from knowscope_tui.core.proof import EditReport, LeakResult
from knowscope_tui.core.readings import Effect, Reading, SweepPart, UnitSet
from knowscope_tui.core.saved import SavedCheckpoint, SavePlan
from knowscope_tui.core.studies import Findings, StudyName
from knowscope_tui.session.protocol.requests import Request
from knowscope_tui.session.protocol.source import ModelInfo


@dataclass(frozen=True)
class Event:
    """Something that happened, caused by the request of the same `revision`."""

    revision: int


@dataclass(frozen=True)
class Progress(Event):
    """Long work goes on: what it is doing, and how far it is (0 to 1), if that is known."""

    doing: str
    fraction: float | None = None


@dataclass(frozen=True)
class Opened(Event):
    """The model is ready. `facts` are suggestions to look at (the demo's)."""

    info: ModelInfo
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Planned(Event):
    """What the model and its dictionaries will take and where they will lie; loading follows."""

    plan: MemoryPlan


@dataclass(frozen=True)
class DictionariesOpened(Event):
    """Other dictionaries are in use."""

    info: ModelInfo


@dataclass(frozen=True)
class SelfTested(Event):
    result: SelfTest


@dataclass(frozen=True)
class ReleasesListed(Event):
    releases: tuple[ReleaseState, ...]


@dataclass(frozen=True)
class ReleaseShown(Event):
    """The entries of a release, those of its usual set first."""

    release: ReleaseState
    entries: tuple[EntryState, ...]


@dataclass(frozen=True)
class DictionariesPulled(Event):
    pulled: Pulled


@dataclass(frozen=True)
class Probed(Event):
    """A reading."""

    reading: Reading


@dataclass(frozen=True)
class Swept(Event):
    """Exact effects that were measured since the last part."""

    part: SweepPart


@dataclass(frozen=True)
class SetFound(Event):
    """The set so far. `final` is False while it still grows or is pruned."""

    found: UnitSet
    final: bool


@dataclass(frozen=True)
class AblationMeasured(Event):
    """What an ablation did. `final` is False while the continuations are still to come."""

    effect: Effect
    final: bool


@dataclass(frozen=True)
class EditPlanned(Event):
    plan: EditPlan


@dataclass(frozen=True)
class FrontierGrown(Event):
    """The frontier so far. `final` is False while points are still to come."""

    frontier: Frontier
    final: bool


@dataclass(frozen=True)
class EditMeasured(Event):
    """What an edit does. Its leak tests follow, where they were asked for."""

    report: EditReport


@dataclass(frozen=True)
class LeakTested(Event):
    """One leak test of the edit that was measured last; `number` of `tests` are done."""

    result: LeakResult
    number: int
    tests: int


@dataclass(frozen=True)
class JournalChanged(Event):
    """The journal is another one: an edit was applied, undone, redone or switched."""

    journal: JournalState


@dataclass(frozen=True)
class SavePlanned(Event):
    plan: SavePlan


@dataclass(frozen=True)
class Saved(Event):
    checkpoint: SavedCheckpoint


@dataclass(frozen=True)
class Stopped(Event):
    """The request was cancelled, or replaced before it started."""


@dataclass(frozen=True)
class Failed(Event):
    """The request failed: one sentence, and what to do next."""

    what: str
    hint: str
    request: Request


@dataclass(frozen=True)
class Finished(Event):
    """The request is done; nothing more comes with its revision."""


@dataclass(frozen=True)
class StudyGrown(Event):
    """What a study's rows come to so far; `page` is where the whole report lies once it is finished, "" before."""

    name: StudyName
    findings: Findings
    page: str = ""
