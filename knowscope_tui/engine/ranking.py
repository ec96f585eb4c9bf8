"""The exact effect of every active unit on each of many facts.

1. Facts whose answers are of the same length, and prompts of like length, go together, as many as memory allows.
2. One forward and one backward of them give every unit's activation and attribution at each fact's last token.
3. One sweep measures all active features of all of them, and each fact's strongest neurons by attribution, sorted by
   where they enter the model, so that a chunk runs few layers for many facts.
4. Where memory runs out all the same, the facts are halved and taken again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.progress import unstopped
from knowscope_tui.core.ranks import DEFAULT_MEMORY, DEFAULT_NEURONS, FactRanks, UnitRank
from knowscope_tui.core.readings import relative_drop
from knowscope_tui.core.units import Family, Site, Unit
from knowscope_tui.engine.answers import answer_rank, is_top
from knowscope_tui.engine.batch import free_cache
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.probe import SiteUnits, read_sites, read_units, reading_position
from knowscope_tui.engine.ranking_memory import FactBytes, fact_bytes, rows_beside
from knowscope_tui.engine.sites import INSIDE_LAYER
from knowscope_tui.engine.sweep import Sweep
from knowscope_tui.engine.trace import Trace, record
from knowscope_tui.errors import device_full

MOST_FACTS = 32
"""Facts taken at once: with more a run that is stopped would lose more."""

OnMeasured = Callable[[float, int], None]
"""Hears how many of the facts are measured, parts of one counted too, and how many units were since it last heard."""


@dataclass(frozen=True)
class AskedFact:
    """A fact as the model is asked it; `number` is its place in the file."""

    number: int
    fact: Fact
    question: Question


@dataclass(frozen=True)
class _Active:
    """A unit that is active on a fact of a batch."""

    fact: int
    unit: Unit
    activation: float
    attribution: float


class Ranker:
    """Ranks facts on one model with one library, within `memory` bytes beside both."""

    def __init__(
        self, lm: LanguageModel, library: Library, *, neurons: int = DEFAULT_NEURONS, memory: int = DEFAULT_MEMORY
    ) -> None:
        self._lm, self._library, self._neurons, self._memory = lm, library, neurons, memory
        families = (Family.FEATURE, Family.NEURON) if neurons else (Family.FEATURE,)
        self._sites = read_sites(lm, library, families)
        self._most = MOST_FACTS

    def batches(self, asked: Sequence[AskedFact]) -> list[list[AskedFact]]:
        """`asked` in batches that memory should hold: of one answer length each, and of like prompt length."""
        found: list[list[AskedFact]] = []
        for one in sorted(asked, key=_lengths):
            alike = found and _lengths(found[-1][0])[0] == _lengths(one)[0]
            if alike and self._fits([*found[-1], one]):
                found[-1].append(one)
            else:
                found.append([one])
        return found

    def rank(
        self,
        asked: Sequence[AskedFact],
        on_measured: OnMeasured = lambda facts, units: None,
        check: Callable[[], None] = unstopped,
    ) -> list[FactRanks]:
        """The facts with their units, in the order of `asked`.

        `check` is called between layers and may raise to cancel. Raises `DeviceError` where not even one fact fits.
        """
        ranked: list[FactRanks] = []
        while len(ranked) < len(asked):
            together = asked[len(ranked) :][: self._most]
            found = self._if_memory_allows(together, len(ranked), on_measured, check)
            if found is None:
                self._most = len(together) // 2
                free_cache()
            else:
                ranked += found
        return ranked

    # --- memory -------------------------------------------------------------------------------------------------------

    def _fits(self, batch: Sequence[AskedFact]) -> bool:
        """Whether `batch` may be recorded at once, and leaves half the memory to what is measured on it."""
        each = self._bytes([one.question for one in batch])
        recorded, kept = len(batch) * each.recorded, len(batch) * each.kept
        return len(batch) <= MOST_FACTS and recorded <= self._memory and kept <= self._memory / 2

    def _bytes(self, questions: Sequence[Question]) -> FactBytes:
        tokens = max(len(question.input_ids) for question in questions)
        predicted = tokens - min(question.last for question in questions)
        return fact_bytes(self._lm, self._library, tokens, predicted, neurons=bool(self._neurons))

    def _rows(self, trace: Trace) -> int:
        """How many units run at once in what `trace` leaves of the memory."""
        kept = len(trace.questions) * self._bytes(trace.questions).kept
        return rows_beside(self._lm, trace, max(0, self._memory - kept))

    def _if_memory_allows(
        self, asked: Sequence[AskedFact], before: int, on_measured: OnMeasured, check: Callable[[], None]
    ) -> list[FactRanks] | None:
        """What `_together` gives, or None where memory ran out and fewer facts may do."""
        try:
            return self._together(asked, before, on_measured, check)
        except Exception as error:
            full = device_full(error)
            if full is None:
                raise
            if len(asked) == 1:
                raise full from None
        return None

    # --- one batch ----------------------------------------------------------------------------------------------------

    def _together(
        self, asked: Sequence[AskedFact], before: int, on_measured: OnMeasured, check: Callable[[], None]
    ) -> list[FactRanks]:
        """Ranks `asked` in one batch; `before` facts were ranked already."""
        check()
        questions = [one.question for one in asked]
        positions = [reading_position(question, None) for question in questions]
        trace = record(self._lm, questions, positions, self._sites, slopes=True)
        active = active_units(read_units(self._library, trace), self._neurons)
        sweep = Sweep(self._lm, self._library, trace, check=check)
        p_after, measured = [0.0] * len(active), 0
        for places, values in sweep.chunks([(one.fact, one.unit) for one in active], rows=self._rows(trace)):
            for place, value in zip(places, values, strict=True):
                p_after[place] = value
            measured += len(places)
            on_measured(before + len(asked) * measured / len(active), len(places))
        return _fact_ranks(asked, trace, active, p_after)


def _lengths(asked: AskedFact) -> tuple[int, int, int]:
    """Sorts by tokens of the answer, then of the whole."""
    return len(asked.question.answer_ids), len(asked.question.input_ids), asked.number


def active_units(by_site: Sequence[SiteUnits], neurons: int) -> list[_Active]:
    """Every active feature, and of each fact the `neurons` strongest active neurons by attribution.

    They come in the order in which they enter the model (see `sweep`), and there fact by fact.
    """
    strongest = _strongest_neurons([units for units in by_site if units.family is Family.NEURON], neurons)
    found: list[_Active] = []
    for units in sorted(by_site, key=lambda units: (units.site.layer, INSIDE_LAYER.index(units.site.kind))):
        chosen = units.activation != 0  # (facts, n_units)
        if units.site in strongest:
            chosen = chosen & strongest[units.site].to(chosen.device)
        values = zip(units.activation[chosen].tolist(), units.attribution[chosen].tolist(), strict=True)
        for (fact, index), (activation, attribution) in zip(chosen.nonzero().tolist(), values, strict=True):
            found.append(_Active(fact, Unit(units.site, units.family, index), activation, attribution))
    return found


def _strongest_neurons(neurons: Sequence[SiteUnits], most: int) -> dict[Site, Tensor]:
    """Which are among a fact's `most` strongest over all layers: site → (facts, d_mlp) bool. Silent ones come last."""
    if not neurons:
        return {}
    active = [units.attribution.masked_fill(units.activation == 0, -torch.inf) for units in neurons]
    attribution = torch.cat([values.to(active[0].device) for values in active], dim=1)  # (facts, layers × d_mlp)
    best = attribution.topk(min(most, attribution.shape[1]), dim=1).indices
    chosen = torch.zeros_like(attribution, dtype=torch.bool).scatter_(1, best, True)
    parts = torch.split(chosen, [values.shape[1] for values in active], dim=1)
    return {units.site: part for units, part in zip(neurons, parts, strict=True)}


def _fact_ranks(
    asked: Sequence[AskedFact], trace: Trace, active: Sequence[_Active], p_after: Sequence[float]
) -> list[FactRanks]:
    p_answer = trace.p_answer
    by_fact: list[list[UnitRank]] = [[] for _ in asked]
    for one, p in zip(active, p_after, strict=True):
        drop = relative_drop(p_answer[one.fact], p)
        by_fact[one.fact].append(UnitRank(one.unit, one.activation, one.attribution, p, drop))
    return [
        FactRanks(
            number=one.number,
            fact=one.fact,
            p_answer=p_answer[fact],
            rank=answer_rank(logits, one.question),
            says_answer=bool(is_top(logits[None], one.question)[0]),
            units=tuple(sorted(by_fact[fact], key=lambda row: (-row.delta_prob, -row.attribution, row.unit))),
        )
        for fact, (one, logits) in enumerate(zip(asked, trace.logits, strict=True))
    ]
