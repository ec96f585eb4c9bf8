"""Values and estimates as cells of a table. What was not measured is a dash."""

from __future__ import annotations

import math

from knowscope_tui.core.studies import Cell, Estimate
from knowscope_tui.session.pages.numbers import NONE


def number(value: float | None) -> str:
    """A number of any size in three digits."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"
    return "0" if text == "-0" else text


def interval(estimate: Estimate) -> str:
    """From where to where the 95 % interval goes."""
    if estimate.low is None or estimate.high is None:
        return NONE
    return f"{number(estimate.low)} to {number(estimate.high)}"


def estimated(estimate: Estimate) -> str:
    """A figure, and behind it its interval."""
    told = interval(estimate)
    return number(estimate.value) if told == NONE else f"{number(estimate.value)} ({told})"


def cell(value: Cell) -> str:
    """Any cell of a table."""
    if isinstance(value, Estimate):
        return estimated(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if value is None or isinstance(value, float):
        return number(value)
    return value
