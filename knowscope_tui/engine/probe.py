"""One look at one fact.

1. One forward and one backward give logits, activations and gradients at every loaded site.
2. At the reading position features are encoded, and each active unit is attributed (see `attribution`).
3. Units are ranked; for the strongest by attribution ΔProb is then measured exactly, in batches (see `ablate.sweep`).

`<bos>` is never read: its activations dwarf all others and say nothing about the fact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.readings import NeuronAttribution, Rank, Reading, SiteReading, UnitReading, relative_drop
from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.engine.ablate import sweep
from knowscope_tui.engine.answers import answer_rank, forward, is_top, probability, top_tokens
from knowscope_tui.engine.attribution import gradients, integrated_gradients, unit_attribution
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.errors import UsageError

EXACT_FOR_RANKING = 200
"""How many units have ΔProb measured when they are ranked by it."""

OWN_ANSWERS = 20
"""How many of the most probable tokens are tried as the model's own answer."""


@dataclass(frozen=True)
class _SiteUnits:
    """All units of one site at the reading position: activation and attribution, (n_units,) each."""

    site: Site
    family: Family
    activation: Tensor
    attribution: Tensor


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


def own_answer(lm: LanguageModel, prompt: str) -> str:
    """The model's own next word after `prompt`: its most probable token that, written there, reads as itself.

    A token that goes on with the prompt's last word does not, nor does an end-of-text token.
    """
    ids = lm.encode(prompt)
    best = forward(lm, Question(prompt, "", ids, (0,)))[-1].topk(OWN_ANSWERS).indices.tolist()
    for token in best:
        text = lm.text(token).strip()
        if text and lm.ask(prompt, text).answer_ids == (token,):
            return text
    return lm.text(best[0]).strip() or "."


def read(
    lm: LanguageModel,
    library: Library,
    prompt: str,
    answer: str | None,
    *,
    position: int | None,
    families: tuple[Family, ...],
    rank: Rank,
    neuron_attribution: NeuronAttribution,
    top: int,
    exact: int,
    tau1: float,
    on_progress: OnProgress,
    on_reading: Callable[[Reading], None] | None,
) -> Reading:
    """Looks at a fact; `Scope.probe` documents the arguments. Raises `PromptError` or `UsageError`."""
    question = lm.ask(prompt, answer if answer and answer.strip() else own_answer(lm, prompt))
    place = reading_position(question, position)
    logits, cache, slopes = gradients(lm, question, _sites(lm, library, families))
    by_site = [_read_site(library, site, cache[site][0, place], slopes[site][0, place]) for site in cache]
    if neuron_attribution is NeuronAttribution.INTEGRATED and Family.NEURON in families:
        by_site = _with_integrated(lm, question, place, by_site, on_progress)
    ranked_by = Rank.ATTRIBUTION if rank is Rank.DELTA_PROB else rank
    reading = Reading(
        prompt=question.prompt,
        answer=question.answer,
        tokens=tuple(lm.text(token) for token in question.prompt_ids),
        position=place,
        p_answer=probability(logits, question),
        rank=answer_rank(logits, question),
        says_answer=bool(is_top(logits[None], question)[0]),
        top_tokens=top_tokens(logits, question.last, lm),
        units=_units(by_site, place, ranked_by, max(top, exact), tau1),
        sites=tuple(_summary(units) for units in by_site),
        ranked_by=ranked_by,
    )
    wanted = max(exact, EXACT_FOR_RANKING) if rank is Rank.DELTA_PROB else exact
    if not wanted:
        return replace(reading, units=reading.units[:top])
    if on_reading is not None:
        on_reading(replace(reading, units=reading.units[:top]))
    candidates = _units(by_site, place, Rank.ATTRIBUTION, wanted, tau1)
    measured = _measured(lm, library, question, reading, candidates, cache, on_progress)
    return _merge(reading, measured, rank, top)


def _sites(lm: LanguageModel, library: Library, families: Sequence[Family]) -> list[Site]:
    sites = list(library.sites) if Family.FEATURE in families else []
    if Family.NEURON in families:
        sites += [Site(layer, SiteKind.MLP_ACT) for layer in range(lm.n_layers)]
    return sites


def _read_site(library: Library, site: Site, activation: Tensor, slope: Tensor) -> _SiteUnits:
    family = Family.NEURON if site.kind is SiteKind.MLP_ACT else Family.FEATURE
    return _SiteUnits(site, family, *unit_attribution(library, site, activation, slope))


def _with_integrated(
    lm: LanguageModel, question: Question, position: int, by_site: list[_SiteUnits], on_progress: OnProgress
) -> list[_SiteUnits]:
    def on_layer(layer: int) -> None:
        on_progress("Integrating gradients", layer / lm.n_layers)

    integrated = integrated_gradients(lm, question, position, on_layer)
    return [replace(units, attribution=integrated.get(units.site, units.attribution)) for units in by_site]


def _units(by_site: Sequence[_SiteUnits], position: int, rank: Rank, top: int, tau1: float) -> tuple[UnitReading, ...]:
    """The `top` strongest active units over all sites."""
    thresholds = _selection_thresholds(by_site, tau1)
    rows: list[UnitReading] = []
    for units in by_site:
        active = units.activation != 0
        strength = units.activation.abs() if rank is Rank.ACTIVATION else units.attribution
        best = strength.masked_fill(~active, -torch.inf).topk(min(top, int(active.sum())))
        activations, attributions = (values[best.indices].tolist() for values in (units.activation, units.attribution))
        for index, activation, attribution in zip(best.indices.tolist(), activations, attributions, strict=True):
            rows.append(
                UnitReading(
                    unit=Unit(units.site, units.family, index),
                    position=position,
                    activation=activation,
                    attribution=attribution,
                    selected=activation > thresholds[units.site.kind],
                )
            )
    return tuple(sorted(rows, key=_sort_key(rank))[:top])


def _selection_thresholds(by_site: Sequence[_SiteUnits], tau1: float) -> Mapping[SiteKind, float]:
    """τ1 · max f for each kind, the maximum over all layers and units of that kind (the paper's F_a)."""
    maxima: dict[SiteKind, float] = {}
    for units in by_site:
        maxima[units.site.kind] = max(maxima.get(units.site.kind, 0.0), float(units.activation.max()))
    return {kind: tau1 * maximum for kind, maximum in maxima.items()}


def _sort_key(rank: Rank) -> Callable[[UnitReading], tuple[float, Unit]]:
    def key(reading: UnitReading) -> tuple[float, Unit]:
        if rank is Rank.ACTIVATION:
            return -abs(reading.activation), reading.unit
        if rank is Rank.ATTRIBUTION:
            return -reading.attribution, reading.unit
        return (-reading.delta_prob if reading.delta_prob is not None else float("inf")), reading.unit

    return key


def _summary(units: _SiteUnits) -> SiteReading:
    return SiteReading(
        site=units.site,
        family=units.family,
        active=int((units.activation != 0).sum()),
        attribution=float(units.attribution.clamp(min=0).sum()),
        max_activation=float(units.activation.max()),
    )


def _measured(
    lm: LanguageModel,
    library: Library,
    question: Question,
    reading: Reading,
    candidates: Sequence[UnitReading],
    cache: Mapping[Site, Tensor],
    on_progress: OnProgress,
) -> list[UnitReading]:
    """`candidates` with their exact ΔProb."""

    def on_batch(done: int) -> None:
        on_progress("Measuring exact ΔProb", done / len(candidates))

    units = [candidate.unit for candidate in candidates]
    p_after = sweep(lm, library, question, units, cache, reading.position, on_batch=on_batch)
    return [
        replace(candidate, delta_prob=relative_drop(reading.p_answer, p))
        for candidate, p in zip(candidates, p_after, strict=True)
    ]


def _merge(reading: Reading, measured: Sequence[UnitReading], rank: Rank, top: int) -> Reading:
    exact = {candidate.unit: candidate for candidate in measured}
    shown = {row.unit: exact.get(row.unit, row) for row in reading.units}
    units = sorted((exact if rank is Rank.DELTA_PROB else shown).values(), key=_sort_key(rank))
    return replace(reading, units=tuple(units[:top]), ranked_by=rank)
