"""What an edit was measured to do: figures with their intervals, fact by fact, leak by leak."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from knowscope_tui.core.edits import EditPlan, ParameterChange
from knowscope_tui.core.facts import Fact


@dataclass(frozen=True)
class Figure:
    """A mean over `items` things with its 95 % bootstrap interval. None where there was nothing to measure on."""

    value: float | None = None
    items: int = 0
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Scores:
    """The figures of an edit, and the mean probabilities behind them (an argmax hides near misses).

    `reliability`: share of the edited facts, known before, whose answer is no longer what greedy decoding gives; of an
    updated fact, that its new answer is. `generalization`: the same over their paraphrases. `locality`: share of the
    held-out neighbors known before whose top answer is unchanged, and by ring. `retained`: the same over the facts that
    the edit was told to keep. `delta_ppl`: PPL_after / PPL_before − 1 on held text about other things.
    """

    reliability: Figure
    generalization: Figure
    locality: Figure
    delta_ppl: Figure
    p_answer: float | None = None
    p_paraphrases: float | None = None
    p_neighbors: float | None = None
    rings: dict[str, Figure] = field(default_factory=dict)
    """Ring → locality of it; a ring without neighbors is left out."""
    retained: Figure = Figure()


@dataclass(frozen=True)
class FactOutcome:
    """What an edit did to one fact. `says` is what the model's greedy answer is afterwards."""

    fact: Fact
    known_before: bool
    erased: bool
    """Whether the answer is gone; of an updated fact, whether the new one is given."""
    p_before: float
    p_after: float
    says: str
    paraphrases_erased: int
    paraphrases: int
    p_target: float | None = None
    """P of the new answer afterwards, of a fact that was updated."""


class LeakTest(str, Enum):
    """Ways in which an erased answer may still come out."""

    UNSEEN = "unseen phrasings"
    REVERSED = "reverse question"
    IN_CONTEXT = "inside a longer context"
    FEW_SHOT = "after the same question about others"
    SAMPLED = "sampled"
    LOGIT_LENS = "logit lens"
    SPELLED = "upper-cased or spelled out"
    RELEARNED = "relearned from other facts"


@dataclass(frozen=True)
class LeakOptions:
    """How hard the tests try: samples for each fact at temperature 1, the share of them that counts as a leak, Adam
    steps of relearning."""

    samples: int = 100
    sample_share: float = 0.05
    relearn_steps: int = 30
    seed: int = 0


@dataclass(frozen=True)
class Leak:
    """What one leak test found of one fact. `detail` holds no text of the fact."""

    fact: Fact
    tried: int
    """Questions, samples, layers or steps; 0 where the model had not known the answer that way before either."""
    leaked: int
    leaks: bool
    detail: str = ""


@dataclass(frozen=True)
class LeakResult:
    """One leak test on every edited fact."""

    test: LeakTest
    leaks: tuple[Leak, ...]
    seconds: float = 0.0
    note: str = ""
    """What was done, in numbers: samples, steps, the threshold."""

    @property
    def tested(self) -> int:
        return sum(leak.tried > 0 for leak in self.leaks)

    @property
    def leaking(self) -> tuple[Leak, ...]:
        return tuple(leak for leak in self.leaks if leak.leaks)


@dataclass(frozen=True)
class Control:
    """The random control: as many positions in each matrix, drawn at random, treated the same way."""

    method: str
    positions: int
    scores: Scores
    seconds: float = 0.0


@dataclass(frozen=True)
class Proof:
    """Everything that was measured of an edit, before and after it."""

    before: Scores
    after: Scores
    facts: tuple[FactOutcome, ...]
    neighbors: int
    """Neighbors that locality was measured on: those the model knew before, and the edit was not told to keep."""
    leaks: tuple[LeakResult, ...] = ()
    control: Control | None = None


@dataclass(frozen=True)
class EditReport:
    """An edit, what it changed, and what was measured before and after it."""

    plan: EditPlan
    proof: Proof
    applied: bool
    number: int | None = None
    """Its number in the journal, when it was applied."""
    checkpoint: str | None = None


@dataclass(frozen=True)
class Claim:
    """A figure that a saved checkpoint claims, beside what was measured from its files."""

    name: str
    claimed: str
    measured: str
    agrees: bool


@dataclass(frozen=True)
class VerifyReport:
    """A saved checkpoint held against its base: is it what its record says, and does it do what it claims?"""

    checkpoint: str
    method: str
    units: tuple[str, ...]
    parameters: tuple[ParameterChange, ...]
    proof: Proof
    claims: tuple[Claim, ...]
    problems: tuple[str, ...]
    """What is not as recorded, a sentence each: empty for an intact checkpoint whose claims hold."""
    skipped: tuple[str, ...] = ()
    """Claims that were left out on request."""
    unchecked: tuple[str, ...] = ()
    """What the record says besides and no measurement of the folder can confirm."""

    @property
    def intact(self) -> bool:
        """Every edited entry is as recorded, every other tensor has the base's bits, and every claim holds."""
        return not self.problems and all(claim.agrees for claim in self.claims)

    @property
    def positions(self) -> int:
        return sum(parameter.positions for parameter in self.parameters)
