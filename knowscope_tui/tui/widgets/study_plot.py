"""A study's plot in characters, below a line that names it and its series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle
from typing import Any

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static
from textual_plotext import PlotextPlot

from knowscope_tui.core.studies import Plot, PlotKind, Series
from knowscope_tui.text import visible

BINS = 20

COLOURS = {
    "blue+": "ansi_bright_blue",
    "orange+": "ansi_bright_yellow",
    "green+": "ansi_bright_green",
    "magenta+": "ansi_bright_magenta",
    "cyan+": "ansi_bright_cyan",
    "red+": "ansi_bright_red",
}
"""Of the terminal's sixteen, as plotext calls them and as textual does."""

POINT_SIGNS, BAR_SIGNS = "●×○+▲◆□*", "█▒▓░▚▞▤▥"
"""A sign for each series, so that colour is not the only thing that tells them apart."""

STEPS = 5
"""About so many along an axis."""

ROWS_BELOW = 3
"""Of a drawing, for its axis and the names of what goes across."""


class StudyPlot(Vertical):
    """Shows one plot of a study, anew whenever it has grown."""

    shown: Plot | None = None
    _which = ""

    def compose(self) -> ComposeResult:
        yield Static("", id="study-legend")
        yield PlotextPlot(id="study-drawing")

    def show(self, plot: Plot | None, which: str) -> None:
        """Draws `plot`, with `which` beside its title; `which` alone where there is none yet."""
        self.shown, self._which = plot, which
        drawing = self.query_one(PlotextPlot)
        drawing.theme = "clear"  # The colours of the terminal program, and no ground of its own.
        drawing.display = plot is not None
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        plot, drawing = self.shown, self.query_one(PlotextPlot)
        told = Content.styled(self._which, "$muted") if plot is None else legend(plot, self._which, self.size.width - 2)
        self.query_one("#study-legend", Static).update(told)
        drawing.plt.clear_figure()
        if plot is not None:
            drawing.plt.xlabel(visible(plot.x))
            drawing.plt.xaxes(True, False)
            drawing.plt.yaxes(True, False)
            rows = self.size.height - told.plain.count("\n") - 1 - ROWS_BELOW
            _DRAWN[plot.kind](drawing.plt, plot, min(max(rows // 2, 1), STEPS))
        drawing.refresh()


def legend(plot: Plot, which: str, width: int) -> Content:
    """What the plot shows, what goes upwards, and the sign and colour of each series, in lines of `width` cells."""
    signs = cycle(BAR_SIGNS if plot.kind is PlotKind.BARS else POINT_SIGNS)
    lines = [Content.assemble((visible(plot.title), "bold"), (f"  {which}  ↑ {visible(plot.y)}", "$muted"))]
    for series, sign, colour in zip(plot.series, signs, cycle(COLOURS)):
        named = Content.styled(f"{sign} {visible(series.name)}", COLOURS[colour])
        if lines[-1].cell_length + 3 + named.cell_length <= width:
            lines[-1] = Content("   ").join([lines[-1], named])
        else:
            lines.append(named)
    return Content("\n").join(lines)


def steps(low: float, high: float, wanted: int = STEPS, *, whole: bool = False) -> list[float]:
    """Round numbers at equal distances for an axis, the first at or below `low`, the last at or above `high`.

    About `wanted` steps; `whole` leaves out fractions.
    """
    raw = max((high - low) / wanted, 1.0 if whole else 0.0)
    power = 10.0 ** math.floor(math.log10(raw))
    factors = (1, 2, 5, 10) if whole else (1, 2, 2.5, 5, 10)
    step = next(power * factor for factor in factors if power * factor >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def _axes(plt: Any, x: Sequence[float], y: Sequence[float], wanted: int) -> None:
    """Round ticks, about `wanted` steps upwards; from 0, so that heights can be compared."""
    low, high = min(0.0, *y), max(0.0, *y)
    upwards = steps(low, high if high > low else low + 1.0, wanted)
    plt.ylim(upwards[0], upwards[-1])
    plt.yticks(upwards, [f"{value:g}" for value in upwards])
    if x and max(x) > min(x):
        across = steps(min(x), max(x), whole=all(float(value).is_integer() for value in x))
        within = [value for value in across if min(x) <= value <= max(x)]
        plt.xticks(within, [f"{value:g}" for value in within])


def _bars(plt: Any, plot: Plot, wanted: int) -> None:
    """A group of bars for each x that any series has, in the order of the series."""
    names = list(dict.fromkeys(str(x) for series in plot.series for x in series.x))
    heights = []
    for series in plot.series:
        known = {str(x): y for x, y in zip(series.x, series.y, strict=True) if math.isfinite(y)}
        heights.append([known.get(name, 0.0) for name in names])
    if names:
        signs = [sign for _series, sign in zip(plot.series, cycle(BAR_SIGNS))]
        colours = [colour for _series, colour in zip(plot.series, cycle(COLOURS))]
        plt.multiple_bar([visible(name) for name in names], heights, marker=signs, color=colours)
        _axes(plt, (), [height for row in heights for height in row], wanted)


def _lines(plt: Any, plot: Plot, wanted: int) -> None:
    _curves(plt, [_finite(series) for series in plot.series], wanted, joined=True)


def _points(plt: Any, plot: Plot, wanted: int) -> None:
    _curves(plt, [_finite(series) for series in plot.series], wanted, joined=False)


def _finite(series: Series) -> tuple[list[float], list[float]]:
    """The points of `series` that have a place."""
    points = [(float(x), y) for x, y in zip(series.x, series.y, strict=True) if math.isfinite(float(x) + y)]
    return [x for x, _y in points], [y for _x, y in points]


def _histogram(plt: Any, plot: Plot, wanted: int) -> None:
    """A line for each series, so that those behind are seen: the share of its values in each of `BINS` equal bins."""
    values = [[value for value in series.y if math.isfinite(value)] for series in plot.series]
    every = [value for own in values for value in own]
    if not every:
        return
    least, width = min(every), (max(every) - min(every)) / BINS or 1.0
    middles = [least + (place + 0.5) * width for place in range(BINS)]
    drawn: list[tuple[Sequence[float], Sequence[float]]] = []
    for own in values:
        places = [min(int((value - least) / width), BINS - 1) for value in own]
        shares = [places.count(place) / len(places) for place in range(BINS)] if places else []
        drawn.append((middles if places else (), shares))
    _curves(plt, drawn, wanted, joined=True)


def _curves(plt: Any, drawn: Sequence[tuple[Sequence[float], Sequence[float]]], wanted: int, *, joined: bool) -> None:
    """A sign at each point of each series, over dotted lines from point to point where they are `joined`.

    Where series meet, the first is seen.
    """
    signed = list(zip(drawn, cycle(POINT_SIGNS), cycle(COLOURS)))
    behind = [(list(x), list(y), sign, colour) for (x, y), sign, colour in reversed(signed) if x]
    for x, y, _sign, colour in behind if joined else ():
        plt.plot(x, y, marker="·", color=colour)
    for x, y, sign, colour in behind:
        plt.scatter(x, y, marker=sign, color=colour)
    if behind:
        _axes(plt, [at for x, _y in drawn for at in x], [value for _x, y in drawn for value in y], wanted)


_DRAWN = {
    PlotKind.BARS: _bars,
    PlotKind.LINES: _lines,
    PlotKind.POINTS: _points,
    PlotKind.HISTOGRAM: _histogram,
}
