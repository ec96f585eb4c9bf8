"""The least time that a task can take: the weights that it must read, or the products that it must make.

A unit switched off at one token changes that token in the layers above, in the final norm and in the unembedding.
Their weights have to be read once, and each number of them is multiplied and added once a unit. Attention to other
tokens, the dictionaries, and the forward that a ranking starts with come on top, and are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence

from knowscope_tui.bench.result import Rates
from knowscope_tui.bench.shapes import Shape
from knowscope_tui.core.units import Unit


def floor_seconds(shape: Shape, units: Sequence[Unit], item_bytes: int, rates: Rates) -> float:
    """Seconds below which P(answer) with each of `units` alone zeroed cannot be had."""
    above = [shape.above(unit.site) for unit in units]
    read = (max(above) + shape.hidden + shape.unembedding) * item_bytes
    operations = sum(2 * (parameters + shape.unembedding) for parameters in above)
    return max(read / rates.bytes_per_second, operations / rates.operations_per_second)
