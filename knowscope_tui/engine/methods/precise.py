"""`precise`: the features of a fact taken out in closed form, over several layers, without a training step.

For every phrasing of every fact the target is a change s · δ of the residual stream at the reading position behind the
last layer, where s = 1 is exactly what switching the fact's features off does; for a fact with a new answer δ leads to
that (see `targets`). Layer by layer, from the lowest, with what is still missing shared among those that are left
(MEMIT, Meng et al. 2023, arXiv 2210.07229, section 4.3):

    ΔW = (1/n) Rᵀ A ((1/n) Aᵀ A + C + ε)⁻¹,   R = (s · δ − what has been reached) · r / g

A (n × d_mlp) are the n phrasings' `mlp_act`; R (n × d_model) is brought in front of the norm behind `down_proj` (r its
root mean square, g its gain); C holds the second moments of what must not move (`moments`, which also has the ridge ε).
The inverse is never formed: with M = C + ε, by Woodbury's identity,

    ΔW = Rᵀ (n + A M⁻¹ Aᵀ)⁻¹ · A M⁻¹

so that a layer is factored once, whatever the rounds, and ΔW comes as factors of rank n. Every fact has its own step s:
it grows until the answer is `MARGIN` nats behind another in every phrasing, so that a fact that gives way early is not
pushed further.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from knowscope_tui.core.edits import EditSpec
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.units import Site, SiteKind, Unit
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.methods.material import Material
from knowscope_tui.engine.methods.moments import Moment, moments
from knowscope_tui.engine.methods.states import at
from knowscope_tui.engine.methods.targets import Targets, find_targets
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.sites import down_proj, layer_device, post_feedforward_gain, text_config

MARGIN = 5.0
"""How many nats behind the top answer the erased one is to be, in each phrasing."""

GROWTH, ROUNDS = 1.25, 12
"""By how much a step grows between rounds, and how many rounds there are."""

Factors = tuple[Tensor, Tensor]
"""ΔW of one `down_proj` as left (d_model, r) · right (r, d_mlp), float32, on the layer's device; right's rows are
orthonormal."""


@dataclass(frozen=True)
class Solved:
    """The changes by layer, and how it went."""

    factors: dict[int, Factors]
    units: dict[Fact, tuple[Unit, ...]]
    rounds: int
    stubborn: int
    """Facts that did not get as far as the margin."""

    @property
    def all_units(self) -> tuple[Unit, ...]:
        return tuple(dict.fromkeys(unit for used in self.units.values() for unit in used))


def edited_layers(lm: LanguageModel) -> list[int]:
    """The layers that share the load: all but the lowest quarter, whose keys hold the words rather than the fact."""
    return list(range(max(1, lm.n_layers // 4), lm.n_layers)) or [0]


def solve(
    lm: LanguageModel,
    library: Library,
    spec: EditSpec,
    material: Material,
    tell: Callable[[str, float | None], None],
) -> Solved:
    """The closed form for all facts of `spec`; the model is as it was when this returns or raises."""
    layers = edited_layers(lm)
    targets = find_targets(lm, library, spec)
    kept = moments(lm, layers, spec, material, targets.questions, targets.positions)
    original = {layer: down_proj(lm.model, layer).detach().clone() for layer in layers}
    steps = torch.ones(len(spec.facts))
    found: dict[int, Factors] = {}
    rounds, late = 0, torch.ones(len(spec.facts), dtype=torch.bool)
    try:
        for rounds in range(1, ROUNDS + 1):
            tell("Solving", rounds / ROUNDS)
            _restore(lm, original)
            found = _spread(lm, layers, targets, steps, kept)
            late = targets.lead(lm) > -MARGIN
            if not late.any():
                break
            steps[late] *= GROWTH
    finally:
        _restore(lm, original)
    return Solved(found, targets.units, rounds, int(late.sum()))


@torch.no_grad()
def _restore(lm: LanguageModel, original: Mapping[int, Tensor]) -> None:
    for layer, weight in original.items():
        down_proj(lm.model, layer).copy_(weight)


@torch.no_grad()
def _spread(
    lm: LanguageModel, layers: Sequence[int], targets: Targets, steps: Tensor, kept: Mapping[int, Moment]
) -> dict[int, Factors]:
    """One pass over the layers; changes the model's weights, and returns by what."""
    wanted = targets.reached + targets.delta * steps[targets.owner][:, None]  # (n, d_model)
    found: dict[int, Factors] = {}
    for number, layer in enumerate(layers):
        device = layer_device(lm.model, layer)
        acts = Site(layer, SiteKind.MLP_ACT)
        state = at(lm, targets.questions, targets.positions, [acts, targets.site])
        missing = ((wanted - state[targets.site]) / (len(layers) - number)).to(device)
        keys = state[acts].to(device)
        found[layer] = closed_form(keys, missing * _unnormed(lm, layer, keys), kept[layer])
        weight, (left, right) = down_proj(lm.model, layer), found[layer]
        weight.copy_((weight.to(torch.float32) + left @ right).to(weight.dtype))
    return found


def closed_form(keys: Tensor, wanted: Tensor, kept: Moment) -> Factors:
    """ΔW under which the n `keys` (n, d_mlp) are written `wanted` (n, d_model) more, as far as `kept` allows."""
    right = kept.solve(keys)  # A M⁻¹, (n, d_mlp), float64
    inner = right @ keys.to(right.dtype).T
    inner.diagonal().add_(len(keys))
    left = torch.linalg.solve(inner, wanted.to(right.dtype)).T  # (d_model, n)
    # Like phrasings have like keys: only between orthonormal rows are the columns of `left` free of cancelling parts.
    basis, mixed = torch.linalg.qr(right.T)
    return (left @ mixed.T).to(torch.float32), basis.T.to(torch.float32)


def _unnormed(lm: LanguageModel, layer: int, acts: Tensor) -> Tensor:
    """What brings a change of the residual stream in front of the layer's norm: r / g, damped where g is small; 1
    without a norm. acts (n, d_mlp) → (n, d_model)."""
    gain = post_feedforward_gain(lm.model, layer)
    if gain is None:
        return torch.ones(1, device=acts.device)
    written = acts @ down_proj(lm.model, layer).to(torch.float32).T
    r = (written.square().mean(dim=1, keepdim=True) + text_config(lm.model).rms_norm_eps).sqrt()  # (n, 1)
    scale: Tensor = r * gain / (gain.square() + 1e-3 * gain.square().mean())
    return scale
