"""What the active units of many facts do: one ranking a fact, and what all of them come to."""

from __future__ import annotations

from dataclasses import dataclass, field

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.units import SiteKind, Unit

DEFAULT_NEURONS = 100
DEFAULT_MEMORY = 1 << 30
STRONGEST_LISTED = 10


@dataclass(frozen=True)
class RankOptions:
    """How a fact file is ranked."""

    neurons: int = DEFAULT_NEURONS
    """Neurons of a fact that are measured beside all its active features: the strongest by attribution."""
    memory: int = DEFAULT_MEMORY
    """Bytes that what runs at once may take beside the model and the dictionaries."""
    restart: bool = False
    """Whether what an earlier run left is thrown away."""


@dataclass(frozen=True)
class UnitRank:
    """One active unit at a fact's last token, and P(answer) with it alone zeroed there: exact, no estimate.

    `attribution` is gradient × activation of log P(answer); `delta_prob` is (P_before − P_after) / P_before.
    """

    unit: Unit
    activation: float
    attribution: float
    p_after: float
    delta_prob: float


@dataclass(frozen=True)
class FactRanks:
    """A fact and its units, the largest ΔProb first. `number` is its place in the file, counted from 0."""

    number: int
    fact: Fact
    p_answer: float
    rank: int
    """Of the answer's first token among all next tokens, from 1."""
    says_answer: bool
    """Whether greedy decoding gives the whole answer."""
    units: tuple[UnitRank, ...]


@dataclass(frozen=True)
class SkippedFact:
    """A fact that the model cannot be asked, and why, in a sentence."""

    number: int
    fact: Fact
    why: str


@dataclass(frozen=True)
class BestUnit:
    """The unit of one fact with the largest ΔProb."""

    number: int
    prompt: str
    answer: str
    p_answer: float
    says_answer: bool
    unit: Unit
    p_after: float
    delta_prob: float


@dataclass(frozen=True)
class KindRanks:
    """What the units at one kind of site do."""

    kind: SiteKind
    strongest: int
    """Facts whose strongest unit is there."""
    mean_delta_prob: float
    """ΔProb of a fact's best unit there, the mean over all facts; 0 for a fact with none active."""


@dataclass(frozen=True)
class RankSummary:
    """What a fact file's ranking came to."""

    file: str
    size_bytes: int
    facts: int
    units: int
    """Rows of the table."""
    kinds: tuple[KindRanks, ...]
    strongest: tuple[BestUnit, ...]
    """The facts that a single unit carries most, those that the model says before all others."""
    skipped: tuple[SkippedFact, ...] = ()
    remarks: tuple[str, ...] = ()
    """What a person should know of this run, each in a sentence."""
    measured: int = 0
    """Units that this run measured; the others an earlier one did."""
    seconds: float = 0.0
    """That this run measured for."""


@dataclass
class Tally:
    """Adds facts up to what a summary says of them."""

    facts: int = 0
    units: int = 0
    _strongest: dict[SiteKind, int] = field(default_factory=dict)
    _total: dict[SiteKind, float] = field(default_factory=dict)
    _best: list[BestUnit] = field(default_factory=list)

    def add(self, units: int, best: BestUnit | None, by_kind: dict[SiteKind, float]) -> None:
        """One more fact: how many units it has, the best of them, and the largest ΔProb at each kind of site."""
        self.facts += 1
        self.units += units
        for kind, delta_prob in by_kind.items():
            self._total[kind] = self._total.get(kind, 0.0) + delta_prob
        if best is not None:
            self._strongest[best.unit.site.kind] = self._strongest.get(best.unit.site.kind, 0) + 1
            self._best = sorted([*self._best, best], key=_says_and_loses_most)[:STRONGEST_LISTED]

    @property
    def kinds(self) -> tuple[KindRanks, ...]:
        return tuple(
            KindRanks(kind, self._strongest.get(kind, 0), self._total[kind] / self.facts)
            for kind in SiteKind
            if kind in self._total
        )

    @property
    def strongest(self) -> tuple[BestUnit, ...]:
        return tuple(self._best)


def _says_and_loses_most(best: BestUnit) -> tuple[bool, float, int]:
    return not best.says_answer, -best.delta_prob, best.number
