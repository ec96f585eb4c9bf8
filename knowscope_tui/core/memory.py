"""What a model and its dictionaries take, where it goes, and whether it fits: numbers that the engine measures."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Place(str, Enum):
    """Where bytes lie. What is mapped is read from disk when it is used and can be dropped at any time."""

    DEVICE = "device"
    HOST = "host"
    MAPPED = "mapped"
    DISK = "disk"
    """To be downloaded or converted, and then kept in a cache."""


@dataclass(frozen=True)
class Need:
    """Something that takes `bytes` at `place`."""

    what: str
    place: Place
    bytes: int


@dataclass(frozen=True)
class MemoryPlan:
    """What is needed, what there is, and how much of the encoders stays on the device."""

    device: str
    needs: tuple[Need, ...]
    room: dict[Place, int]
    """Free bytes, for the places where that is known and matters."""
    encoder_bytes: int
    """All encoders together."""
    encoder_budget: int
    """How much of the device they may take; the least recently used leave first. 0: they are read from the map."""
    problem: str = ""
    """One sentence where it does not fit."""
    hint: str = ""

    def total(self, place: Place) -> int:
        return sum(need.bytes for need in self.needs if need.place is place)
