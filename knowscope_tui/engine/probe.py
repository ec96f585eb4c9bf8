"""What units show at one token of a fact: activations, attributions, and readings made of them.

`<bos>` is never read: its activations dwarf all others and say nothing about the fact.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
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


_Read = tuple[Unit, float, float]
"""A unit with its activation and attribution."""


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
    rows: list[UnitReading] = []
    for family in Family:
        limit = NEURONS_LISTED if top is None and family is Family.NEURON else top
        of_family = [units for units in by_site if units.family is family]
        found = _strongest(of_family, fact, rank, limit)
        if rank is Rank.DELTA_PROB:
            found += _measured(of_family, fact, p_after, {unit for unit, _activation, _attribution in found})
        listed = [
            UnitReading(
                unit=unit,
                position=trace.positions[fact],
                activation=activation,
                attribution=attribution,
                delta_prob=relative_drop(effects.p_before, p_after[unit]) if unit in p_after else None,
                selected=activation > thresholds[unit.site.kind],
            )
            for unit, activation, attribution in found
        ]
        rows += sorted(listed, key=_sort_key(rank))[:limit]
    return tuple(sorted(rows, key=_sort_key(rank))[:top])


def _strongest(by_site: Sequence[SiteUnits], fact: int, rank: Rank, limit: int | None) -> list[_Read]:
    """The strongest active units of `by_site`, at most `limit`; for a rank by ΔProb these are so by attribution.

    What is not among them never becomes a Python object: a large model has hundreds of thousands of active neurons.
    """
    indices: list[Tensor] = []
    strengths: list[Tensor] = []
    for units in by_site:
        active = units.activation[fact] != 0
        strength = units.activation[fact].abs() if rank is Rank.ACTIVATION else units.attribution[fact]
        count = int(active.sum())
        best = strength.masked_fill(~active, -torch.inf).topk(count if limit is None else min(limit, count))
        indices.append(best.indices.cpu())
        strengths.append(best.values.cpu())
    if not indices:
        return []
    order = torch.cat(strengths).argsort(descending=True, stable=True)[:limit]
    places = torch.repeat_interleave(torch.arange(len(indices)), torch.tensor([len(found) for found in indices]))
    chosen = [torch.cat(indices)[order[places[order] == place]].tolist() for place in range(len(indices))]
    return [row for units, found in zip(by_site, chosen, strict=True) for row in _read(units, fact, found)]


def _measured(
    by_site: Sequence[SiteUnits], fact: int, p_after: Mapping[Unit, float], listed: Collection[Unit]
) -> list[_Read]:
    """The measured units of `by_site` that are not `listed` yet."""
    indices: dict[Site, list[int]] = {}
    for unit in p_after:
        if unit not in listed:
            indices.setdefault(unit.site, []).append(unit.index)
    return [row for units in by_site for row in _read(units, fact, indices.get(units.site, []))]


def _read(units: SiteUnits, fact: int, indices: list[int]) -> list[_Read]:
    """Units of one site with activation and attribution."""
    activation, attribution = units.activation[fact][indices].tolist(), units.attribution[fact][indices].tolist()
    named = [Unit(units.site, units.family, index) for index in indices]
    return list(zip(named, activation, attribution, strict=True))


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
