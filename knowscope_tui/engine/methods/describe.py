"""A change in the numbers that a plan is made of."""

from __future__ import annotations

import torch
from torch import Tensor

from knowscope_tui.core.edits import ParameterChange
from knowscope_tui.engine.deltas.change import Change, LowRankChange, added
from knowscope_tui.engine.methods.picture import picture
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.sites import down_proj_name, stored_layout


def described(lm: LanguageModel, change: Change) -> ParameterChange:
    """`change` in numbers, against the model as it stands: only entries whose value changes are counted."""
    layer = next(layer for layer in range(lm.n_layers) if down_proj_name(lm.model, layer) == change.name)
    before = lm.model.get_parameter(change.name).detach().cpu()
    after = _after(before, change)
    touched = after != before
    size = float(torch.linalg.vector_norm(before.to(torch.float32)))
    moved = float(torch.linalg.vector_norm(after.to(torch.float32) - before.to(torch.float32)))
    return ParameterChange(
        change.name,
        layer,
        change.shape,
        positions=int(touched.sum()),
        zeroed=int((after[touched] == 0).sum()),
        rank=change.rank if isinstance(change, LowRankChange) else None,
        relative_norm=moved / size if size else 0.0,
        picture=picture(stored_layout(lm.model, touched)),
    )


def _after(before: Tensor, change: Change) -> Tensor:
    """The parameter with `change` in it, bit for bit what `make` leaves: on the CPU."""
    if isinstance(change, LowRankChange):
        return (before.to(torch.float64) + added(change)).to(before.dtype)
    after = before.clone()
    after.view(-1)[change.indices.cpu()] = change.values.to("cpu", before.dtype)
    return after
