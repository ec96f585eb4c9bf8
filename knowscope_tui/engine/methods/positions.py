"""Which entries of `down_proj` an optimised edit may change."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from knowscope_tui.core.edits import EditSpec
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.methods.evidence import questions_about
from knowscope_tui.engine.methods.precise import Factors
from knowscope_tui.engine.methods.states import at_last
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.sites import down_proj, layer_device, stored_layout

Positions = dict[int, Tensor]
"""Layer → flat, ascending indices into its `down_proj` as it is stored."""


def budgeted(lm: LanguageModel, budget: float) -> int:
    """How many positions `budget` of the model's weights are, at least one."""
    return max(1, int(budget * sum(parameter.numel() for parameter in lm.model.parameters())))


def chosen_by_features(lm: LanguageModel, spec: EditSpec, factors: Mapping[int, Factors]) -> Positions:
    """Where the ΔW of `factors`, as `precise` has them by layer, would write most: never more than the budget.

    The largest of |ΔW[j, k]| · rms a_k over the facts' phrasings; what writes nothing is left out.
    """
    count = budgeted(lm, spec.budget)
    best, owners, places = torch.empty(0), torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
    for layer, (left, right) in factors.items():
        site = Site(layer, SiteKind.MLP_ACT)
        rms = at_last(lm, questions_about(lm, spec.facts), [site])[site].square().mean(dim=0).sqrt()  # (d_mlp,)
        written = (left @ right).abs() * rms.to(layer_device(lm.model, layer))
        score = stored_layout(lm.model, written).flatten().cpu()
        own = score.nonzero()[:, 0]
        scores = torch.cat([best, score[own]])
        kept = scores.topk(min(count, len(scores)), sorted=False).indices
        owners = torch.cat([owners, torch.full_like(own, layer)])[kept]
        best, places = scores[kept], torch.cat([places, own])[kept]
    return {layer: own.sort().values for layer in factors if len(own := places[owners == layer])}


def drawn(lm: LanguageModel, spec: EditSpec) -> Positions:
    """As many positions as the budget allows, drawn at random from all `down_proj`."""
    sizes = [down_proj(lm.model, layer).numel() for layer in range(lm.n_layers)]
    generator = torch.Generator().manual_seed(spec.seed)
    count = min(budgeted(lm, spec.budget), sum(sizes))
    places = torch.randperm(sum(sizes), generator=generator)[:count].sort().values
    starts = torch.tensor([0, *sizes]).cumsum(0)
    found: Positions = {}
    for layer in range(lm.n_layers):
        inside = places[(places >= starts[layer]) & (places < starts[layer + 1])] - starts[layer]
        if len(inside):
            found[layer] = inside
    return found


def everywhere(lm: LanguageModel) -> Positions:
    """Every position of every `down_proj`."""
    return {layer: torch.arange(down_proj(lm.model, layer).numel()) for layer in range(lm.n_layers)}
