"""What units show at one token of a fact: activations, attributions, and readings made of them.

`<bos>` is never read: its activations dwarf all others and say nothing about the fact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from knowscope_tui.core.readings import Rank, Reading, SiteReading, UnitReading, relative_drop
from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.engine.answers import answer_rank, is_top, probability, top_tokens
from knowscope_tui.engine.attribution import unit_attribution
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.trace import Trace
from knowscope_tui.errors import UsageError

NEURONS_LISTED = 300
"""How many neurons a reading lists, the strongest first, where no number is asked for: nearly all are active."""

OWN_ANSWERS = 20
"""How many of the most probable tokens are tried as the model's own answer."""


@dataclass(frozen=True)
class SiteUnits:
    """All units of one site at the reading positions: activation and attribution, (facts, n_units) each."""

    site: Site
    family: Family
    activation: Tensor
    attribution: Tensor


@dataclass(frozen=True)
class Effects:
    """What was measured of single units, beside what is `given` off: P(answer) before, and after each."""

    p_before: float
    p_after: Mapping[Unit, float]
    given: tuple[Unit, ...] = ()


def reading_position(question: Question, position: int | None) -> int:
    """The token to read at; None is the prompt's last. Raises `UsageError` outside the prompt or at `<bos>`."""
    if position is None:
        return question.last
    resolved = position if position >= 0 else len(question.prompt_ids) + position
    if not 1 <= resolved <= question.last:
        raise UsageError(
            f"There is no reading position {position} in this prompt.",
            f"Use 1 to {question.last}; 0, the start, is never read.",
        )
    return resolved


def own_answer(lm: LanguageModel, prompt: str, logits: Tensor) -> str:
    """The model's own next word after `prompt`, from the logits (vocabulary,) there: its most probable token that,
    written there, reads as itself.

    A token that goes on with the prompt's last word does not, nor does an end-of-text token.
    """
    best = logits.topk(min(OWN_ANSWERS, len(logits))).indices.tolist()
    for token in best:
        text = lm.text(token).strip()
        if text and lm.ask(prompt, text).answer_ids == (token,):
            return text
    return lm.text(best[0]).strip() or "."


def read_sites(lm: LanguageModel, library: Library, families: Sequence[Family]) -> list[Site]:
    """The sites whose units are read."""
    sites = list(library.sites) if Family.FEATURE in families else []
    if Family.NEURON in families:
        sites += [Site(layer, SiteKind.MLP_ACT) for layer in range(lm.n_layers)]
    return sites


def read_units(library: Library, trace: Trace) -> list[SiteUnits]:
    """The units at every site of `trace`, which was recorded with slopes."""
    return [
        SiteUnits(
            site,
            Family.NEURON if site.kind is SiteKind.MLP_ACT else Family.FEATURE,
            *unit_attribution(library, site, trace),
        )
        for site in trace.activations
    ]


def make_reading(
    lm: LanguageModel,
    trace: Trace,
    by_site: Sequence[SiteUnits],
    fact: int,
    *,
    rank: Rank,
    top: int | None,
    tau1: float,
    effects: Effects,
) -> Reading:
    """The reading of one fact of `trace`, with exact ΔProb for the units that `effects` has.

    It lists the `top` units; None is every active feature and `NEURONS_LISTED` neurons.
    """
    question, logits = trace.questions[fact], trace.logits[fact]
    return Reading(
        prompt=question.prompt,
        answer=question.answer,
        tokens=tuple(lm.text(token) for token in question.prompt_ids),
        position=trace.positions[fact],
        p_answer=probability(logits, question),
        rank=answer_rank(logits, question),
        says_answer=bool(is_top(logits[None], question)[0]),
        top_tokens=top_tokens(logits, question, lm),
        units=_units(trace, by_site, fact, rank=rank, top=top, tau1=tau1, effects=effects),
        sites=tuple(_summary(units, fact) for units in by_site),
        ranked_by=rank,
        beside=effects.given,
        p_beside=effects.p_before if effects.given else None,
    )


def _units(
    trace: Trace,
    by_site: Sequence[SiteUnits],
    fact: int,
    *,
    rank: Rank,
    top: int | None,
    tau1: float,
    effects: Effects,
) -> tuple[UnitReading, ...]:
    """The strongest active units over all sites; ranked by ΔProb, those that were measured come first."""
    thresholds, p_after = _selection_thresholds(by_site, fact, tau1), effects.p_after
    measured: dict[Site, list[int]] = {}
    for unit in p_after if rank is Rank.DELTA_PROB else ():
        measured.setdefault(unit.site, []).append(unit.index)
    rows: list[UnitReading] = []
    for units in by_site:
        for index, activation, attribution in _listed(units, fact, rank, top, measured.get(units.site, ())):
            unit = Unit(units.site, units.family, index)
            drop = relative_drop(effects.p_before, p_after[unit]) if unit in p_after else None
            selected = activation > thresholds[units.site.kind]
            rows.append(UnitReading(unit, trace.positions[fact], activation, attribution, drop, selected))
    rows.sort(key=_sort_key(rank))
    if top is None:
        neurons = [row.unit for row in rows if row.unit.family is Family.NEURON]
        surplus = set(neurons[NEURONS_LISTED:])
        rows = [row for row in rows if row.unit not in surplus]
    return tuple(rows[:top])


def _listed(
    units: SiteUnits, fact: int, rank: Rank, top: int | None, measured: Sequence[int]
) -> list[tuple[int, float, float]]:
    """Index, activation and attribution of those active units of a site that may be among the strongest of all.

    Ranked by ΔProb these are the `measured` ones and, behind them, the strongest by attribution.
    """
    activation, attribution = units.activation[fact], units.attribution[fact]
    most = top
    if most is None:
        most = NEURONS_LISTED if units.family is Family.NEURON else len(activation)
    active = activation != 0
    strength = activation.abs() if rank is Rank.ACTIVATION else attribution
    best = strength.masked_fill(~active, -torch.inf).topk(min(most, int(active.sum()))).indices
    if measured:
        best = torch.unique(torch.cat([best, torch.tensor(measured, device=best.device)]))
    return list(zip(best.tolist(), activation[best].tolist(), attribution[best].tolist(), strict=True))


def _selection_thresholds(by_site: Sequence[SiteUnits], fact: int, tau1: float) -> Mapping[SiteKind, float]:
    """τ1 · max f for each kind, the maximum over all layers and units of that kind (the paper's F_a)."""
    maxima: dict[SiteKind, float] = {}
    for units in by_site:
        maxima[units.site.kind] = max(maxima.get(units.site.kind, 0.0), float(units.activation[fact].max()))
    return {kind: tau1 * maximum for kind, maximum in maxima.items()}


def _sort_key(rank: Rank) -> Callable[[UnitReading], tuple[float, float, Unit]]:
    def key(row: UnitReading) -> tuple[float, float, Unit]:
        if rank is Rank.ACTIVATION:
            return -abs(row.activation), 0.0, row.unit
        if rank is Rank.ATTRIBUTION:
            return -row.attribution, 0.0, row.unit
        return (-row.delta_prob if row.delta_prob is not None else torch.inf), -row.attribution, row.unit

    return key


def _summary(units: SiteUnits, fact: int) -> SiteReading:
    activation, attribution = units.activation[fact], units.attribution[fact]
    return SiteReading(
        site=units.site,
        family=units.family,
        active=int((activation != 0).sum()),
        attribution=float(attribution.clamp(min=0).sum()),
        max_activation=float(activation.max()),
    )


def with_integrated(by_site: Sequence[SiteUnits], integrated: Mapping[Site, Tensor]) -> list[SiteUnits]:
    """`by_site` of one fact, with integrated gradients, site → (d_mlp,), in place of the neurons' own."""
    return [
        replace(units, attribution=integrated[units.site][None] if units.site in integrated else units.attribution)
        for units in by_site
    ]
