"""Figures as cells of a table. What was not measured is a dash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NONE = "–"


def share(value: Any, digits: int = 3) -> str:
    """A share of one."""
    return NONE if value is None else f"{float(value):.{digits}f}".replace("-0.000", "0.000")


def percent(value: Any, digits: int = 2) -> str:
    """A share as a percentage; what rounds to nothing says so."""
    if value is None:
        return NONE
    number = 100 * float(value)
    least = 10**-digits
    return f"<{least:g} %" if 0 < number < least / 2 else f"{number:.{digits}f} %"


def signed(value: Any) -> str:
    """A change as a percentage with its sign."""
    return NONE if value is None else f"{100 * float(value):+.2f} %".replace("-0.00", "0.00").replace("+0.00", "0.00")


def interval(figure: Mapping[str, Any], write: Any = share) -> str:
    """The interval of a figure."""
    low, high = figure.get("low"), figure.get("high")
    return NONE if low is None or high is None else f"{write(low)} to {write(high)}"


def count(value: Any) -> str:
    """A whole number."""
    return NONE if value is None else f"{int(value):,}"


def small(value: Any) -> str:
    """A number of any size in a few digits."""
    return NONE if value is None else f"{float(value):.4g}"


def seconds(value: Any) -> str:
    """A time."""
    return NONE if value is None else f"{float(value):.1f} s"
