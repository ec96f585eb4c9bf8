"""What an edit is planned from and what it would change. What it was measured to do is in `core.proof`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.rings import worst_of
from knowscope_tui.core.units import SiteKind, Unit
from knowscope_tui.errors import EditError, UsageError


class Method(str, Enum):
    """How units become weight changes; the modules of `engine/methods/` state each formula and its source."""

    POSITIONS = "positions"
    ROWS = "rows"
    NEURONS = "neurons"
    PROJECTION = "projection"
    RANDOM = "random"
    PRECISE = "precise"
    REFINED = "refined"
    REFINED_RANDOM = "refined-random"
    GRADIENT = "gradient"

    @property
    def writes(self) -> bool:
        """Whether the method can write a new answer; the others can only take one away."""
        return self in (Method.PRECISE, Method.REFINED, Method.REFINED_RANDOM, Method.GRADIENT)

    @property
    def solves(self) -> bool:
        """Whether the method works out what the units write on the facts, and takes that out in closed form."""
        return self in (Method.PRECISE, Method.REFINED)

    @classmethod
    def parse(cls, text: str) -> Method:
        """The method that `text` names. Raises `UsageError` with the list of methods."""
        try:
            return cls(text)
        except ValueError:
            methods = ", ".join(method.value for method in cls)
            raise UsageError(f"There is no method called {text!r}.", f"Use one of: {methods}.") from None

    @property
    def has_budget(self) -> bool:
        """Whether the method is told how much of the model it may change."""
        return self in (Method.REFINED, Method.REFINED_RANDOM)

    @property
    def has_tau2(self) -> bool:
        """Whether the method has a threshold, which `auto` can look for."""
        return self in (Method.POSITIONS, Method.ROWS, Method.RANDOM)


MEANING: dict[Method, str] = {
    Method.POSITIONS: "zeroes the weights that write most into the units on this fact",
    Method.ROWS: "zeroes whole rows of weights, where the units point most",
    Method.NEURONS: "zeroes the columns of the strongest neurons: the older way",
    Method.PROJECTION: "takes the units' directions out of the weights altogether",
    Method.RANDOM: "zeroes as many weights, drawn at random: the control of positions",
    Method.PRECISE: "takes what the units write on the facts out, holding others still",
    Method.REFINED: "the units choose a few weights; only their values are optimised",
    Method.REFINED_RANDOM: "optimises as many weights, drawn at random: the control of refined",
    Method.GRADIENT: "optimises every weight that it can: the baseline to compare with",
}
"""What each method does, in plain words that follow its name."""


@dataclass(frozen=True)
class Limits:
    """What a person asks of an edit: how much of the facts must be gone, how much damage is too much."""

    min_reliability: float = 0.97
    max_delta_ppl: float = 0.01
    min_locality: float = 0.97

    def met_by(self, reliability: float | None, worst: float | None, delta_ppl: float | None) -> bool:
        """Whether figures are within the limits; `worst` is the locality of the ring that suffers most.

        Damage that was not measured, None, breaks no limit where other damage was. An edit of which only the erasure
        is known, or not even that, meets nothing.
        """
        if reliability is None or (worst is None and delta_ppl is None):
            return False
        return (
            reliability >= self.min_reliability
            and (worst is None or worst >= self.min_locality)
            and (delta_ppl is None or delta_ppl <= self.max_delta_ppl)
        )


@dataclass(frozen=True)
class EditSpec:
    """A FeatureEdit or a baseline, before it is planned.

    For every fact the `top` units at `site` by attribution are used (`precise` and `refined` look at the highest such
    site alone), or exactly `units` when some are named. `tau2` is the threshold τ2 as a share of the largest value,
    None the method's default; with `auto` it is looked for. `retain` are facts that the edit must keep, None those the
    program knows besides. `budget` is the share of the model's weights that `refined` may change. A fact with a
    `target_new` is updated, one without is erased.
    """

    facts: tuple[Fact, ...]
    method: Method = Method.POSITIONS
    site: SiteKind = SiteKind.RESID_POST
    top: int = 10
    tau2: float | None = None
    units: tuple[Unit, ...] = ()
    seed: int = 0
    auto: bool = False
    limits: Limits = Limits()
    retain: tuple[Fact, ...] | None = None
    budget: float = 0.01

    @property
    def updates(self) -> bool:
        """Whether any of the facts gets another answer."""
        return any(fact.target_new for fact in self.facts)


@dataclass(frozen=True)
class ParameterChange:
    """How an edit changes one parameter: so many of its entries, or a change of so low a rank.

    `picture` counts the changed positions in a coarse grid over (d_model, d_mlp), row by row.
    """

    name: str
    layer: int
    shape: tuple[int, ...]
    positions: int
    zeroed: int
    """How many of the positions are set to zero."""
    rank: int | None = None
    """The rank of the change where it is kept as factors."""
    relative_norm: float = 0.0
    """‖ΔW‖ / ‖W‖, Frobenius."""
    picture: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class UnitChange:
    """Through which layers an edit reaches a unit, and at how many positions of each."""

    unit: Unit
    positions: dict[int, int]
    """Layer → positions; positions that several units share are counted for each."""

    @property
    def total(self) -> int:
        return sum(self.positions.values())


@dataclass(frozen=True)
class FrontierPoint:
    """What one τ2 does, measured on what an edit may see: prompt and edit prompts, retained facts and text."""

    tau2: float
    positions: int
    reliability: float
    """Share of the prompts and edit prompts known before whose answer is gone."""
    p_answer: float
    """Mean P(answer) over all prompts and edit prompts; a share hides near misses."""
    locality: float | None
    """Share of the retained facts known before that are kept; None where there are none."""
    delta_ppl: float | None
    """None where no text was measured."""
    rings: dict[str, float] = field(default_factory=dict)
    """Locality by ring."""
    meets: bool = False
    """Whether it is within the limits."""

    @property
    def worst(self) -> float | None:
        """Locality in the ring that suffers most."""
        return worst_of(self.rings, self.locality)


@dataclass(frozen=True)
class Frontier:
    """Erasure against damage from the highest τ2 to the lowest; `chosen` is the index of the knee within the limits."""

    limits: Limits
    points: tuple[FrontierPoint, ...]
    chosen: int | None

    @property
    def knee(self) -> FrontierPoint | None:
        return None if self.chosen is None else self.points[self.chosen]


class NoTau2(EditError):
    """No τ2 is within the limits; `frontier` shows what there is instead."""

    def __init__(self, frontier: Frontier) -> None:
        limits = frontier.limits
        asked = f"Rel ≥ {limits.min_reliability:g}, Loc ≥ {limits.min_locality:g} and ΔPPL ≤ {limits.max_delta_ppl:g}"
        super().__init__(
            f"No τ2 reaches {asked}.", "Loosen a limit, name more units with --top, or use `precise` or `refined`."
        )
        self.frontier = frontier


@dataclass(frozen=True)
class Conflict:
    """Two facts whose edits pull the same keys to different answers, in one edit or in one applied before."""

    fact: Fact
    other: Fact
    similarity: float
    """Cosine of the two facts' keys; 1 for the same prompt."""
    applied: int | None = None
    """Number in the journal of the edit that `other` belongs to; None for one of the same edit."""


@dataclass(frozen=True)
class EditPlan:
    """What an edit would change, without having changed it."""

    spec: EditSpec
    tau2: float | None
    """The threshold in use; None for a method without one."""
    units: tuple[Unit, ...]
    parameters: tuple[ParameterChange, ...]
    model_weights: int = 0
    """Parameters of the whole model, to take shares of."""
    reach: tuple[UnitChange, ...] = ()
    frontier: Frontier | None = None
    conflicts: tuple[Conflict, ...] = ()
    seconds: float = 0.0
    """How long planning took; for the methods that optimise, all of the work."""
    notes: tuple[str, ...] = ()
    """What a person should know about how it was found, a sentence each."""

    @property
    def positions(self) -> int:
        return sum(parameter.positions for parameter in self.parameters)

    @property
    def share(self) -> float | None:
        """Changed positions over all of the model's weights."""
        return self.positions / self.model_weights if self.model_weights else None


@dataclass(frozen=True)
class JournalEntry:
    """One edit of the open model, in the order of application."""

    number: int
    """Counts from 1 and never changes hands."""
    method: str
    facts: tuple[str, ...]
    """Ids; a fact without one is named by its salted hash."""
    positions: int
    on: bool
    reliability: float | None = None
    """As measured when it was applied; None where it was not."""
    source: str = ""
    """The delta file it was read from, if any."""


@dataclass(frozen=True)
class JournalState:
    """Every edit of the open model, switched on or off, and those that `redo` would bring back."""

    entries: tuple[JournalEntry, ...] = ()
    undone: tuple[JournalEntry, ...] = ()
    unsaved: bool = False

    @property
    def on(self) -> int:
        return sum(entry.on for entry in self.entries)
