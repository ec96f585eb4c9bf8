"""`precise`: the features of a fact taken out in closed form, over several layers, without a training step.

For every phrasing of every fact the target is a change of the residual stream at the reading position behind the last
of the layers that are edited: δ = −s Σ_i z_i d_i over the fact's strongest features there, z_i their activation, d_i
their decoder row, so that s = 1 is exactly what switching them off does. For a fact with a new answer δ is made of
`engine.methods.aim`. Layer by layer, from the lowest, with what is still missing shared among those that are left
(MEMIT, Meng et al. 2023, arXiv 2210.07229, section 4.3):

    ΔW = R Kᵀ (K Kᵀ + C)⁻¹,   R = (δ − what has been reached) · r / g,   C = Σ_m λ_m A_m A_mᵀ

K (d_mlp × n) are the phrasings' `mlp_act`, R (d_model × n) is brought in front of the norm behind `down_proj` (r its
root mean square, g its gain), and C holds the second moments of what must not move: general text, retained facts,
those of them that share a subject or a relation with an edited fact, and invented neighbors. Every fact has its own
step s: it grows until the answer is `MARGIN` nats behind another in every phrasing, so that a fact that gives way early
is not pushed further.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from knowscope_tui.core.edits import EditSpec
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.rings import UNRELATED, ring_of
from knowscope_tui.core.units import Site, SiteKind, Unit
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.methods.evidence import questions_about
from knowscope_tui.engine.methods.invented import invented_neighbors
from knowscope_tui.engine.methods.material import Material
from knowscope_tui.engine.methods.states import at, at_last, over_texts
from knowscope_tui.engine.methods.targets import Targets, find_targets
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.sites import down_proj, post_feedforward_gain, text_config

MARGIN = 5.0
"""How many nats behind the top answer the erased one is to be, in each phrasing."""

GROWTH, ROUNDS = 1.25, 12
"""By how much a step grows between rounds, and how many rounds there are."""

KEEP = {"text": 0.2, "retained": 0.1, "near": 0.1, "invented": 0.1}
"""λ of each thing to keep, as a share of the keys' own second moment."""

RIDGE = 1e-4
"""Of the mean diagonal, so that the inverse exists."""

INVENTED = 400


@dataclass(frozen=True)
class Solved:
    """The edited matrices by layer, (d_model, d_mlp) float32, and how it went."""

    weights: dict[int, Tensor]
    units: dict[Fact, tuple[Unit, ...]]
    rounds: int
    stubborn: int
    """Facts that did not get as far as the margin."""


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
    kept = _second_moments(lm, layers, spec, material)
    targets = find_targets(lm, library, spec)
    original = {layer: down_proj(lm.model, layer).detach().clone() for layer in layers}
    steps = torch.ones(len(spec.facts))
    rounds, late = 0, torch.ones(len(spec.facts), dtype=torch.bool)
    try:
        for rounds in range(1, ROUNDS + 1):
            tell("Solving", rounds / ROUNDS)
            _restore(lm, original)
            _spread(lm, layers, targets, steps, kept)
            late = targets.lead(lm) > -MARGIN
            if not late.any():
                break
            steps[late] *= GROWTH
        found = {layer: down_proj(lm.model, layer).detach().to(torch.float32).clone() for layer in layers}
    finally:
        _restore(lm, original)
    return Solved(found, targets.units, rounds, int(late.sum()))


@torch.no_grad()
def _restore(lm: LanguageModel, original: dict[int, Tensor]) -> None:
    for layer, weight in original.items():
        down_proj(lm.model, layer).copy_(weight)


@torch.no_grad()
def _spread(lm: LanguageModel, layers: Sequence[int], targets: Targets, steps: Tensor, kept: dict[int, Tensor]) -> None:
    """One pass over the layers; changes the model's weights."""
    wanted = targets.reached + targets.delta * steps[targets.owner][:, None]  # (n, d_model)
    for number, layer in enumerate(layers):
        acts = Site(layer, SiteKind.MLP_ACT)
        state = at(lm, targets.questions, targets.positions, [acts, targets.site])
        missing = (wanted - state[targets.site]) / (len(layers) - number)
        weight = down_proj(lm.model, layer)
        change = _closed_form(lm, layer, state[acts], missing, kept[layer])
        weight.copy_((weight.to(torch.float32) + change.to(weight.device)).to(weight.dtype))


def _closed_form(lm: LanguageModel, layer: int, acts: Tensor, missing: Tensor, kept: Tensor) -> Tensor:
    """ΔW, (d_model, d_mlp): acts (n, d_mlp), missing (n, d_model), kept (d_mlp, d_mlp), all float32 on the CPU."""
    before_norm = missing * _unnormed(lm, layer, acts)  # (n, d_model)
    moment = acts.T @ acts / len(acts) + kept
    moment.diagonal().add_(RIDGE * moment.diagonal().mean())
    change: Tensor = torch.linalg.solve(moment, acts.T @ before_norm / len(acts)).T
    return change


def _unnormed(lm: LanguageModel, layer: int, acts: Tensor) -> Tensor:
    """What brings a change of the residual stream in front of the layer's norm: r / g, damped where g is small; 1
    without a norm."""
    gain = post_feedforward_gain(lm.model, layer)
    if gain is None:
        return torch.ones(1)
    gain = gain.cpu()
    written = acts @ down_proj(lm.model, layer).to("cpu", torch.float32).T
    r = (written.square().mean(dim=1, keepdim=True) + text_config(lm.model).rms_norm_eps).sqrt()  # (n, 1)
    scale: Tensor = r * gain / (gain.square() + 1e-3 * gain.square().mean())
    return scale


def _second_moments(lm: LanguageModel, layers: Sequence[int], spec: EditSpec, material: Material) -> dict[int, Tensor]:
    """C of each layer, (d_mlp, d_mlp) float32 on the CPU."""
    near = [fact for fact in material.retained if ring_of(fact, spec.facts) != UNRELATED]
    sites = [Site(layer, SiteKind.MLP_ACT) for layer in layers]
    invented = invented_neighbors(spec.facts, material, INVENTED, spec.seed)
    groups: list[tuple[str, dict[Site, Tensor]]] = [
        ("text", over_texts(lm, material.texts, sites)),
        ("retained", at_last(lm, questions_about(lm, material.retained), sites)),
        ("near", at_last(lm, questions_about(lm, near), sites)),
        ("invented", at_last(lm, [lm.leave_open(prompt) for prompt in invented], sites)),
    ]
    width = {site.layer: down_proj(lm.model, site.layer).shape[1] for site in sites}
    total = {layer: torch.zeros(width[layer], width[layer]) for layer in layers}
    for name, states in groups:
        for site, acts in states.items():
            total[site.layer] += KEEP[name] * acts.T @ acts / max(len(acts), 1)
    return total
