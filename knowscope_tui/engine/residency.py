"""Which encoders lie on a device: as many as a budget allows, the least recently used out first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import torch
from torch import Tensor


class EncoderPool:
    """Copies of mapped encoders on the devices that read them.

    `budget` is in bytes on each device; None is no limit. An encoder that the budget has no room for at
    all is not copied: its reader streams it from the map.
    """

    def __init__(self, budget: int | None = None) -> None:
        self.budget = budget
        self._copies: OrderedDict[tuple[Hashable, torch.device], Tensor] = OrderedDict()

    @property
    def bytes(self) -> int:
        """What all copies take, on all devices."""
        return sum(copy.nbytes for copy in self._copies.values())

    def bytes_on(self, device: torch.device) -> int:
        return sum(copy.nbytes for (_key, place), copy in self._copies.items() if place == device)

    @property
    def keys(self) -> list[Hashable]:
        """What is resident, least recently used first."""
        return [key for key, _device in self._copies]

    def on(self, key: Hashable, mapped: Tensor, device: torch.device) -> Tensor:
        """`mapped` on `device`; where it does not fit the budget or lies there already, `mapped` itself."""
        if mapped.device == device:
            return mapped
        place = (key, device)
        if place in self._copies:
            self._copies.move_to_end(place)
            return self._copies[place]
        if self.budget is not None and not self._make_room(mapped.nbytes, device):
            return mapped
        copy = mapped.to(device, non_blocking=True).contiguous()
        self._copies[place] = copy
        return copy

    def _make_room(self, needed: int, device: torch.device) -> bool:
        assert self.budget is not None
        if needed > self.budget:
            return False
        while self.bytes_on(device) + needed > self.budget:
            oldest = next(place for place in self._copies if place[1] == device)
            del self._copies[oldest]
        return True
