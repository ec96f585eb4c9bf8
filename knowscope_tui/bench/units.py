"""Which units are timed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from knowscope_tui.core.units import Unit
from knowscope_tui.errors import UsageError


def strongest(attributions: Mapping[Unit, float], count: int) -> list[Unit]:
    """The `count` units of largest attribution of either sign. Raises `UsageError` where fewer are active."""
    if count > len(attributions):
        raise UsageError(f"Only {len(attributions):,} features are active.", "Use fewer --units, or more --kinds.")
    return sorted(attributions, key=lambda unit: (-abs(attributions[unit]), unit))[:count]


def spread(units: Sequence[Unit], count: int) -> list[Unit]:
    """`count` of `units`, at even distances; all where there are no more."""
    count = min(count, len(units))
    return [units[(2 * number + 1) * len(units) // (2 * count)] for number in range(count)]


def drawn_by_layer(units: Sequence[Unit], layers: int, count: int, seed: int) -> list[Unit]:
    """`count` of `units` at layers drawn evenly: one out of each of `count` equal parts of the layers' range."""
    rng = random.Random(seed)
    by_layer: dict[int, list[Unit]] = {}
    for unit in sorted(units):
        by_layer.setdefault(unit.site.layer, []).append(unit)
    return [rng.choice(by_layer[int((part + rng.random()) / count * layers)]) for part in range(count)]


def per_layer(units: Sequence[Unit], layers: int) -> tuple[int, ...]:
    """How many of `units` each layer has."""
    counts = Counter(unit.site.layer for unit in units)
    return tuple(counts[layer] for layer in range(layers))
