"""The frontier: erasure, and locality in the worst ring, over τ2, on which τ2 moves from point to point."""

from __future__ import annotations

import math
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget

from knowscope_tui.core.edits import Frontier, FrontierPoint
from knowscope_tui.core.rings import RINGS
from knowscope_tui.text import probability, share, signed_percent
from knowscope_tui.tui.messages import FrontierMoved
from knowscope_tui.tui.widgets.plot import Canvas

_AXIS = 6


class FrontierPlot(Widget, can_focus=True):
    """Posts `FrontierMoved` when a person goes to another point."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,down", "step(-1)", "lower τ2", id="frontier.lower", tooltip="Go to the next lower τ2."),
        Binding("right,up", "step(1)", "higher τ2", id="frontier.higher", tooltip="Go to the next higher τ2."),
        Binding("k", "knee", "knee", id="frontier.knee", tooltip="Go to the knee, the τ2 that is recommended."),
    ]

    def __init__(self) -> None:
        super().__init__(id="frontier")
        self._frontier: Frontier | None = None
        self._final = True
        self._nothing = ""
        self._tau2: float | None = None
        self._columns: dict[int, float] = {}

    def show(self, frontier: Frontier, *, final: bool) -> None:
        self._frontier, self._final = frontier, final
        self.refresh()

    def show_nothing(self, why: str) -> None:
        self._frontier, self._nothing = None, why
        self.refresh()

    def aim(self, tau2: float | None) -> None:
        """Says which τ2 is in use."""
        self._tau2 = tau2
        self.refresh()

    @property
    def points(self) -> list[FrontierPoint]:
        """From the lowest τ2 to the highest."""
        points = self._frontier.points if self._frontier is not None else ()
        return sorted(points, key=lambda point: point.tau2)

    @property
    def point(self) -> FrontierPoint | None:
        """The point whose τ2 is in use, or the nearest to it."""
        if self._tau2 is None or not self.points:
            return None
        return min(self.points, key=lambda point: abs(_log(point.tau2) - _log(self._tau2 or 0)))

    # --- drawing ----------------------------------------------------------------------------------------------------

    def render(self) -> Content:
        if not self.points or self._frontier is None:
            return Content.styled(self._nothing, "$muted")
        height = max(self.size.height - 4, 3)
        canvas = Canvas(self.size.width - _AXIS - 1, height)
        self._draw(canvas, self._frontier)
        lines = []
        for y, row in enumerate(canvas.cells):
            label = {0: "1.0", height - 1: "0.0"}.get(y, "0.5" if y == round((height - 1) / 2) else "")
            lines.append(Content.assemble((f"{label:>{_AXIS - 2}} ┤", "$muted"), *((c.sign, c.style) for c in row)))
        return Content("\n").join([*lines, self._feet(canvas), *self._figures(self._frontier)])

    def _x(self, tau2: float) -> float:
        low, high = _log(self.points[0].tau2), _log(self.points[-1].tau2)
        return 0.5 if high <= low else (_log(tau2) - low) / (high - low)

    def _draw(self, canvas: Canvas, frontier: Frontier) -> None:
        canvas.level(frontier.limits.min_reliability, "$muted")
        canvas.level(frontier.limits.min_locality, "$muted")
        if self._tau2 is not None and self.points[0].tau2 <= self._tau2 <= self.points[-1].tau2:
            canvas.upright(self._x(self._tau2), "$warning")
        erasure = [(self._x(point.tau2), point.reliability) for point in self.points]
        locality = [(self._x(point.tau2), point.worst) for point in self.points if point.worst is not None]
        canvas.curve(erasure, "$primary")
        canvas.curve(locality, "$success")
        self._columns = {canvas.column(x): point.tau2 for (x, _), point in zip(erasure, self.points, strict=True)}
        for x, kept in locality:
            canvas.mark(x, kept, "○", "bold $success")
        rows = {x: canvas.row(kept) for x, kept in locality}
        for x, gone in erasure:
            canvas.mark(x, gone, "◉" if rows.get(x) == canvas.row(gone) else "●", "bold $primary")

    def _feet(self, canvas: Canvas) -> Content:
        """The axis of τ2, with the knee under its column."""
        low, high = f"τ2 {self.points[0].tau2:.3g}", f"{self.points[-1].tau2:.3g}"
        line = list(low + high.rjust(max(canvas.width - len(low), len(high))))
        pieces: list[tuple[str, str]] = [(" " * _AXIS, "")]
        knee = self._frontier.knee if self._frontier is not None else None
        at = canvas.column(self._x(knee.tau2)) if knee is not None else -1
        if 0 <= at < len(line):
            mark = "▲ knee" if at + 6 < canvas.width - len(high) else "▲"
            before, after = "".join(line[:at]), "".join(line[at + len(mark) :])
            pieces += [(before, "$muted"), (mark, "bold $warning"), (after, "$muted")]
        else:
            pieces.append(("".join(line), "$muted"))
        return Content.assemble(*pieces)

    def _figures(self, frontier: Frontier) -> list[Content]:
        key = Content.assemble(
            (" " * _AXIS, ""),
            ("● ", "bold $primary"),
            "answers gone   ",
            ("○ ", "bold $success"),
            "worst ring kept   ",
            ("┄ limits", "$muted"),
            ("   measuring…" if not self._final else "   ←/→ move τ2", "$muted"),
        )
        point = self.point
        if point is None:
            return [key, Content(""), Content("")]
        rings = " · ".join(f"{ring} {share(point.rings[ring])}" for ring in RINGS if ring in point.rings)
        meets = ("within the limits", "bold $success") if point.meets else ("outside the limits", "bold $warning")
        gone = f"gone {share(point.reliability)}, P {probability(point.p_answer)}"
        first = Content.assemble(
            (f"τ2 {point.tau2:.3g}", "bold $warning"),
            f"  {point.positions:,} positions  {gone}  ΔPPL {signed_percent(point.delta_ppl)}  ",
            meets,
        )
        kept = f"kept {share(point.locality)}" + (f"  {rings}" if rings else "")
        if self._final and frontier.chosen is None:
            return [key, first, Content.assemble(kept, ("  no τ2 meets the limits", "$warning"))]
        return [key, first, Content(kept)]

    # --- moving -----------------------------------------------------------------------------------------------------

    def _go(self, tau2: float) -> None:
        self.aim(tau2)
        self.post_message(FrontierMoved(tau2))

    def action_step(self, step: int) -> None:
        points, here = self.points, self.point
        if points:
            at = points.index(here) + step if here is not None else len(points) - 1
            self._go(points[min(max(at, 0), len(points) - 1)].tau2)

    def action_knee(self) -> None:
        knee = self._frontier.knee if self._frontier is not None else None
        if knee is not None:
            self._go(knee.tau2)
        else:
            self.app.notify("There is no knee: no τ2 meets the limits yet.", severity="warning", markup=False)

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is not None and self._columns:
            nearest = min(self._columns, key=lambda column: abs(column + _AXIS - offset.x))
            self._go(self._columns[nearest])


def _log(tau2: float) -> float:
    return math.log(max(tau2, 1e-9))
