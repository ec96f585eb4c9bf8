"""First-order attribution of the answer to units: gradients, and integrated gradients for neurons.

Gradient × activation (attribution patching, Nanda 2023; SAE features: Marks et al. 2024): for a feature with
activation z and decoder row W_dec[i], z · (W_dec[i] · ∂ log P/∂h); for a neuron, a · ∂ log P/∂a. It estimates how much
log P(answer) falls when the unit is set to zero.

Integrated gradients (Dai et al. 2022): with a_l all neurons of layer l at the reading position,
a · (1/m) Σ_{k=1..m} ∂P(k/m · a)/∂a, m = 20 steps from a zero baseline, each layer by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.engine.answers import answer_log_prob
from knowscope_tui.engine.dictionary import Dictionary
from knowscope_tui.engine.hooks import Change, capture, intervene
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel, Question

INTEGRATION_STEPS = 20


@torch.enable_grad()
def gradients(
    lm: LanguageModel, question: Question, sites: Sequence[Site]
) -> tuple[Tensor, dict[Site, Tensor], dict[Site, Tensor]]:
    """One forward and one backward: `(logits, activations, ∂ log P(answer)/∂ activation)`.

    logits (pos, vocabulary); the others site → (1, pos, width), detached.
    """
    with capture(lm.model, sites, gradients=True) as cache:
        logits = lm.model(input_ids=lm.tensor([question.input_ids]), use_cache=False).logits
    log_p = answer_log_prob(logits, question)[0]
    ordered = list(cache)
    slopes = torch.autograd.grad(log_p, [cache[site] for site in ordered]) if ordered else ()
    return (
        logits[0].detach(),
        {site: cache[site].detach() for site in ordered},
        dict(zip(ordered, slopes, strict=True)),
    )


def feature_attribution(dictionary: Dictionary, activation: Tensor, z: Tensor, slope: Tensor) -> Tensor:
    """Gradient × activation of features at one token: activation and slope (d_in,), z (d_sae,) → (d_sae,).

    Only the decoder rows of active features are fetched; the others' attribution is zero.
    """
    active = z.nonzero()[:, 0]
    writes = dictionary.rows(active) @ (slope.to(torch.float32) * dictionary.write_scale(activation))  # (n_active,)
    return torch.zeros_like(z).index_put((active,), z[active] * writes)


def unit_attribution(library: Library, site: Site, activation: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Activation and gradient × activation of every unit at one token: (width,) both → (n_units,) both, float32."""
    if site.kind is SiteKind.MLP_ACT:
        a = activation.to(torch.float32)
        return a, a * slope.to(torch.float32)
    dictionary = library.at(site)
    z = dictionary.encode(activation)
    return z, feature_attribution(dictionary, activation, z, slope)


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
