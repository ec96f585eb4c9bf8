"""Plots as SVG and PNG, drawn with matplotlib's figures and without its global state.

Series differ in colour (Okabe and Ito 2008, told apart by colour-blind people too) and in hatching, line and mark, so
that they are known without their colour. Intervals are error bars.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

from knowscope_tui.core.studies import Plot, PlotKind, Series
from knowscope_tui.session.study_pages.cells import number
from knowscope_tui.text import cut_middle, visible

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
HATCHES = ("", "///", "...", "xx", "\\\\\\", "++", "oo")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKS = ("o", "s", "^", "D", "v", "P", "X")

WIDTH, HEIGHT, DPI = 7.2, 4.0, 160
FEWEST_BINS, MOST_BINS = 8, 30
LONGEST = 32
"""Cells of a name below an axis or in the key."""

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#d5dae4",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "knowscope",
    "text.parse_math": False,
}

SVG = "http://www.w3.org/2000/svg"


def drawn(plot: Plot) -> tuple[str, bytes]:
    """`plot` as an SVG element that can stand in a page, and as PNG. The same plot always gives the same bytes."""
    from matplotlib import rc_context

    with rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Signs that the font lacks are drawn as boxes.
        figure = _figure(plot)
        svg, png = io.BytesIO(), io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    return _embedded(svg.getvalue(), plot), png.getvalue()


def told(plot: Plot) -> str:
    """What `plot` shows, in words and numbers."""
    return "; ".join(f"{series.name}: {_values(plot, series)}" for series in plot.series)


def _values(plot: Plot, series: Series) -> str:
    if plot.kind is PlotKind.HISTOGRAM:
        finite = sorted(value for value in series.y if math.isfinite(value))
        if not finite:
            return "no values"
        return f"{len(finite):,} values from {number(finite[0])} to {number(finite[-1])}, the median " + number(
            finite[len(finite) // 2]
        )
    return ", ".join(f"{_label(x)} {number(y)}" for x, y in zip(series.x, series.y, strict=True))


def _figure(plot: Plot) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    {
        PlotKind.BARS: _bars,
        PlotKind.LINES: _lines,
        PlotKind.POINTS: _points,
        PlotKind.HISTOGRAM: _histogram,
    }[plot.kind](axes, plot)
    axes.set_title(visible(plot.title), loc="left", fontweight="bold")
    axes.set_xlabel(visible(plot.x))
    axes.set_ylabel("density" if plot.kind is PlotKind.HISTOGRAM else visible(plot.y))
    if len(plot.series) > 1:
        axes.legend()
    return figure


# --- kinds ----------------------------------------------------------------------------------------------------------


def _bars(axes: Any, plot: Plot) -> None:
    places = _places(plot)
    width = 0.8 / max(len(plot.series), 1)
    for index, series in enumerate(plot.series):
        shift = (index - (len(plot.series) - 1) / 2) * width
        axes.bar(
            [places[x] + shift for x in series.x],
            series.y,
            width * 0.92,
            color=COLOURS[index % len(COLOURS)],
            alpha=0.85,
            hatch=HATCHES[index % len(HATCHES)],
            edgecolor="white",
            label=_label(series.name),
        )
        if errors := _errors(series):
            at = [places[x] + shift for x in series.x]
            axes.errorbar(at, series.y, errors, fmt="none", ecolor="#1d2330", elinewidth=1.1, capsize=3)
    _name(axes, list(places))
    axes.axhline(0.0, color="#5a6478", linewidth=0.8)


def _lines(axes: Any, plot: Plot) -> None:
    _marked(axes, plot, lines=True)


def _points(axes: Any, plot: Plot) -> None:
    _marked(axes, plot, lines=False)


def _marked(axes: Any, plot: Plot, *, lines: bool) -> None:
    named = any(isinstance(x, str) for series in plot.series for x in series.x)
    places = _places(plot) if named else {}
    for index, series in enumerate(plot.series):
        axes.errorbar(
            [places[x] if named else x for x in series.x],
            series.y,
            _errors(series),
            color=COLOURS[index % len(COLOURS)],
            linestyle=LINES[index % len(LINES)] if lines else "none",
            marker=MARKS[index % len(MARKS)],
            markersize=4.5,
            alpha=1.0 if lines else 0.75,
            elinewidth=1.0,
            capsize=2.5,
            label=_label(series.name),
        )
    if named:
        _name(axes, list(places))


def _histogram(axes: Any, plot: Plot) -> None:
    """Densities over the same bins, so that series of unequal size can be compared."""
    import numpy as np

    values = [[value for value in series.y if math.isfinite(value)] for series in plot.series]
    every = [value for own in values for value in own]
    if not every:
        return
    # Rice's rule, by the largest series.
    number_of_bins = round(2 * max(map(len, values)) ** (1 / 3))
    bins = np.histogram_bin_edges(every, bins=min(max(number_of_bins, FEWEST_BINS), MOST_BINS))
    for index, (series, own) in enumerate(zip(plot.series, values, strict=True)):
        colour = COLOURS[index % len(COLOURS)]
        if own:
            axes.hist(own, bins, density=True, color=colour, alpha=0.25)
            axes.hist(
                own,
                bins,
                density=True,
                histtype="step",
                color=colour,
                linestyle=LINES[index % len(LINES)],
                linewidth=1.5,
                label=f"{_label(series.name)} ({len(own):,})",
            )


# --- parts ----------------------------------------------------------------------------------------------------------


def _places(plot: Plot) -> dict[float | str, int]:
    """Where each x lies: numbers by size, else names in the order in which they come."""
    found = list(dict.fromkeys(x for series in plot.series for x in series.x))
    numbers = [x for x in found if not isinstance(x, str)]
    ordered: Sequence[float | str] = sorted(numbers) if len(numbers) == len(found) else found
    return {x: place for place, x in enumerate(ordered)}


def _name(axes: Any, names: Sequence[float | str]) -> None:
    labels = [_label(name) for name in names]
    crowded = sum(map(len, labels)) > 80
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_xticks(range(len(names)), labels, rotation=30 if crowded else 0, ha="right" if crowded else "center")


def _label(name: float | str) -> str:
    # matplotlib leaves names that begin with an underscore out of the key.
    return cut_middle(visible(name), LONGEST).lstrip("_") if isinstance(name, str) else number(name)


def _errors(series: Series) -> list[list[float]] | None:
    """How far the interval goes below and above each value; none where it has none."""
    if len(series.low) != len(series.y) or len(series.high) != len(series.y):
        return None
    below = [max(y - low, 0.0) for y, low in zip(series.y, series.low, strict=True)]
    return [below, [max(high - y, 0.0) for y, high in zip(series.y, series.high, strict=True)]]


def _embedded(svg: bytes, plot: Plot) -> str:
    """The drawing as one element, with its name for those who do not see it, and nothing that reaches beyond it."""
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ET.fromstring(svg)
    for part in root.findall(f"{{{SVG}}}metadata"):
        root.remove(part)
    for definitions in root.findall(f"{{{SVG}}}defs"):
        for style in definitions.findall(f"{{{SVG}}}style"):
            definitions.remove(style)
    used = set(re.findall(r"#([\w-]+)", " ".join(value for part in root.iter() for value in part.attrib.values())))
    for part in root.iter():
        if part.get("id") not in used:
            part.attrib.pop("id", None)
    root.attrib |= {"role": "img", "class": "plotted", "style": "stroke-linejoin: round; stroke-linecap: butt"}
    for place, (name, text) in enumerate((("title", plot.title), ("desc", told(plot)))):
        element = ET.Element(f"{{{SVG}}}{name}")
        element.text = visible(text)
        root.insert(place, element)
    return ET.tostring(root, encoding="unicode")
