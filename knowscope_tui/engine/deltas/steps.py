"""Changes made and taken back one after the other, all of which can be reversed to the last bit."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from knowscope_tui.engine.deltas.change import Change, Overwritten, make, take_back


class Steps:
    """Steps on the weights that `weight` finds by name, each of which is whole or leaves every bit as it was."""

    def __init__(self, weight: Callable[[str], Tensor]) -> None:
        self._weight = weight
        self._back: list[Callable[[], object]] = []

    def make(self, change: Change) -> Overwritten:
        """Makes `change`; what it cannot compute back."""
        weight, kept, count = self._begin(change)
        try:
            overwritten = make(weight, change)
            self._back.append(lambda: take_back(weight, change, overwritten))
        except BaseException:
            self._leave(weight, kept, count)
            raise
        return overwritten

    def take_back(self, change: Change, overwritten: Overwritten) -> None:
        """Takes `change` back, which gave `overwritten` when it was made."""
        weight, kept, count = self._begin(change)
        try:
            take_back(weight, change, overwritten)
            self._back.append(lambda: make(weight, change))
        except BaseException:
            self._leave(weight, kept, count)
            raise

    def reverse(self) -> None:
        """Reverses every step, the last one first."""
        while self._back:
            self._back.pop()()

    def _begin(self, change: Change) -> tuple[Tensor, Tensor, int]:
        weight = self._weight(change.name)
        return weight, weight.clone(), len(self._back)

    @torch.no_grad()
    def _leave(self, weight: Tensor, kept: Tensor, count: int) -> None:
        del self._back[count:]
        weight.copy_(kept)
