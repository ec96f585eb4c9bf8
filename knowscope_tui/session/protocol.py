"""What a face may ask of the session, and what it hears back. Frozen values only; nothing here imports torch.

Every request carries a `revision`, chosen by the asker and returned with each event it causes, so that an asker can
drop what belongs to a question it no longer asks.
"""

from __future__ import annotations

from dataclasses import dataclass

from knowscope_tui.core.checks import SelfTest
from knowscope_tui.core.dictionaries import Choice, DictionarySource, EntryState, Pulled, ReleaseState
from knowscope_tui.core.edits import EditPlan, EditReport, EditSpec, SavedCheckpoint
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.memory import MemoryPlan
from knowscope_tui.core.readings import Ablation, Effect, Reading, SweepPart, UnitSet
from knowscope_tui.core.units import Site, SiteKind


@dataclass(frozen=True)
class SourceSpec:
    """Which model and dictionaries to open. No model means the demo with its own dictionaries."""

    model: str | None = None
    """A folder, or a hub name with or without @revision."""
    dictionaries: tuple[DictionarySource, ...] | None = None
    """For each `--sae`; None is the usual set of the model, () is none at all."""
    choice: Choice = Choice()
    device: str = "auto"
    dtype: str = "auto"
    sae_dtype: str = "bfloat16"
    """What converted dictionaries are kept in: bfloat16 or float32."""
    sae_memory: int | None = None
    """Bytes of the device that encoders may take; None is what the plan allows."""
    chat: bool = False
    """Whether prompts go through the model's chat template."""
    offline: bool = False


@dataclass(frozen=True)
class DictionaryInUse:
    """A dictionary that is open."""

    site: Site
    source: str
    features: int
    architecture: str
    dtype: str
    expected_l0: float | None


@dataclass(frozen=True)
class ModelInfo:
    """What is open, in numbers and words."""

    name: str
    is_demo: bool
    trained_on: str | None
    """The published model that this one is or was tuned from, as releases name it: gemma-2-2b."""
    chat: bool
    device: str
    dtype: str
    n_layers: int
    d_model: int
    n_neurons: int
    """Neurons in each layer."""
    context: int
    parameters: int
    dictionary_kinds: tuple[SiteKind, ...]
    features_per_site: tuple[int, ...]
    """The distinct widths of the loaded dictionaries, ascending."""
    dictionaries: tuple[DictionaryInUse, ...]
    plan: MemoryPlan
    remarks: tuple[str, ...] = ()
    """What a person should know about what was opened, each in a sentence."""


# --- requests -------------------------------------------------------------------------------------------------------


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


@dataclass(frozen=True)
class PlanEdit(Request):
    """Count what an edit would change. Answered by `EditPlanned`."""

    spec: EditSpec

    @property
    def replaceable(self) -> bool:
        return True


@dataclass(frozen=True)
class PreviewEdit(Request):
    """Apply an edit, measure it and take it back. `neighbors` None means the demo's other facts. Answered by
    `EditMeasured` with a report whose `applied` is False."""

    spec: EditSpec
    neighbors: tuple[Fact, ...] | None = None

    @property
    def replaceable(self) -> bool:
        return True


@dataclass(frozen=True)
class ApplyEdit(Request):
    """Apply an edit and measure it. Answered by `EditMeasured` with `applied` True."""

    spec: EditSpec
    neighbors: tuple[Fact, ...] | None = None


@dataclass(frozen=True)
class Undo(Request):
    """Take the last applied edit back, bit for bit. Answered by `Undone`."""


@dataclass(frozen=True)
class Save(Request):
    """Save the edited model as a checkpoint folder. Answered by `Saved`."""

    folder: str


# Requests about published dictionaries. They touch no model, and go to a thread of their own (`session.shelf`).


@dataclass(frozen=True)
class ListReleases(Request):
    """Look releases up: those for the model `model` (all when None) whose name holds every word of `words`. Answered
    by `ReleasesListed`."""

    words: str = ""
    model: str | None = None
    sae_dtype: str = "bfloat16"

    @property
    def replaceable(self) -> bool:
        return True


@dataclass(frozen=True)
class ShowRelease(Request):
    """Say what a release holds. Answered by `ReleaseShown`."""

    release: str
    sae_dtype: str = "bfloat16"

    @property
    def replaceable(self) -> bool:
        return True


@dataclass(frozen=True)
class PullDictionaries(Request):
    """Download and convert dictionaries of a release: those that `choice` names, or those of `ids`. Answered by
    `DictionariesPulled`; a pull that was cut short goes on where it was."""

    release: str
    choice: Choice = Choice()
    ids: tuple[str, ...] = ()
    sae_dtype: str = "bfloat16"
    offline: bool = False


# --- events ---------------------------------------------------------------------------------------------------------


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
class EditMeasured(Event):
    """What an edit does; `edits` are now in the journal; `unsaved` says that no checkpoint holds them."""

    report: EditReport
    edits: int
    unsaved: bool


@dataclass(frozen=True)
class Undone(Event):
    """The last edit is gone; `edits` remain."""

    edits: int
    unsaved: bool


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
