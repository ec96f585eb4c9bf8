"""Whether looking changes what is looked at: hooked logits against plain Hugging Face logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.hooks import capture
from knowscope_tui.engine.model import LanguageModel


@torch.no_grad()
def parity(lm: LanguageModel, texts: Sequence[str]) -> float:
    """The largest absolute logit difference between a plain forward and one with every site captured; 0 is expected.

    NaN where the model's logits are not numbers.
    """
    sites = [Site(layer, kind) for layer in range(lm.n_layers) for kind in SiteKind]
    largest = 0.0
    for text in texts:
        tokens = lm.tensor([lm.encode_text(text, cut=True)])
        plain = lm.model(input_ids=tokens, use_cache=False).logits
        with capture(lm.model, sites):
            hooked = lm.model(input_ids=tokens, use_cache=False).logits
        difference = float((plain - hooked).abs().max())
        if not difference <= largest:  # NaN, which compares with nothing, stays
            largest = difference
    return largest
