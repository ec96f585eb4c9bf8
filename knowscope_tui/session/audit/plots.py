"""The frontier as a drawing, from the highest τ2 to the lowest: erasure and the worst ring's locality, ΔPPL below."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from xml.etree import ElementTree as ET

from knowscope_tui.core.record import Row
from knowscope_tui.session.pages import svg
from knowscope_tui.session.pages.blocks import Picture
from knowscope_tui.session.pages.numbers import share, signed, small
from knowscope_tui.text import bar

WIDTH, HEIGHT = 720, 430
LEFT, RIGHT = 62, 700
SHARES, PPL = (34, 234), (276, 366)
"""Top and bottom of the two panels."""

MOST_LABELS = 10

Place = Callable[[float], float]


def frontier_picture(frontier: Row) -> Picture:
    """Erasure, locality and ΔPPL over τ2, the limits and the chosen point."""
    points: Sequence[Row] = frontier["points"]
    chosen = frontier.get("chosen")
    told = "; ".join(
        f"τ2 {small(point['tau2'])}: erasure {share(point['reliability'])}, "
        f"locality in the worst ring {share(point['worst'])}, ΔPPL {signed(point['delta_ppl'])}"
        for point in points
    )
    caption = "Erasure and damage against τ2" + ("" if chosen is None else "; the upright line is the chosen one")
    root = svg.drawing(WIDTH, HEIGHT, "The frontier of erasure against damage", told)
    x = _places(points)
    if chosen is not None:
        svg.line(root, x[chosen], SHARES[0], x[chosen], PPL[1], "chosen")
        svg.text(root, x[chosen], SHARES[0] - 6, f"chosen: τ2 {small(points[chosen]['tau2'])}", "value", "middle")
    _shares(root, frontier, x)
    _ppl(root, frontier, x)
    _foot(root, points, x)
    return Picture(caption, svg.written(root), _text(points, chosen))


def _places(points: Sequence[Row]) -> list[float]:
    """Where each point lies from left to right: by log τ2, the highest first; evenly where that is not possible."""
    taus = [float(point["tau2"]) for point in points]
    inner = (LEFT + 18, RIGHT - 18)
    if len(taus) == 1:
        return [sum(inner) / 2]
    even = all(tau <= 0 for tau in taus) or min(taus) <= 0 or min(taus) == max(taus)
    at = [float(index) for index in range(len(taus))] if even else [-math.log(tau) for tau in taus]
    low, high = min(at), max(at)
    return [inner[0] + (value - low) / (high - low) * (inner[1] - inner[0]) for value in at]


def _scale(low: float, high: float, panel: tuple[int, int]) -> Place:
    span = (high - low) or 1.0
    return lambda value: panel[1] - (value - low) / span * (panel[1] - panel[0])


def _shares(root: ET.Element, frontier: Row, x: Sequence[float]) -> None:
    points, limits = frontier["points"], frontier["limits"]
    erasure, locality = _measured(points, "reliability", x), _measured(points, "worst", x)
    values = [*erasure[1], *locality[1]]
    low = math.floor(10 * min(*values, float(limits["min_reliability"]), float(limits["min_locality"]), 0.9)) / 10
    y = _scale(low, 1.0, SHARES)
    _frame(root, [low + step * (1 - low) / 4 for step in range(5)], y, lambda value: f"{value:.2f}")
    for key, kind in (("min_reliability", "limit erasure"), ("min_locality", "limit locality")):
        svg.line(root, LEFT, y(float(limits[key])), RIGHT, y(float(limits[key])), kind)
    _line(root, erasure[0], [y(value) for value in erasure[1]], "erasure", round_marks=True)
    _line(root, locality[0], [y(value) for value in locality[1]], "locality", round_marks=False)
    _key(root)


def _measured(points: Sequence[Row], key: str, x: Sequence[float]) -> tuple[list[float], list[float]]:
    """Where the points lie at which `key` was measured, and what it was."""
    found = [(at, float(point[key])) for at, point in zip(x, points, strict=True) if point[key] is not None]
    return [at for at, _value in found], [value for _at, value in found]


def _key(root: ET.Element) -> None:
    """What the lines are."""
    at = SHARES[1] + 22
    for left, name, kind, round_marks in (
        (LEFT, "erasure", "erasure", True),
        (LEFT + 110, "locality, worst ring", "locality", False),
    ):
        _line(root, [left, left + 24], [at, at], kind, round_marks=round_marks)
        svg.text(root, left + 32, at + 4, name, "quiet")
    svg.line(root, LEFT + 290, at, LEFT + 314, at, "limit")
    svg.text(root, LEFT + 322, at + 4, "what was asked for", "quiet")


def _ppl(root: ET.Element, frontier: Row, x: Sequence[float]) -> None:
    points, limit = frontier["points"], float(frontier["limits"]["max_delta_ppl"])
    at, values = _measured(points, "delta_ppl", x)
    low, high = min([*values, 0.0]), max([*values, limit * 1.25, 1e-6])
    y = _scale(low, high, PPL)
    _frame(root, [low, (low + high) / 2, high], y, signed)
    svg.line(root, LEFT, y(limit), RIGHT, y(limit), "limit")
    _line(root, at, [y(value) for value in values], "ppl", round_marks=True)
    svg.text(root, LEFT + 6, PPL[0] - 5, "ΔPPL", "quiet")


def _frame(root: ET.Element, ticks: Sequence[float], y: Place, write: Callable[[float], str]) -> None:
    for tick in ticks:
        svg.line(root, LEFT, y(tick), RIGHT, y(tick), "grid")
        svg.text(root, LEFT - 6, y(tick) + 4, write(tick), "quiet", "end")


def _line(root: ET.Element, x: Sequence[float], y: Sequence[float], kind: str, *, round_marks: bool) -> None:
    """A line through marks: circles or squares, so that it is known without its colour."""
    if len(x) > 1:
        at = " ".join(f"{svg.number(one)},{svg.number(other)}" for one, other in zip(x, y, strict=True))
        svg.shape(root, "polyline", f"line {kind}", points=at)
    for one, other in zip(x, y, strict=True):
        if round_marks:
            svg.shape(root, "circle", f"mark {kind}", cx=one, cy=other, r=3.2)
        else:
            svg.shape(root, "rect", f"mark {kind}", x=one - 3, y=other - 3, width=6, height=6)


def _foot(root: ET.Element, points: Sequence[Row], x: Sequence[float]) -> None:
    """τ2 and positions below the points, as many as there is room for."""
    every = max(1, math.ceil(len(points) / MOST_LABELS))
    for index in range(0, len(points), every):
        svg.text(root, x[index], PPL[1] + 18, small(points[index]["tau2"]), "value", "middle")
        svg.text(root, x[index], PPL[1] + 34, f"{int(points[index]['positions']):,}", "quiet", "middle")
    svg.text(root, LEFT - 6, PPL[1] + 18, "τ2", "quiet", "end")
    svg.text(root, LEFT - 6, PPL[1] + 34, "positions", "quiet", "end")


def _text(points: Sequence[Row], chosen: int | None) -> str:
    rows = [
        f"{'>' if index == chosen else ' '} τ2 {small(point['tau2']):>8}  "
        f"erasure {bar(float(point['reliability']), 20)} "
        f"{share(point['reliability'])}  locality {bar(float(point['worst'] or 0.0), 20)} {share(point['worst'])}  "
        f"ΔPPL {signed(point['delta_ppl'])}"
        for index, point in enumerate(points)
    ]
    return "\n".join(rows)
