"""A study's plot in characters."""

from __future__ import annotations

from itertools import cycle
from typing import Any

from textual_plotext import PlotextPlot

from knowscope_tui.core.studies import Plot, PlotKind
from knowscope_tui.text import visible

BINS = 20

MARKERS = "●×○+▲◆□*"
"""A sign for each series, so that colour is not the only thing that tells them apart."""


class StudyPlot(PlotextPlot):
    """Draws one plot of a study, anew whenever it has grown."""

    shown: Plot | None = None

    def show(self, plot: Plot | None) -> None:
        """Draws `plot`; nothing where there is none yet."""
        self.shown = plot
        plt = self.plt
        plt.clear_figure()
        if plot is not None:
            plt.title(visible(plot.title))
            plt.xlabel(visible(plot.x))
            plt.ylabel(visible(plot.y))
            _DRAWN[plot.kind](plt, plot)
        self.refresh()


def _bars(plt: Any, plot: Plot) -> None:
    """A group of bars for each x that any series has."""
    names = list(dict.fromkeys(str(x) for series in plot.series for x in series.x))
    heights = []
    for series in plot.series:
        known = dict(zip(map(str, series.x), series.y, strict=True))
        heights.append([known.get(name, 0.0) for name in names])
    if names:
        plt.multiple_bar([visible(name) for name in names], heights, labels=[visible(one.name) for one in plot.series])


def _lines(plt: Any, plot: Plot) -> None:
    for series, marker in zip(plot.series, cycle(MARKERS)):
        plt.plot([float(x) for x in series.x], list(series.y), label=visible(series.name), marker=marker)


def _points(plt: Any, plot: Plot) -> None:
    for series, marker in zip(plot.series, cycle(MARKERS)):
        plt.scatter([float(x) for x in series.x], list(series.y), label=visible(series.name), marker=marker)


def _histogram(plt: Any, plot: Plot) -> None:
    """A line for each series, so that those behind are seen: the share of its values in each of `BINS` equal bins."""
    every = [value for series in plot.series for value in series.y]
    if not every:
        return
    least, width = min(every), (max(every) - min(every)) / BINS or 1.0
    middles = [least + (place + 0.5) * width for place in range(BINS)]
    for series, marker in zip(plot.series, cycle(MARKERS)):
        if series.y:
            places = [min(int((value - least) / width), BINS - 1) for value in series.y]
            shares = [places.count(place) / len(places) for place in range(BINS)]
            plt.plot(middles, shares, label=visible(series.name), marker=marker)


_DRAWN = {
    PlotKind.BARS: _bars,
    PlotKind.LINES: _lines,
    PlotKind.POINTS: _points,
    PlotKind.HISTOGRAM: _histogram,
}
