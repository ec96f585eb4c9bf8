"""Switching units off, and what that does to the answer.

For a feature i with activation z at a token the plain way is

    h' = h + (target − z) · W_dec[i]                 error-preserving: the reconstruction error passes through
    h' = decode(f with f_i = target)                 substituting: the paper's way

and for a neuron a_k = target. `target` is 0, the unit's mean, or a multiple of its activation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor

from knowscope_tui.core.readings import Ablation, Effect, Mode, Positions, TokenProb
from knowscope_tui.core.units import Family, Site, Unit
from knowscope_tui.engine.answers import answer_log_prob, answer_rank, forward, probability, top_tokens
from knowscope_tui.engine.dictionary import Dictionary
from knowscope_tui.engine.hooks import Change, intervene
from knowscope_tui.engine.library import Library, check_unit
from knowscope_tui.engine.model import LanguageModel, Question

Means = Mapping[Unit, float]
"""Mean activation of units over reference text, for `Mode.MEAN`."""


def _by_site(units: Sequence[Unit]) -> dict[Site, list[Unit]]:
    return {site: list(group) for site, group in groupby(sorted(set(units)), key=lambda unit: unit.site)}


def _target(activation: Tensor, units: Sequence[Unit], ablation: Ablation, means: Means) -> Tensor:
    """What the activations of `units` become: (..., n_units) → (..., n_units)."""
    if ablation.mode is Mode.SCALE:
        return activation * ablation.factor
    if ablation.mode is Mode.MEAN:
        return activation.new_tensor([means[unit] for unit in units]).expand_as(activation)
    return torch.zeros_like(activation)


def _feature_change(dictionary: Dictionary, units: Sequence[Unit], ablation: Ablation, means: Means) -> Change:
    numbers = [unit.index for unit in units]

    def change(rows: Tensor) -> Tensor:  # (batch, n, d_in)
        indices = torch.tensor(numbers, device=rows.device)
        if ablation.substitute:
            features = dictionary.encode(rows)
            features[..., indices] = _target(features[..., indices], units, ablation, means)
            return dictionary.decode(features, rows).to(rows.dtype)
        z = dictionary.encode_some(rows, indices)  # (batch, n, n_units)
        delta = dictionary.write(rows, _target(z, units, ablation, means) - z, indices)
        return (rows.to(delta.dtype) + delta).to(rows.dtype)

    return change


def _neuron_change(units: Sequence[Unit], ablation: Ablation, means: Means) -> Change:
    numbers = [unit.index for unit in units]

    def change(rows: Tensor) -> Tensor:  # (batch, n, d_mlp)
        indices = torch.tensor(numbers, device=rows.device)
        changed = rows.clone()
        changed[..., indices] = _target(rows[..., indices], units, ablation, means).to(rows.dtype)
        return changed

    return change


def _at(positions: Positions, position: int, change: Change) -> Change:
    """`change` applied to the reached tokens only; `<bos>` at 0 is never one of them."""
    reached = slice(position, position + 1) if positions is Positions.LAST else slice(1, None)

    def whole(activation: Tensor) -> Tensor:
        changed = activation.clone()
        changed[:, reached] = change(activation[:, reached])
        return changed

    return whole


def ablation_changes(
    lm: LanguageModel, library: Library, ablation: Ablation, position: int, means: Means | None = None
) -> dict[Site, Change]:
    """What `intervene` needs to carry `ablation` out with `position` as the reading position.

    Raises `UsageError` for a unit that does not exist.
    """
    changes: dict[Site, Change] = {}
    for site, units in _by_site(ablation.units).items():
        for unit in units:
            check_unit(lm, library, unit)
        if units[0].family is Family.FEATURE:
            change = _feature_change(library.at(site), units, ablation, means or {})
        else:
            change = _neuron_change(units, ablation, means or {})
        changes[site] = _at(ablation.positions, position, change)
    return changes


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
    logits_before = forward(lm, question)
    with intervene(lm.model, changes):
        logits_after = forward(lm, question)
    return Effect(
        prompt=question.prompt,
        answer=question.answer,
        ablation=ablation,
        p_before=probability(logits_before, question),
        p_after=probability(logits_after, question),
        rank_before=answer_rank(logits_before, question),
        rank_after=answer_rank(logits_after, question),
        top_before=_top(logits_before, question, lm),
        top_after=_top(logits_after, question, lm),
    )


def _top(logits: Tensor, question: Question, lm: LanguageModel) -> tuple[TokenProb, ...]:
    return top_tokens(logits, question.last, lm)


@torch.no_grad()
def sweep(
    lm: LanguageModel,
    library: Library,
    question: Question,
    units: Sequence[Unit],
    cache: Mapping[Site, Tensor],
    position: int,
    *,
    most: int = 64,
    on_batch: Callable[[int], None] = lambda done: None,
) -> list[float]:
    """P(answer) with each of `units` alone zeroed at `position`, in their order: one batch row a unit.

    `cache` holds the activations without ablation, site → (1, pos, width): nothing below a unit's own site changes
    when it alone is switched off, so what has to be taken away is known beforehand. Up to `most` rows run at once.
    `on_batch(done)` is called after every batch and may raise to cancel.
    """
    order = sorted(range(len(units)), key=lambda index: units[index].site)
    p_after = [0.0] * len(units)
    batch = lm.rows_at_once(len(question.input_ids), most)
    for start in range(0, len(order), batch):
        chunk = order[start : start + batch]
        changes = _row_changes([units[index] for index in chunk], library, cache, position)
        tokens = lm.tensor([question.input_ids]).expand(len(chunk), -1)
        with intervene(lm.model, changes):
            logits = lm.model(input_ids=tokens, use_cache=False).logits
        for index, value in zip(chunk, answer_log_prob(logits, question).exp().tolist(), strict=True):
            p_after[index] = value
        on_batch(start + len(chunk))
    return p_after


def _row_changes(
    units: Sequence[Unit], library: Library, cache: Mapping[Site, Tensor], position: int
) -> dict[Site, Change]:
    """Changes that zero unit r in batch row r."""
    rows_of: dict[Site, list[int]] = {}
    for row, unit in enumerate(units):
        rows_of.setdefault(unit.site, []).append(row)
    changes: dict[Site, Change] = {}
    for site, rows in rows_of.items():
        indices = torch.tensor([units[row].index for row in rows], device=cache[site].device)
        if units[rows[0]].family is Family.FEATURE:
            dictionary = library.at(site)
            h = cache[site][0, position]
            z = dictionary.encode_some(h, indices)  # (n_rows,)
            changes[site] = _subtract(rows, position, z[:, None] * dictionary.rows(indices) * dictionary.write_scale(h))
        else:
            changes[site] = _clear(rows, position, indices)
    return changes


def _subtract(rows: list[int], position: int, written: Tensor) -> Change:
    def change(activation: Tensor) -> Tensor:
        changed = activation.clone()
        kept = activation[rows, position].to(written.dtype) - written  # (n_rows, d_in)
        changed[rows, position] = kept.to(activation.dtype)
        return changed

    return change


def _clear(rows: list[int], position: int, indices: Tensor) -> Change:
    def change(activation: Tensor) -> Tensor:
        changed = activation.clone()
        changed[rows, position, indices] = 0
        return changed

    return change
