"""The methods that set entries of `down_proj` to zero: two readings of the paper, the neuron baseline, the control.

- `positions` (the default): W[j, k] writes c_jk = g_j · d_j · W[j, k] · a_k / r into the feature on this fact, where d
  is its decoder row, a = `mlp_act` at the reading position, g the gain of the RMS norm that stands between W and the
  residual stream and r the root mean square it divides by; in a family without a norm there both are 1. Entries with
  c_jk > τ2 · max c are zeroed. c is summed over the fact's prompt and its `edit_prompts`; the maximum is taken over
  all matrices that write to the unit, for each fact by itself. Source: this project's reading of Chen et al. 2025
  (arXiv 2502.12483, section 6).
- `rows` (literal): row j of W is zeroed wherever |d_j| > τ2 · max |d|. Source: the words of the same section.
- `neurons`: whole columns k of W are zeroed, for the neurons of strongest gradient × activation (see
  `engine.attribution`; Dai et al. 2022, who zero values of knowledge neurons, find theirs by integrated gradients).
- `random`: as many entries as `positions` zeroes in each matrix, drawn at random from it. The control.

A `resid_post` or `resid_mid` feature is written to by `down_proj` of its own layer and of every layer below it;
`positions` changes all of these, `rows` the nearest one. The attention's output projection and the biases also write
there and are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from knowscope_tui.core.edits import EditSpec, Method, UnitChange
from knowscope_tui.core.units import Unit
from knowscope_tui.engine.deltas.change import SparseChange
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.methods.evidence import Evidence, writers, written_direction
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.sites import down_proj, down_proj_name, layer_device, stored_layout

DEFAULT_TAU2 = {Method.POSITIONS: 0.07, Method.ROWS: 0.3, Method.NEURONS: 0.0, Method.RANDOM: 0.07}
"""τ2 where none is given. `docs/demo-model.md` shows what other values do."""

FEW_UNITS, TAU2_FOR_FEW = 2, 0.03
"""One or two features write through fewer entries: `positions` takes more of each of them."""

Masks = dict[int, Tensor]
"""Layer → which entries of its `down_proj` change, (d_model, d_mlp) bool."""


def default_tau2(spec: EditSpec) -> float:
    """The τ2 of a spec that names none."""
    few = len(spec.units or range(spec.top)) <= FEW_UNITS
    by_entry = spec.method in (Method.POSITIONS, Method.RANDOM)
    return TAU2_FOR_FEW if few and by_entry else DEFAULT_TAU2[spec.method]


def ratios(
    lm: LanguageModel, library: Library, spec: EditSpec, evidence: Sequence[Evidence]
) -> Iterator[tuple[Unit, int, Tensor]]:
    """Unit, layer, and for each entry of its `down_proj` the share of the largest value that τ2 is held against.

    Entries, (d_model, d_mlp) float32, whose ratio is above τ2 are zeroed; of `random`, before the draw. Where several
    facts use a unit it is the highest of their ratios; each unit and layer comes once, one table at a time.
    """
    users: dict[Unit, list[Evidence]] = {}
    for one in evidence:
        for unit in one.units(spec):
            users.setdefault(unit, []).append(one)
    for unit, own in users.items():
        for layer, ratio in _ratios_of(lm, library, spec.method, unit, own):
            yield unit, layer, ratio


def marked(found: Iterable[tuple[Unit, int, Tensor]], tau2: float) -> tuple[Masks, tuple[UnitChange, ...]]:
    """What all units together have zeroed at the threshold `tau2`, and how much of it each, from their `ratios`."""
    masks: Masks = {}
    counts: dict[Unit, dict[int, int]] = {}
    for unit, layer, ratio in found:
        mask = ratio > tau2
        masks[layer] = masks[layer] | mask if layer in masks else mask
        own = counts.setdefault(unit, {})
        if count := int(mask.sum()):
            own[layer] = count
    return masks, tuple(UnitChange(unit, dict(sorted(own.items()))) for unit, own in counts.items())


def reach(found: Iterable[tuple[Unit, int, Tensor]]) -> dict[int, Tensor]:
    """Layer → the highest ratio of each entry over all units, (d_model, d_mlp) float32."""
    highest: dict[int, Tensor] = {}
    for _unit, layer, ratio in found:
        highest[layer] = torch.maximum(highest[layer], ratio) if layer in highest else ratio
    return highest


def _ratios_of(
    lm: LanguageModel, library: Library, method: Method, unit: Unit, evidence: Sequence[Evidence]
) -> Iterator[tuple[int, Tensor]]:
    """Layer and ratios of one unit; `evidence` are the facts that use it."""
    layer = unit.site.layer
    if method is Method.NEURONS:
        column = torch.zeros(down_proj(lm.model, layer).shape, device=layer_device(lm.model, layer))
        column[:, unit.index] = 1.0
        yield layer, column
    elif method is Method.ROWS:
        d = library.at(unit.site).rows(torch.tensor([unit.index]))[0].to(torch.float32)  # (d_model,)
        rows = d.abs() / d.abs().max()
        for writer in writers(unit.site)[-1:]:
            yield writer, rows.to(layer_device(lm.model, writer))[:, None].expand_as(down_proj(lm.model, writer))
    else:
        yield from _shares(lm, library, unit, evidence)


def _shares(
    lm: LanguageModel, library: Library, unit: Unit, evidence: Sequence[Evidence]
) -> Iterator[tuple[int, Tensor]]:
    """c over its fact's largest, the highest of all facts, by layer.

    The largest are found in a pass of their own: the tables of all layers are never held together.
    """
    layers = writers(unit.site)
    largest = [
        max((float(_contribution(lm, library, unit, layer, one).max()) for layer in layers), default=0.0)
        for one in evidence
    ]
    for layer in layers:
        highest: Tensor | None = None
        for one, most in zip(evidence, largest, strict=True):
            if most > 0:
                share = _contribution(lm, library, unit, layer, one).clamp_(min=0).div_(most)
                highest = share if highest is None else torch.maximum(highest, share)
        if highest is not None:
            yield layer, highest


def _contribution(lm: LanguageModel, library: Library, unit: Unit, layer: int, evidence: Evidence) -> Tensor:
    """c_jk = g_j · d_j · W[j, k] · a_k / r, summed over phrasings: (d_model, d_mlp), float32."""
    scaled = written_direction(lm, library, unit, layer)  # (d_model,)
    return scaled[:, None] * down_proj(lm.model, layer).to(torch.float32) * evidence.normed_act[layer]


def shuffled(masks: Mapping[int, Tensor], seed: int) -> Masks:
    """Masks with as many entries in each layer, at random places."""
    generator = torch.Generator().manual_seed(seed)
    drawn: Masks = {}
    for layer, mask in sorted(masks.items()):
        places = torch.randperm(mask.numel(), generator=generator)[: int(mask.sum())]
        flat = torch.zeros(mask.numel(), dtype=torch.bool)
        flat[places] = True
        drawn[layer] = flat.reshape(mask.shape).to(mask.device)
    return drawn


def zeroing(lm: LanguageModel, masks: Mapping[int, Tensor]) -> list[SparseChange]:
    """The changes that zero what `masks` mark; a layer without a mark has none."""
    changes = []
    for layer, mask in sorted(masks.items()):
        if not mask.any():
            continue
        stored = stored_layout(lm.model, mask)
        indices = stored.flatten().nonzero()[:, 0]
        values = torch.zeros(len(indices), dtype=lm.dtype, device=indices.device)
        changes.append(SparseChange(down_proj_name(lm.model, layer), tuple(stored.shape), indices, values))
    return changes


def random_like(lm: LanguageModel, changes: Sequence[SparseChange], seed: int) -> list[SparseChange]:
    """Changes that zero as many entries of each matrix as `changes` touch, drawn at random: their control."""
    masks: Masks = {}
    for layer in range(lm.n_layers):
        for change in changes:
            if change.name == down_proj_name(lm.model, layer):
                masks[layer] = torch.arange(down_proj(lm.model, layer).numel()) < change.positions
                masks[layer] = masks[layer].view(down_proj(lm.model, layer).shape)
    return zeroing(lm, shuffled(masks, seed))
