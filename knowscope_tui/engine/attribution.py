"""First-order attribution of the answer to units: gradients, and integrated gradients for neurons.

Gradient × activation (attribution patching, Nanda 2023; SAE features: Marks et al. 2024): for a feature with
activation z and decoder row W_dec[i], z · (W_dec[i] · ∂ log P/∂h); for a neuron, a · ∂ log P/∂a. It estimates how much
log P(answer) falls when the unit is set to zero.

Integrated gradients (Dai et al. 2022): with a_l all neurons of layer l at the reading position,
a · (1/m) Σ_{k=1..m} ∂P(k/m · a)/∂a, m = 20 steps from a zero baseline, each layer by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.engine.answers import answer_log_prob
from knowscope_tui.engine.dictionary import Dictionary
from knowscope_tui.engine.hooks import Change, intervene
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.trace import Trace

INTEGRATION_STEPS = 20


def feature_attribution(dictionary: Dictionary, activation: Tensor, z: Tensor, slope: Tensor) -> Tensor:
    """Gradient × activation of features: activation and slope (facts, d_in), z (facts, d_sae) → (facts, d_sae).

    Only the decoder rows of features that are active on a fact are fetched; the others' attribution is zero.
    """
    active = z.any(dim=0).nonzero()[:, 0]  # (n_active,)
    writes = (slope.to(torch.float32) * dictionary.write_scale(activation)) @ dictionary.rows(active).T
    return torch.zeros_like(z).index_copy_(1, active, z[:, active] * writes)


def unit_attribution(library: Library, site: Site, trace: Trace) -> tuple[Tensor, Tensor]:
    """Activation and gradient × activation of every unit at the reading positions of `trace`, which has slopes.

    Both are (facts, n_units), float32.
    """
    activation, slope = trace.activations[site], trace.slopes[site]
    if site.kind is SiteKind.MLP_ACT:
        a = activation.to(torch.float32)
        return a, a * slope.to(torch.float32)
    z = trace.encoded(library, site)
    return z, feature_attribution(library.at(site), activation, z, slope)


def strongest(attribution: Mapping[Site, Tensor], top: int) -> tuple[Unit, ...]:
    """The `top` units with the largest positive attribution over all sites: site → (n_units,)."""
    found: list[tuple[float, Unit]] = []
    for site, values in attribution.items():
        family = Family.NEURON if site.kind is SiteKind.MLP_ACT else Family.FEATURE
        best = values.topk(min(top, len(values)))
        for value, index in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            if value > 0:
                found.append((value, Unit(site, family, index)))
    found.sort(key=lambda pair: (-pair[0], pair[1]))
    return tuple(unit for _value, unit in found[:top])


@torch.enable_grad()
def integrated_gradients(
    lm: LanguageModel,
    question: Question,
    position: int,
    on_layer: Callable[[int], None] = lambda layer: None,
    steps: int = INTEGRATION_STEPS,
) -> dict[Site, Tensor]:
    """Integrated gradients of P(answer) for every neuron at `position`: mlp_act site → (d_mlp,), float32.

    As many of the `steps` rows run at once as the vocabulary allows. `on_layer(layer)` is called before each layer and
    may raise to cancel.
    """
    result: dict[Site, Tensor] = {}
    at_once = lm.rows_at_once(len(question.input_ids), steps)
    for layer in range(lm.n_layers):
        on_layer(layer)
        site = Site(layer, SiteKind.MLP_ACT)
        total: Tensor | None = None
        for start in range(0, steps, at_once):
            rows = range(start + 1, min(start + at_once, steps) + 1)
            activation, slope = _slopes_along(lm, question, position, site, rows, steps)
            total = slope if total is None else total + slope
        assert total is not None
        result[site] = (activation * (total / steps)).to(torch.float32)
    return result


def _slopes_along(
    lm: LanguageModel, question: Question, position: int, site: Site, rows: range, steps: int
) -> tuple[Tensor, Tensor]:
    """The activation at `position`, and Σ_k ∂P(k/steps · a)/∂a over the k in `rows`: (d_mlp,) both."""
    tokens = lm.tensor([question.input_ids]).expand(len(rows), -1)
    kept: list[Tensor] = []
    with intervene(lm.model, {site: _scaled_leaf(position, rows, steps, kept)}):
        logits = lm.model(input_ids=tokens, use_cache=False).logits
    p = answer_log_prob(logits, question).exp()  # (rows,)
    (slope,) = torch.autograd.grad(p.sum(), kept[1])  # (rows, d_mlp)
    return kept[0], slope.sum(dim=0)


def _scaled_leaf(position: int, rows: range, steps: int, kept: list[Tensor]) -> Change:
    """Puts k/steps of the activation at `position`, a row for each k in `rows`.

    `kept` receives the activation, and what stands there instead as a leaf of the graph.
    """

    def change(activation: Tensor) -> Tensor:  # (rows, pos, d_mlp)
        shares = torch.tensor(rows, device=activation.device, dtype=activation.dtype) / steps
        leaf = (activation[:, position].detach() * shares[:, None]).requires_grad_(True)
        kept.extend((activation[0, position].detach(), leaf))
        whole = activation.detach().clone()
        whole[:, position] = leaf
        return whole

    return change
