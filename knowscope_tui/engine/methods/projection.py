"""`projection`: the features' directions taken out of `down_proj`, whatever the neurons say.

With u = g ⊙ d for each feature (d its decoder row, g the gain of the norm behind W) and U an orthonormal basis of all
u that a layer writes to, W becomes W − U Uᵀ W: no input makes the layer write along any of the directions, before the
norm's 1/r. It is the weight form of directional ablation (Arditi et al. 2024, arXiv 2406.11717, section 4.1), with a
feature's decoder row as the direction.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from knowscope_tui.core.edits import EditSpec
from knowscope_tui.core.units import Unit
from knowscope_tui.engine.deltas.change import Change
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.methods.evidence import Evidence, writers, written_direction
from knowscope_tui.engine.methods.factors import factored
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.sites import down_proj


def project(
    lm: LanguageModel, library: Library, spec: EditSpec, evidence: Sequence[Evidence]
) -> tuple[list[Change], dict[Unit, list[int]]]:
    """The changes, and for each unit the layers it is taken out of."""
    units = dict.fromkeys(unit for one in evidence for unit in one.units(spec))
    layers = {unit: writers(unit.site) for unit in units}
    changes = []
    for layer in sorted({layer for named in layers.values() for layer in named}):
        directions = [written_direction(lm, library, unit, layer) for unit in units if layer in layers[unit]]
        basis = orthonormal(torch.stack(directions))  # (d_model, rank)
        weight = down_proj(lm.model, layer).to(torch.float32)
        changes.append(factored(lm, layer, -basis, basis.T @ weight))
    return changes, layers


def orthonormal(directions: Tensor) -> Tensor:
    """An orthonormal basis of the span of `directions` (n, d_model): (d_model, rank)."""
    _left, sizes, right = torch.linalg.svd(directions.to(torch.float64), full_matrices=False)
    basis: Tensor = right[sizes > sizes.max() * 1e-6].T.to(torch.float32)
    return basis
