"""Requests: what a face may ask of the session, looking and editing apart from dictionaries."""

from __future__ import annotations

from dataclasses import dataclass

from knowscope_tui.core.dictionaries import Choice, DictionarySource
from knowscope_tui.core.edits import EditSpec
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.readings import Ablation
from knowscope_tui.core.saved import SaveOptions
from knowscope_tui.core.studies import StudyName
from knowscope_tui.session.protocol.source import SourceSpec


@dataclass(frozen=True)
class Request:
    """Something asked of the session. `replaceable` requests give way to a later one of their kind."""

    revision: int

    @property
    def replaceable(self) -> bool:
        return False


@dataclass(frozen=True)
class Open(Request):
    """Load a model and its dictionaries. Answered by `Opened`."""

    source: SourceSpec


@dataclass(frozen=True)
class UseDictionaries(Request):
    """Put other dictionaries beside the open model. Answered by `DictionariesOpened`."""

    dictionaries: tuple[DictionarySource, ...]
    choice: Choice = Choice()


@dataclass(frozen=True)
class RunSelfTest(Request):
    """Test what is open. Answered by `SelfTested`."""

    @property
    def replaceable(self) -> bool:
        return True


@dataclass(frozen=True)
class Probe(Request):
    """Look at a fact. Without an answer the model's own top token is taken. Answered by `Probed`, ranked by
    attribution, with every active feature and the strongest neurons."""

    prompt: str
    answer: str | None = None
    position: int | None = None
    """Index of the token that units are read at; None is the last one."""

    @property
    def replaceable(self) -> bool:
        return True


@dataclass(frozen=True)
class SweepUnits(Request):
    """Measure what each active unit does by itself beside what is `given`: every feature, then neurons for
    `neuron_seconds`. Answered by one `Swept` after another; asked again, it goes on where it was stopped."""

    prompt: str
    answer: str
    position: int | None = None
    given: Ablation = Ablation()
    neuron_seconds: float = 10.0

    @property
    def replaceable(self) -> bool:
        return True


@dataclass(frozen=True)
class FindSet(Request):
    """Look for the smallest set of features that brings P(answer) to `below`, of at most `most` units. Answered by a
    `SetFound` for each step, the last of which is final."""

    prompt: str
    answer: str
    position: int | None = None
    below: float = 0.05
    most: int = 20

    @property
    def replaceable(self) -> bool:
        return True


@dataclass(frozen=True)
class Ablate(Request):
    """Measure an ablation, with continuations of `continuation` tokens. Answered by `AblationMeasured` at once, and by
    a second one with the continuations."""

    prompt: str
    answer: str
    ablation: Ablation
    position: int | None = None
    continuation: int = 12

    @property
    def replaceable(self) -> bool:
        return True


# --- editing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlanEdit(Request):
    """Count what an edit would change. Answered by `EditPlanned`.

    A method that optimises is not carried out for this: its plan says how many positions it may use.
    """

    spec: EditSpec

    @property
    def replaceable(self) -> bool:
        return True


@dataclass(frozen=True)
class FindFrontier(Request):
    """Measure erasure against damage over a ladder of τ2. Answered by one `FrontierGrown` after another."""

    spec: EditSpec

    @property
    def replaceable(self) -> bool:
        return True


@dataclass(frozen=True)
class PreviewEdit(Request):
    """Apply an edit, measure it and take it back. `neighbors` None means the demo's other facts. Answered by
    `EditMeasured` with a report whose `applied` is False, and with `leaks` by a `LeakTested` for each leak test."""

    spec: EditSpec
    neighbors: tuple[Fact, ...] | None = None
    leaks: bool = False

    @property
    def replaceable(self) -> bool:
        return True


@dataclass(frozen=True)
class ApplyEdit(Request):
    """Apply an edit and measure it. Answered by `EditMeasured` with `applied` True and `JournalChanged`, and with
    `leaks` by a `LeakTested` for each leak test."""

    spec: EditSpec
    neighbors: tuple[Fact, ...] | None = None
    leaks: bool = False


@dataclass(frozen=True)
class Undo(Request):
    """Take the last applied edit back, bit for bit. Answered by `JournalChanged`."""


@dataclass(frozen=True)
class Redo(Request):
    """Apply the edit numbered `number` again, or the last undone one, after all others. Answered by
    `JournalChanged`."""

    number: int | None = None


@dataclass(frozen=True)
class SwitchEdit(Request):
    """Switch the edit numbered `number` of the journal off or on, in its place. Answered by `JournalChanged`."""

    number: int
    on: bool


@dataclass(frozen=True)
class PlanSave(Request):
    """Say what saving to `folder` would write and link. Answered by `SavePlanned`."""

    folder: str
    options: SaveOptions = SaveOptions()

    @property
    def replaceable(self) -> bool:
        return True


@dataclass(frozen=True)
class Save(Request):
    """Save the edited model as a checkpoint folder. Answered by `Saved`."""

    folder: str
    options: SaveOptions = SaveOptions()


@dataclass(frozen=True)
class RunStudy(Request):
    """Carry a study out in `folder`, on at most `limit` facts that the model brings along; one that was stopped there
    goes on. Answered by `StudyGrown` as often as there is more to show."""

    name: StudyName
    folder: str
    limit: int | None = None
