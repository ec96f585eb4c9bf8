"""What an edit leaves on the disk: checkpoint folders and delta files, before and after they are written."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class SaveOptions:
    """How a checkpoint is saved."""

    include_facts: bool = False
    """Whether the record and the model card hold the facts' text; without it they hold ids and salted hashes."""
    link: bool = True
    """Whether files without an edit may share their bytes with the base's, where the file system allows."""
    push_to_hub: str | None = None
    """The hub repository to upload to, owner/name."""


class Placed(str, Enum):
    """How a file gets into a checkpoint folder."""

    LINKED = "linked"
    REFLINKED = "reflinked"
    COPIED = "copied"
    EDITED = "edited"
    WRITTEN = "written"


@dataclass(frozen=True)
class PlannedFile:
    """A file of a checkpoint: `written` of its `bytes` are new on the disk."""

    name: str
    placed: Placed
    bytes: int
    written: int


@dataclass(frozen=True)
class SavePlan:
    """What a save would write and link, before anything is written."""

    folder: str
    files: tuple[PlannedFile, ...]
    free: int
    """Bytes free where the folder would lie."""
    problem: str = ""
    """Why it cannot be saved there; empty when it can."""
    hint: str = ""

    @property
    def written(self) -> int:
        return sum(file.written for file in self.files)

    @property
    def total(self) -> int:
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint on disk and how to load it."""

    folder: str
    size_bytes: int
    parameters: tuple[str, ...]
    """Names of the parameters that differ from the base."""
    files: tuple[PlannedFile, ...] = ()
    pushed_to: str | None = None
    """Address of the hub repository it was uploaded to."""
    not_pushed: str = ""
    """Why the upload that was asked for did not happen, and what to do; the folder is whole all the same."""

    @property
    def written_bytes(self) -> int:
        """What was written; the rest shares its bytes with the base."""
        return sum(file.written for file in self.files)

    @property
    def load_command(self) -> str:
        return f"AutoModelForCausalLM.from_pretrained({self.folder!r})"


@dataclass(frozen=True)
class DeltaParameter:
    """What a delta file says of one parameter."""

    name: str
    shape: tuple[int, ...]
    positions: int
    rank: int | None
    norm: float
    """‖ΔW‖, Frobenius."""
    largest: float
    """The largest |ΔW| of an entry."""


@dataclass(frozen=True)
class DeltaInfo:
    """A delta file, without its tensors."""

    file: str
    size_bytes: int
    base: str
    method: str
    facts: tuple[str, ...]
    """Ids or salted hashes."""
    parameters: tuple[DeltaParameter, ...]

    @property
    def positions(self) -> int:
        return sum(parameter.positions for parameter in self.parameters)


@dataclass(frozen=True)
class ParameterDiff:
    """How two checkpoints or delta files differ in one parameter."""

    name: str
    shape: tuple[int, ...]
    positions: int
    """Entries that differ."""
    only_a: int
    """Entries that A alone changes; 0 for two checkpoints, whose base is not known."""
    only_b: int
    norm: float
    largest: float


@dataclass(frozen=True)
class Diff:
    """Everything in which two checkpoints, or two delta files, differ."""

    a: str
    b: str
    parameters: tuple[ParameterDiff, ...]
    compared: int
    """Parameters that were compared."""
