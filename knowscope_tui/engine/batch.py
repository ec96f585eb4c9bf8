"""How many rows run at once: as many as a memory budget allows."""

from __future__ import annotations

import torch

from knowscope_tui.core.units import SiteKind
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.sites import text_config, width
from knowscope_tui.engine.suffix import Suffix

SWEEP_BYTES = 1 << 29
"""What the rows of a sweep may take beside the model, the unembedding's chunks aside."""

MOST_TOKENS = {"cpu": 512, "cuda": 2048}
"""Tokens from which on more at once bring no more speed."""


def rows_within(lm: LanguageModel, suffix: Suffix, budget: int = SWEEP_BYTES) -> int:
    """Rows of `suffix` that may run at once within `budget` bytes: at least one."""
    config, tokens = text_config(lm.model), suffix.tokens
    size, heads = lm.dtype.itemsize, config.num_attention_heads
    d_model, d_mlp, d_attn = (
        width(lm.model, kind) for kind in (SiteKind.RESID_POST, SiteKind.MLP_ACT, SiteKind.ATTN_Z)
    )
    seen = suffix.prefix + suffix.pack * tokens
    # Residual stream, norms and differences; gate, up and their product; queries, keys, values; scores and softmax.
    token = size * (8 * d_model + 4 * d_mlp + 6 * d_attn) + 4 * d_model + heads * seen * (2 * size + 4)
    # Keys and values to the left, copied for a sequence and repeated for each of its heads.
    prefix = size * 4 * d_attn * suffix.prefix / suffix.pack
    most = MOST_TOKENS.get(lm.device.type, MOST_TOKENS["cpu"]) // tokens
    return max(1, min(most, int(budget / (tokens * token + prefix))))


def free_cache() -> None:
    """Hands memory that torch keeps for later back to the device."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
