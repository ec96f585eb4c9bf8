"""What one look at one fact showed, and what an ablation did to it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from knowscope_tui.core.units import Family, Site, Unit


class Rank(str, Enum):
    """What units are sorted by, strongest first."""

    ACTIVATION = "activation"
    ATTRIBUTION = "attribution"
    DELTA_PROB = "delta-prob"


class NeuronAttribution(str, Enum):
    """How neurons are attributed: gradient × activation, or integrated gradients in 20 steps (Dai et al. 2022)."""

    GRADIENT = "gradient"
    INTEGRATED = "integrated"


class Mode(str, Enum):
    """What a unit's activation becomes when it is ablated."""

    ZERO = "zero"
    MEAN = "mean"
    SCALE = "scale"


class Positions(str, Enum):
    """Which tokens an ablation reaches: the reading position alone, or every token but `<bos>`."""

    LAST = "last"
    ALL = "all"


@dataclass(frozen=True)
class Ablation:
    """Units switched off or turned.

    `factor` is what the activation is multiplied with in mode `SCALE`. With `substitute` the activation is replaced by
    the dictionary's reconstruction (the paper's way); otherwise the reconstruction error passes through unchanged.
    """

    units: tuple[Unit, ...] = ()
    mode: Mode = Mode.ZERO
    factor: float = 0.0
    positions: Positions = Positions.LAST
    substitute: bool = False


@dataclass(frozen=True)
class TokenProb:
    """A token as text and its probability as the next one."""

    token: str
    p: float


@dataclass(frozen=True)
class UnitReading:
    """One unit at one token.

    `attribution` is gradient × activation of log P(answer): about how much log P falls when the unit is zeroed. For
    neurons under integrated gradients it is in units of P instead. `delta_prob` is exact, (P_before − P_after) /
    P_before with this unit alone zeroed, and None where it was not measured. `selected` says that the activation
    exceeds τ1 times the largest of its kind over all layers and units (the paper's F_a).
    """

    unit: Unit
    position: int
    activation: float
    attribution: float
    delta_prob: float | None = None
    selected: bool = False


@dataclass(frozen=True)
class SiteReading:
    """A cell of the heat map: what all units of one site add up to at the reading position."""

    site: Site
    family: Family
    active: int
    attribution: float
    """Sum of the positive attributions."""
    max_activation: float


@dataclass(frozen=True)
class Reading:
    """One look at one fact.

    `p_answer` is the product of the answer's token probabilities, teacher-forced. `rank` counts from 1 and is that of
    the answer's first token among all next tokens. `position` is the token that units were read at.
    """

    prompt: str
    answer: str
    tokens: tuple[str, ...]
    position: int
    p_answer: float
    rank: int
    says_answer: bool
    """Whether greedy decoding gives the whole answer."""
    top_tokens: tuple[TokenProb, ...]
    units: tuple[UnitReading, ...]
    sites: tuple[SiteReading, ...]
    ranked_by: Rank
    beside: tuple[Unit, ...] = ()
    """What is switched off while ΔProb of each unit is measured: it is what the unit does once these are off."""
    p_beside: float | None = None
    """P(answer) with those off, once something was measured beside them."""


@dataclass(frozen=True)
class Effect:
    """What an ablation, or an edit, did to an answer. `delta_prob` is (P_before − P_after) / P_before."""

    prompt: str
    answer: str
    ablation: Ablation
    p_before: float
    p_after: float
    rank_before: int
    rank_after: int
    top_before: tuple[TokenProb, ...]
    top_after: tuple[TokenProb, ...]
    continuation_before: str = ""
    continuation_after: str = ""

    @property
    def delta_prob(self) -> float:
        return relative_drop(self.p_before, self.p_after)


@dataclass(frozen=True)
class UnitEffect:
    """One unit zeroed alone, or beside what is switched off already: exact, no estimate.

    `delta_prob` is (P_before − P_after) / P_before, P_before being that with what is switched off already.
    """

    unit: Unit
    p_after: float
    delta_prob: float


@dataclass(frozen=True)
class SweepPart:
    """What a sweep found since its last part, beside `given`; `measured` of the `active` units are known by now."""

    given: Ablation
    p_before: float
    effects: tuple[UnitEffect, ...]
    measured: int
    active: int


@dataclass(frozen=True)
class UnitSet:
    """A set of units that together bring P(answer) to `below` or under it, or as far as it went.

    `steps` is how it was found: the unit that was added at each step with what the set so far did, ΔProb against
    nothing switched off. `units` may be fewer than the steps: those that turned out not to be needed are left out.
    """

    prompt: str
    answer: str
    below: float
    p_before: float
    p_after: float
    steps: tuple[UnitEffect, ...]
    units: tuple[Unit, ...]
    final: bool = False
    """Whether it grows no more and what is not needed was left out."""

    @property
    def reached(self) -> bool:
        return self.p_after <= self.below

    @property
    def delta_prob(self) -> float:
        return relative_drop(self.p_before, self.p_after)


def relative_drop(p_before: float, p_after: float) -> float:
    """ΔProb: (P_before − P_after) / P_before; 0 where there was nothing to lose."""
    return (p_before - p_after) / p_before if p_before > 0 else 0.0
