"""Changes of a `down_proj` from what a method computed: as factors where these are smaller, otherwise as values."""

from __future__ import annotations

import torch
from torch import Tensor

from knowscope_tui.engine.deltas.change import FACTOR_BITS, Change, SparseChange, low_rank
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.sites import down_proj, down_proj_name, stored_layout

FACTOR_BYTES = 4
"""Of an entry of a factor."""

MOST_RANK = 1 << (52 - 2 * FACTOR_BITS)
"""Rank up to which float64 holds every partial sum of two factors' integers (see `deltas.change`)."""


def factored(lm: LanguageModel, layer: int, left: Tensor, right: Tensor) -> Change:
    """W + left · right for `down_proj` of `layer`: left (d_model, r), right (r, d_mlp)."""
    weight = down_proj(lm.model, layer)
    as_factors = (left.numel() + right.numel()) * FACTOR_BYTES
    if as_factors >= weight.numel() * weight.element_size() or left.shape[1] > MOST_RANK:
        return dense(lm, layer, (weight.to(torch.float64) + left.to(torch.float64) @ right.to(torch.float64)))
    as_stored = stored_layout(lm.model, weight) is weight
    first, second = (left, right) if as_stored else (right.T, left.T)
    return low_rank(down_proj_name(lm.model, layer), first, second)


def dense(lm: LanguageModel, layer: int, edited: Tensor) -> SparseChange:
    """The change that makes `down_proj` of `layer` the table `edited`, (d_model, d_mlp), in the model's dtype."""
    weight = down_proj(lm.model, layer)
    rounded = edited.to(weight.dtype)
    differs = stored_layout(lm.model, rounded != weight)
    indices = differs.flatten().nonzero()[:, 0]
    values = stored_layout(lm.model, rounded).flatten()[indices]
    return SparseChange(down_proj_name(lm.model, layer), tuple(differs.shape), indices, values)
