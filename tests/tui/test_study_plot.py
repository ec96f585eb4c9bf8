"""A study's plot in the terminal: round axes, a legend that covers nothing, the first series in front."""

from __future__ import annotations

import re

import pytest
from textual.app import App, ComposeResult
from textual_plotext import PlotextPlot

from knowscope_tui.core.studies import Plot, PlotKind, Series
from knowscope_tui.tui.widgets.study_plot import BAR_SIGNS, POINT_SIGNS, StudyPlot, legend, steps

BARS = Plot(
    "bars",
    "Bars",
    PlotKind.BARS,
    "kind",
    "ΔProb",
    (Series("ours", ("a", "b"), (0.99, 0.5)), Series("paper", ("a",), (0.8,))),
)
LINES = Plot(
    "lines",
    "Lines",
    PlotKind.LINES,
    "layer",
    "ΔProb",
    (Series("first", (0, 1, 2, 3), (0.9, 0.5, 0.5, 0.2)), Series("second", (0, 1, 2, 3), (0.1, 0.5, 0.3, 0.1))),
)
EMPTY = Plot("empty", "Empty", PlotKind.HISTOGRAM, "IS", "units", (Series("none", (), ()), Series("one", (), (0.5,))))
FLAT = Plot("flat", "Flat", PlotKind.POINTS, "fact", "d", (Series("one", (1,), (0.0,)),))


async def drawn(plot: Plot, size: tuple[int, int] = (60, 20)) -> list[str]:
    """The rows of `plot` as a terminal of `size` shows them, without colours."""

    class Shown(App[None]):
        def compose(self) -> ComposeResult:
            yield StudyPlot()

    app = Shown()
    async with app.run_test(size=size) as pilot:
        app.query_one(StudyPlot).show(plot, "1 of 1")
        await pilot.pause()
        drawing = app.query_one(PlotextPlot)
        assert drawing.display
        drawing.plt.plotsize(drawing.size.width, drawing.size.height)
        return re.sub(r"\x1b\[[0-9;]*m", "", drawing.plt.build()).splitlines()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 0.99, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.0, 6.8, [0.0, 2.0, 4.0, 6.0, 8.0]),
        (-0.3, 0.2, [-0.3, -0.2, -0.1, 0.0, 0.1, 0.2]),
        (0.0, 100.0, [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]),
        (0.0, 1e-6, [0.0, 2e-7, 4e-7, 6e-7, 8e-7, 1e-6]),
        (0.0, 1.01, [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]),
    ],
)
def test_an_axis_has_round_numbers_that_hold_everything(low: float, high: float, expected: list[float]) -> None:
    assert steps(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("hundredths", range(1, 101))
def test_an_axis_ends_at_the_first_tick_that_holds_its_range(hundredths: int) -> None:
    made = steps(0.0, hundredths / 100)
    assert made[-1] >= hundredths / 100
    assert made[-2] < hundredths / 100


def test_layers_are_whole() -> None:
    assert steps(0.0, 3.0, whole=True) == [0.0, 1.0, 2.0, 3.0]
    assert steps(0.0, 1.0, whole=True) == [0.0, 1.0]


async def test_bars_reach_their_height_and_nothing_lies_over_them() -> None:
    rows = await drawn(BARS)
    text = "\n".join(rows)
    assert "ours" not in text
    assert "paper" not in text
    top = {sign: next(number for number, row in enumerate(rows) if sign in row) for sign in BAR_SIGNS[:2]}
    assert top[BAR_SIGNS[0]] < top[BAR_SIGNS[1]]
    assert rows[top[BAR_SIGNS[0]]].lstrip().startswith("1")  # .99 is drawn beside the tick 1.


async def test_every_point_has_its_sign_and_the_first_series_is_in_front() -> None:
    rows = "\n".join(await drawn(LINES))
    assert rows.count(POINT_SIGNS[0]) == 4
    assert rows.count(POINT_SIGNS[1]) == 3  # The two meet at layer 1.
    assert "·" in rows


@pytest.mark.parametrize("plot", [EMPTY, FLAT])
@pytest.mark.parametrize("size", [(60, 20), (20, 6), (8, 3)])
async def test_little_to_show_and_little_room_are_drawn_too(plot: Plot, size: tuple[int, int]) -> None:
    assert await drawn(plot, size)


def test_the_legend_breaks_between_its_series_and_in_none() -> None:
    assert legend(BARS, "1 of 3", 80).plain == "Bars  1 of 3  ↑ ΔProb   █ ours   ▒ paper"
    assert legend(BARS, "1 of 3", 32).plain == "Bars  1 of 3  ↑ ΔProb   █ ours\n▒ paper"
    assert legend(BARS, "1 of 3", 3).plain == "Bars  1 of 3  ↑ ΔProb\n█ ours\n▒ paper"


async def test_names_that_mean_harm_are_text() -> None:
    escape = "[red]\x1b]0;x\x07"
    harm = Plot("x", escape, PlotKind.BARS, escape, escape, (Series(escape, (escape,), (1.0,)),))
    rows = "".join(await drawn(harm))
    named = legend(harm, "1 of 1", 80)
    assert rows.count("[red]") == 2  # What goes across, and its name.
    assert named.plain.count("[red]") == 3  # The title, what goes upwards, and the series.
    assert "\x1b" not in rows + named.plain
    assert "\x07" not in rows + named.plain


@pytest.mark.parametrize("kind", PlotKind)
async def test_what_has_no_value_is_left_out(kind: PlotKind) -> None:
    series = Series("one", (0, 1, 2), (float("nan"), 0.5, float("inf")))
    assert await drawn(Plot("x", "X", kind, "x", "y", (series,)))
