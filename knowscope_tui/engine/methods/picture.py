"""A matrix of marks as a coarse grid of counts, small enough to be kept and drawn anywhere."""

from __future__ import annotations

import torch
from torch import Tensor

ROWS, COLUMNS = 16, 48
"""Cells of the picture, at most."""


def picture(marks: Tensor) -> tuple[tuple[int, ...], ...]:
    """How many of `marks`, (d_model, d_mlp) bool, lie in each cell: rows from the top, cells from the left."""
    rows, columns = min(ROWS, marks.shape[0]), min(COLUMNS, marks.shape[1])
    row = torch.arange(marks.shape[0]) * rows // marks.shape[0]
    column = torch.arange(marks.shape[1]) * columns // marks.shape[1]
    cells = (row[:, None] * columns + column[None, :])[marks.cpu()]
    counts = torch.bincount(cells, minlength=rows * columns).view(rows, columns)
    return tuple(tuple(line) for line in counts.tolist())
