"""What an edit is planned from, what it changes, and what it was measured to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.units import SiteKind, Unit


class Method(str, Enum):
    """How units become weight changes; `engine/editing.py` states each formula."""

    POSITIONS = "positions"
    ROWS = "rows"
    NEURONS = "neurons"
    RANDOM = "random"


@dataclass(frozen=True)
class EditSpec:
    """A FeatureEdit or a baseline, before it is planned.

    For every fact the `top` units at `site` by attribution are used, or exactly `units` when some are named. `tau2` is
    the threshold τ2 as a share of the largest value; None is the method's default.
    """

    facts: tuple[Fact, ...]
    method: Method = Method.POSITIONS
    site: SiteKind = SiteKind.RESID_POST
    top: int = 10
    tau2: float | None = None
    units: tuple[Unit, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class ParameterChange:
    """How many entries of one parameter an edit zeroes."""

    name: str
    shape: tuple[int, ...]
    positions_zeroed: int


@dataclass(frozen=True)
class EditPlan:
    """What an edit would change, without having changed it."""

    spec: EditSpec
    tau2: float
    units: tuple[Unit, ...]
    parameters: tuple[ParameterChange, ...]

    @property
    def positions_zeroed(self) -> int:
        return sum(parameter.positions_zeroed for parameter in self.parameters)


@dataclass(frozen=True)
class Scores:
    """The four figures of an edit, and the mean probabilities behind them (an argmax hides near misses).

    `reliability`: share of the edited facts whose answer is no longer what greedy decoding gives. `generalization`: the
    same over their paraphrases. `locality`: share of the neighbors known before whose top answer is unchanged;
    `locality_rings` splits it by same subject, same relation and unrelated. `delta_ppl`: PPL_after / PPL_before − 1 on
    text about other things. None where there was nothing to measure on.
    """

    reliability: float | None
    generalization: float | None
    locality: float | None
    delta_ppl: float | None
    p_answer: float | None
    p_paraphrases: float | None
    p_neighbors: float | None
    locality_rings: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FactOutcome:
    """What an edit did to one fact. `says` is what the model's greedy answer is afterwards."""

    fact: Fact
    known_before: bool
    erased: bool
    p_before: float
    p_after: float
    says: str
    paraphrases_erased: int
    paraphrases: int


@dataclass(frozen=True)
class EditReport:
    """An edit, what it changed, and what was measured before and after it."""

    plan: EditPlan
    before: Scores
    after: Scores
    facts: tuple[FactOutcome, ...]
    neighbors: int
    """Neighbors that locality was measured on: those the model knew before."""
    applied: bool
    checkpoint: str | None = None


@dataclass(frozen=True)
class VerifyReport:
    """A saved checkpoint held against its base: whether it is what its record says, and what it knows."""

    checkpoint: str
    method: str
    units: tuple[str, ...]
    parameters: tuple[ParameterChange, ...]
    before: Scores
    after: Scores
    facts: tuple[FactOutcome, ...]
    neighbors: int
    problems: tuple[str, ...]
    """What is not as recorded, a sentence each: empty for an intact checkpoint."""

    @property
    def intact(self) -> bool:
        """Every edited entry is as recorded and every other tensor has the base's bits."""
        return not self.problems

    @property
    def positions_zeroed(self) -> int:
        return sum(parameter.positions_zeroed for parameter in self.parameters)


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint on disk and how to load it."""

    folder: str
    size_bytes: int
    parameters: tuple[str, ...]
    """Names of the parameters that differ from the base."""

    @property
    def load_command(self) -> str:
        return f"AutoModelForCausalLM.from_pretrained({self.folder!r})"
