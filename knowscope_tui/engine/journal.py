"""The ordered edits applied to the model in memory, each of which can be undone bit for bit.

Every applied edit keeps the bits it overwrote. Undo puts these back, last edit first; it never adds or subtracts (in
bf16, W + D − D is not W).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from knowscope_tui.engine.editing import WeightDelta
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.errors import EditError


@dataclass(frozen=True)
class _Applied:
    deltas: tuple[WeightDelta, ...]
    overwritten: tuple[Tensor, ...]
    """For each delta the values that stood at its indices before."""


class Journal:
    """Applies edits to `lm`'s weights and takes them back. Truthy when it holds any."""

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm
        self._applied: list[_Applied] = []

    def __len__(self) -> int:
        return len(self._applied)

    @torch.no_grad()
    def apply(self, deltas: Sequence[WeightDelta]) -> None:
        """Writes `deltas` into the model as one edit."""
        flats = [self._flat(delta.name) for delta in deltas]
        overwritten = tuple(flat[delta.indices].clone() for flat, delta in zip(flats, deltas, strict=True))
        for flat, delta in zip(flats, deltas, strict=True):
            flat[delta.indices] = delta.values.to(flat.dtype)
        self._applied.append(_Applied(tuple(deltas), overwritten))

    @torch.no_grad()
    def undo(self) -> None:
        """Takes the last edit back. Raises `EditError` when there is none."""
        if not self._applied:
            raise EditError("There is no edit to undo.", "Apply one first.")
        last = self._applied.pop()
        for delta, values in zip(last.deltas, last.overwritten, strict=True):
            self._flat(delta.name)[delta.indices] = values

    def total(self) -> list[WeightDelta]:
        """All edits as one: for every touched parameter its touched indices and the values that stand there."""
        touched: dict[str, list[WeightDelta]] = {}
        for applied in self._applied:
            for delta in applied.deltas:
                touched.setdefault(delta.name, []).append(delta)
        total = []
        for name, deltas in sorted(touched.items()):
            indices = torch.unique(torch.cat([delta.indices for delta in deltas]))
            total.append(WeightDelta(name, deltas[0].shape, indices, self._flat(name)[indices].clone()))
        return total

    def _flat(self, name: str) -> Tensor:
        flat: Tensor = self._lm.model.get_parameter(name).detach().view(-1)
        return flat
