"""`refined`, its control and the gradient baseline: values optimised at chosen positions, with early stopping.

The loss is what an edit is for, and what it must not do:

    hinge over the facts' phrasings + KEEP · (KL over retained prompts + KL over general text)

- *hinge*: mean of max(0, lead + margin), where lead is by how many nats the answer's first token stands above the best
  other token where it is predicted, or a token of a new answer below it. It is 0 once every phrasing is past the
  margin; from then on only the keeping terms work.
- *keeping*: KL(base ‖ edited) where retained answers are predicted, most of them drawn from the facts that share a
  subject or relation with an edited one and from invented neighbors, and at every token of general text.

Phrasings are also invented (`invented`), so that the edit learns where it begins and where it ends. The loss comes in
parts (`task`), each no larger than one forward takes, and the gradients of the parts add up.

- `refined`: the positions are those where `precise`, whose changes are what the features write, writes most: the
  `budget` largest of |ΔW[j, k]| · rms a_k over the facts' phrasings (`positions`). The values start from its ΔW.
- `refined-random`: as many positions, drawn at random from all `down_proj`, starting from the base. The control.
- `gradient`: every entry of every `down_proj`, unlikelihood in place of the hinge (−log(1 − P), Welleck et al. 2020,
  arXiv 1908.04319), retained prompts as they come, nothing invented: the plain baseline, all of its steps.

Adam; the rate falls linearly to a tenth, but for the baseline's. Every `CHECK` steps `refined` and its control are held
against the spec's limits on what they may see (phrasings; a fifth of the retained facts, in every ring, and of the
texts, which neither a step nor the closed form learns from) and stop once they are within them, `PATIENCE` checks in a
row.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from knowscope_tui.core.edits import EditSpec, Method
from knowscope_tui.engine.deltas.change import SparseChange
from knowscope_tui.engine.methods.forward import gradients_of
from knowscope_tui.engine.methods.positions import Positions
from knowscope_tui.engine.methods.precise import Factors
from knowscope_tui.engine.methods.task import Task
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.sites import down_proj_name, stored_layout

STEPS, CHECK = 150, 10

RATES = {Method.REFINED: 0.08, Method.REFINED_RANDOM: 0.16, Method.GRADIENT: 0.04}
"""Adam's first rate, as a share of the root mean square of the weights."""

Tell = Callable[[str, float | None], None]


@dataclass(frozen=True)
class Optimised:
    """The changes, how many steps they took, and what each check found."""

    changes: list[SparseChange]
    steps: int
    stopped: bool
    """Whether the limits were met before the steps ran out."""
    trail: tuple[str, ...] = ()


def optimise(
    lm: LanguageModel,
    spec: EditSpec,
    task: Task,
    positions: Positions,
    tell: Tell,
    start: Mapping[int, Factors] | None = None,
) -> Optimised:
    """Optimises the values at `positions`; the model is as it was when this returns or raises.

    `start` are changes by layer that are begun with at the positions.
    """
    parameters = {layer: lm.model.get_parameter(down_proj_name(lm.model, layer)) for layer in positions}
    places = {layer: indices.to(parameters[layer].device) for layer, indices in positions.items()}
    base = {layer: _flat(parameters[layer])[places[layer]].clone() for layer in positions}
    values = {layer: kept.to(torch.float32, copy=True) for layer, kept in base.items()}
    for layer, (left, right) in (start or {}).items():
        if layer in values:
            values[layer] += stored_layout(lm.model, left @ right).flatten()[places[layer]]
    try:
        steps, stopped, trail = _descend(spec, task, parameters, places, values, tell)
        changes = [_change(lm, layer, parameters[layer], places[layer], base[layer]) for layer in sorted(positions)]
    finally:
        with torch.no_grad():
            for layer, kept in base.items():
                _flat(parameters[layer])[places[layer]] = kept
    return Optimised([change for change in changes if change.positions], steps, stopped, trail)


def _flat(parameter: Tensor) -> Tensor:
    return parameter.detach().view(-1)


def _change(lm: LanguageModel, layer: int, parameter: Tensor, places: Tensor, base: Tensor) -> SparseChange:
    """What stands at `places` where it is not the base's."""
    values = _flat(parameter)[places]
    differs = values != base
    return SparseChange(
        down_proj_name(lm.model, layer), tuple(parameter.shape), places[differs], values[differs].clone()
    )


def _descend(
    spec: EditSpec,
    task: Task,
    parameters: Mapping[int, Tensor],
    places: Mapping[int, Tensor],
    values: Mapping[int, Tensor],
    tell: Tell,
) -> tuple[int, bool, tuple[str, ...]]:
    """Adam on `values`, which the model's `parameters` hold at `places` after every step."""
    layers = sorted(values)
    squares = [float(parameters[layer].detach().float().square().mean()) for layer in layers]
    rate = RATES[spec.method] * (sum(squares) / len(squares)) ** 0.5
    optimizer = torch.optim.Adam([values[layer] for layer in layers], lr=rate, betas=(0.9, 0.98))
    rng = random.Random(spec.seed)
    trail: list[str] = []
    _write(parameters, places, values)
    for step in range(1, STEPS + 1):
        tell(f"Optimising, step {step} of at most {STEPS}", step / STEPS)
        optimizer.zero_grad()
        with gradients_of([parameters[layer] for layer in layers]):
            for part in task.parts(rng):
                gradients = torch.autograd.grad(part, [parameters[layer] for layer in layers])
                for layer, gradient in zip(layers, gradients, strict=True):
                    own, before = gradient.reshape(-1)[places[layer]].to(torch.float32), values[layer].grad
                    values[layer].grad = own if before is None else before + own
        optimizer.step()
        if spec.method is not Method.GRADIENT:
            optimizer.param_groups[0]["lr"] = rate * (1 - 0.9 * step / STEPS)
        _write(parameters, places, values)
        if task.watch is not None and step % CHECK == 0:
            trail.append(f"step {step}: {task.watch.look()}")
            if task.watch.content:
                return step, True, tuple(trail)
    return STEPS, False, tuple(trail)


@torch.no_grad()
def _write(parameters: Mapping[int, Tensor], places: Mapping[int, Tensor], values: Mapping[int, Tensor]) -> None:
    for layer, value in values.items():
        _flat(parameters[layer])[places[layer]] = value.to(parameters[layer].dtype)
