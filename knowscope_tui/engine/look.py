"""One fact being looked at: what one forward and one backward showed, and what was measured from there since.

1. `open_look` records the fact with slopes, encodes features at the reading position, and attributes every unit.
2. `Look.exact` measures single units exactly, the strongest by attribution first, and remembers them.
3. `Look.live` follows an ablation.

It is about the model and the dictionaries as they were: after an edit, look again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import overload

import torch
from torch import Tensor

from knowscope_tui.core.progress import OnProgress, silent, unstopped
from knowscope_tui.core.readings import Ablation, NeuronAttribution, Rank, Reading
from knowscope_tui.core.units import Family, Site, Unit
from knowscope_tui.engine.ablate import Means, ablation_changes
from knowscope_tui.engine.attribution import integrated_gradients
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.live import Live
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.probe import (
    Effects,
    SiteUnits,
    make_reading,
    own_answer,
    read_sites,
    read_units,
    reading_position,
    with_integrated,
)
from knowscope_tui.engine.sweep import Sweep
from knowscope_tui.engine.trace import Trace, record

NOTHING = Ablation()
"""Everything is switched on."""

FIRST_ROWS = 64
"""Units of the first chunk, so that a person sees the first values soon."""

Found = Sequence[tuple[Unit, float]]
"""Units with P(answer) when each alone is switched off."""


class Ranked(Sequence[Unit]):
    """Units in an order. Each is made when it is taken: a large model has hundreds of thousands of active neurons."""

    def __init__(self, sites: Sequence[tuple[Site, Family]], which: Tensor, indices: Tensor) -> None:
        """`which` of `sites` each unit is of, and its index there: (n_units,) both, on the host."""
        self._sites, self._which, self._indices = sites, which, indices

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, place: int) -> Unit: ...
    @overload
    def __getitem__(self, place: slice) -> list[Unit]: ...
    def __getitem__(self, place: int | slice) -> Unit | list[Unit]:
        if isinstance(place, int):
            return self[place : place + 1 or None][0]
        pairs = zip(self._which[place].tolist(), self._indices[place].tolist(), strict=True)
        return [Unit(self._sites[which][0], self._sites[which][1], index) for which, index in pairs]


class Look:
    """`trace` holds the one fact, without an ablation; `by_site` what its units read."""

    def __init__(self, lm: LanguageModel, library: Library, trace: Trace, by_site: Sequence[SiteUnits]) -> None:
        self._lm, self._library, self._by_site = lm, library, tuple(by_site)
        self.trace = trace
        self.live = Live(lm, library, trace)
        self._measured: dict[Ablation, dict[Unit, float]] = {NOTHING: {}}
        self._p_given: dict[Ablation, float] = {NOTHING: trace.p_answer[0]}
        self._given: tuple[Ablation, Trace] | None = None

    def reading(
        self,
        rank: Rank = Rank.ATTRIBUTION,
        top: int | None = None,
        tau1: float = 0.2,
        given: Ablation = NOTHING,
    ) -> Reading:
        """The fact and its units, with exact ΔProb for those that were measured beside what is `given`."""
        key = in_order(given)
        effects = Effects(self._p_given.get(key, 0.0), self._measured.get(key, {}), given.units)
        return make_reading(self._lm, self.trace, self._by_site, 0, rank=rank, top=top, tau1=tau1, effects=effects)

    def active(self, family: Family) -> Ranked:
        """The active units of `family`, the strongest by attribution first."""
        return self.strongest((family,))

    def strongest(self, families: Sequence[Family] = tuple(Family)) -> Ranked:
        """The active units of `families`, the strongest by attribution first."""
        chosen = [units for units in self._by_site if units.family in families]
        indices = [units.activation[0].nonzero()[:, 0] for units in chosen]
        strengths = [units.attribution[0][found].cpu() for units, found in zip(chosen, indices, strict=True)]
        counts = torch.tensor([len(found) for found in indices], dtype=torch.long)
        order = torch.cat(strengths).argsort(descending=True, stable=True) if strengths else counts
        which = torch.repeat_interleave(torch.arange(len(chosen)), counts)[order]
        numbers = torch.cat([found.cpu() for found in indices])[order] if indices else counts
        return Ranked([(units.site, units.family) for units in chosen], which, numbers)

    def is_active(self, unit: Unit) -> bool:
        """Whether `unit` is one of the active units here."""
        return any(units.site == unit.site and bool(units.activation[0, unit.index]) for units in self._by_site)

    # --- exact effects ------------------------------------------------------------------------------------------------

    def p_given(self, given: Ablation = NOTHING) -> float:
        """P(answer) with `given` in place, once anything was measured beside it."""
        return self._p_given[in_order(given)]

    def measured(self, given: Ablation = NOTHING) -> dict[Unit, float]:
        """P(answer) with each unit switched off beside `given`, for those that were measured."""
        return dict(self._measured.get(in_order(given), {}))

    def exact(
        self,
        units: Sequence[Unit],
        given: Ablation = NOTHING,
        *,
        means: Means | None = None,
        check: Callable[[], None] = unstopped,
        first_rows: int | None = FIRST_ROWS,
    ) -> Iterator[Found]:
        """Measures those of `units` that were not measured beside `given` yet, and hands them out chunk by chunk.

        What was handed out is remembered, so that a sweep that was stopped goes on where it was. `check` is called
        between layers and may raise to cancel.
        """
        given = in_order(given)
        known = self._measured.setdefault(given, {})
        taken = set(given.units)
        left = [unit for unit in units if unit not in known and unit not in taken]
        if not left and given in self._p_given:
            return
        trace = self._trace_with(given, means, check)
        self._p_given[given] = trace.p_answer[0]
        sweep = Sweep(self._lm, self._library, trace, given=given, means=means, check=check)
        for places, values in sweep.chunks([(0, unit) for unit in left], first_rows=first_rows):
            found = [(left[place], value) for place, value in zip(places, values, strict=True)]
            known.update(found)
            yield found

    def _trace_with(self, given: Ablation, means: Means | None, check: Callable[[], None]) -> Trace:
        """The fact with `given` in place; the last one asked for is kept."""
        if not given.units:
            return self.trace
        if self._given is None or self._given[0] != given:
            check()
            position = self.trace.positions[0]
            changes = ablation_changes(self._lm, self._library, given, position, means)
            sites = list(self.trace.activations)
            self._given = given, record(self._lm, self.trace.questions, [position], sites, changes=changes)
        return self._given[1]

    def is_of(self, question: Question, position: int) -> bool:
        """Whether it is a look at that question at that token."""
        return is_of(self.trace, question, position)


def is_of(trace: Trace, question: Question, position: int) -> bool:
    """Whether `trace` is of that one question, read at that token."""
    return trace.questions == (question,) and trace.positions == (position,)


def in_order(given: Ablation) -> Ablation:
    """The same ablation, whichever way round its units were named."""
    return replace(given, units=tuple(sorted(set(given.units))))


def open_live(lm: LanguageModel, library: Library, question: Question, position: int) -> Live:
    """What follows ablations of a fact whose units are not read: one forward."""
    return Live(lm, library, record(lm, [question], [position]))


def open_look(
    lm: LanguageModel,
    library: Library,
    prompt: str,
    answer: str | None,
    *,
    position: int | None = None,
    families: tuple[Family, ...] = (Family.FEATURE, Family.NEURON),
    neuron_attribution: NeuronAttribution = NeuronAttribution.GRADIENT,
    on_progress: OnProgress = silent,
) -> Look:
    """Looks at a fact; without `answer` at the model's own next word. Raises `PromptError` or `UsageError`."""
    if answer and answer.strip():
        question, settle = lm.ask(prompt, answer), None
    else:
        question = lm.leave_open(prompt)

        def settle(logits: Tensor) -> Question:
            return lm.ask(prompt, own_answer(lm, prompt, logits[0]))

    place = reading_position(question, position)
    trace = record(lm, [question], [place], read_sites(lm, library, families), slopes=True, settle=settle)
    question = trace.questions[0]
    by_site = read_units(library, trace)
    if neuron_attribution is NeuronAttribution.INTEGRATED and Family.NEURON in families:

        def on_layer(layer: int) -> None:
            on_progress("Integrating gradients", layer / lm.n_layers)

        by_site = with_integrated(by_site, integrated_gradients(lm, question, place, on_layer))
    return Look(lm, library, trace, by_site)
