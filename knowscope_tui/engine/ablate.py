"""Switching units off, and what that does to the answer.

For a feature i with activation z at a token the plain way is

    h' = h + (target − z) · W_dec[i]                 error-preserving: the reconstruction error passes through
    h' = decode(f with f_i = target)                 substituting: the paper's way

and for a neuron a_k = target. `target` is 0, the unit's mean, or a multiple of its activation.

`measure_ablation` runs the whole model with hooks: it is what `live` and `sweep`, which run parts of it, are held to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby

import torch
from torch import Tensor

from knowscope_tui.core.readings import Ablation, Effect, Mode, Positions, TokenProb
from knowscope_tui.core.units import Family, Site, Unit
from knowscope_tui.engine.answers import answer_rank, forward, probability, top_tokens
from knowscope_tui.engine.dictionary import Dictionary, Selection
from knowscope_tui.engine.hooks import Change, intervene
from knowscope_tui.engine.library import Library, check_unit
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.transfer import upload

Means = Mapping[Unit, float]
"""Mean activation of units over reference text, for `Mode.MEAN`."""


def _by_site(units: Sequence[Unit]) -> dict[Site, list[Unit]]:
    return {site: list(group) for site, group in groupby(sorted(set(units)), key=lambda unit: unit.site)}


def _target(activation: Tensor, ablation: Ablation, means: Tensor) -> Tensor:
    """What activations (..., n_units) become; `means` (n_units,)."""
    if ablation.mode is Mode.SCALE:
        return activation * ablation.factor
    if ablation.mode is Mode.MEAN:
        return means.to(activation.dtype).expand_as(activation)
    return torch.zeros_like(activation)


def _feature_change(dictionary: Dictionary, units: Sequence[Unit], ablation: Ablation, means: Means) -> Change:
    @cache
    def at_hand(device: torch.device) -> tuple[Selection, Tensor]:
        return dictionary.select(_indices(units), device), upload(_means_of(units, ablation, means), device)

    def change(rows: Tensor) -> Tensor:  # (batch, n, d_in)
        chosen, mean = at_hand(rows.device)
        if ablation.substitute:
            features = dictionary.encode(rows)
            features[..., chosen.indices] = _target(features[..., chosen.indices], ablation, mean)
            return dictionary.decode(features, rows).to(rows.dtype)
        z = chosen.encode(rows)  # (batch, n, n_units)
        delta = chosen.write(rows, _target(z, ablation, mean) - z)
        return (rows.to(delta.dtype) + delta).to(rows.dtype)

    return change


def _neuron_change(units: Sequence[Unit], ablation: Ablation, means: Means) -> Change:
    @cache
    def at_hand(device: torch.device) -> tuple[Tensor, Tensor]:
        return upload(_indices(units), device), upload(_means_of(units, ablation, means), device)

    def change(rows: Tensor) -> Tensor:  # (batch, n, d_mlp)
        indices, mean = at_hand(rows.device)
        changed = rows.clone()
        changed[..., indices] = _target(rows[..., indices], ablation, mean).to(rows.dtype)
        return changed

    return change


def _indices(units: Sequence[Unit]) -> Tensor:
    """(n_units,), on the host."""
    return torch.tensor([unit.index for unit in units])


def _means_of(units: Sequence[Unit], ablation: Ablation, means: Means) -> Tensor:
    """(n_units,), on the host; zeros where the mode has no use for means."""
    return torch.tensor([means[unit] if ablation.mode is Mode.MEAN else 0.0 for unit in units])


def at_tokens(reached: slice, change: Change) -> Change:
    """`change` applied to the `reached` tokens only."""

    def whole(activation: Tensor) -> Tensor:
        changed = activation.clone()
        changed[:, reached] = change(activation[:, reached])
        return changed

    return whole


def unit_changes(
    lm: LanguageModel, library: Library, ablation: Ablation, means: Means | None = None
) -> dict[Site, Change]:
    """What `ablation` makes of the activations at its sites, whichever tokens it is let at: (batch, n, width) each.

    Raises `UsageError` for a unit that does not exist.
    """
    changes: dict[Site, Change] = {}
    for site, units in _by_site(ablation.units).items():
        for unit in units:
            check_unit(lm, library, unit)
        if units[0].family is Family.FEATURE:
            changes[site] = _feature_change(library.at(site), units, ablation, means or {})
        else:
            changes[site] = _neuron_change(units, ablation, means or {})
    return changes


def ablation_changes(
    lm: LanguageModel, library: Library, ablation: Ablation, position: int, means: Means | None = None
) -> dict[Site, Change]:
    """What `intervene` needs to carry `ablation` out with `position` as the reading position.

    `<bos>` at 0 is never reached. Raises `UsageError` for a unit that does not exist.
    """
    reached = slice(position, position + 1) if ablation.positions is Positions.LAST else slice(1, None)
    changes = unit_changes(lm, library, ablation, means)
    return {site: at_tokens(reached, change) for site, change in changes.items()}


def row_changes(
    lm: LanguageModel, library: Library, ablation: Ablation, means: Means | None = None
) -> dict[Site, Change]:
    """The same for rows that start at the reading position, or behind `<bos>` (see `suffix`)."""
    reached = slice(0, 1) if ablation.positions is Positions.LAST else slice(None)
    changes = unit_changes(lm, library, ablation, means)
    return {site: at_tokens(reached, change) for site, change in changes.items()}


def measure_ablation(
    lm: LanguageModel,
    library: Library,
    question: Question,
    ablation: Ablation,
    *,
    position: int | None = None,
    means: Means | None = None,
) -> Effect:
    """What `ablation` does to the answer of `question`."""
    position = question.last if position is None else position
    changes = ablation_changes(lm, library, ablation, position, means)
    before = forward(lm, question)
    with intervene(lm.model, changes):
        after = forward(lm, question)
    return effect_of(question, ablation, said(lm, question, before), said(lm, question, after))


@dataclass(frozen=True)
class Said:
    """What logits say of an answer."""

    p: float
    rank: int
    top: tuple[TokenProb, ...]


def said(lm: LanguageModel, question: Question, logits: Tensor) -> Said:
    """What `logits`, (pos, vocabulary), say of the answer of `question`."""
    return Said(probability(logits, question), answer_rank(logits, question), top_tokens(logits, question, lm))


def effect_of(question: Question, ablation: Ablation, before: Said, after: Said) -> Effect:
    """What `ablation` did, from what was said without and with it."""
    return Effect(
        prompt=question.prompt,
        answer=question.answer,
        ablation=ablation,
        p_before=before.p,
        p_after=after.p,
        rank_before=before.rank,
        rank_after=after.rank,
        top_before=before.top,
        top_after=after.top,
    )
