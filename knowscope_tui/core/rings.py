"""How near another fact is to what is edited: locality is split by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from knowscope_tui.core.facts import Fact

SAME_SUBJECT, SAME_RELATION, UNRELATED = RINGS = ("same subject", "same relation", "unrelated")

Value = TypeVar("Value")


def ring_of(fact: Fact, edited: Sequence[Fact]) -> str:
    """The nearest ring that `fact` is in: it shares a subject with an edited fact, or a relation, or neither."""
    if fact.subject and any(fact.subject == other.subject for other in edited):
        return SAME_SUBJECT
    if fact.relation and any(fact.relation == other.relation for other in edited):
        return SAME_RELATION
    return UNRELATED


def rings_of(values: Iterable[tuple[Fact, Value]], edited: Sequence[Fact]) -> dict[str, list[Value]]:
    """What belongs to each fact, by ring; a ring without facts is left out."""
    by_ring: dict[str, list[Value]] = {ring: [] for ring in RINGS}
    for fact, value in values:
        by_ring[ring_of(fact, edited)].append(value)
    return {ring: found for ring, found in by_ring.items() if found}


def worst_of(rings: Mapping[str, float], overall: float | None) -> float | None:
    """Locality in the ring that suffers most: among hundreds of unrelated facts the near ones would not show.

    `overall` where nothing is known by ring; None where nothing was measured.
    """
    return min(rings.values(), default=overall)
