"""Which units the table of the main screen shows, and when it is drawn anew while exact values come in."""

from __future__ import annotations

from time import monotonic

from textual.screen import Screen
from textual.timer import Timer

from knowscope_tui.core.readings import Rank, Reading
from knowscope_tui.core.units import Site
from knowscope_tui.tui.microscope import FAMILIES, Microscope
from knowscope_tui.tui.table import SORTS, UnitRows
from knowscope_tui.tui.widgets.units import DeltaColumn, UnitsTable
from knowscope_tui.tui.widgets.units_panel import UnitsPanel
from knowscope_tui.tui.words import exactly

BETWEEN_REDRAWS = 0.15
"""Seconds between two redraws of the table while a sweep goes on: it is to be watched, not to flicker."""


class Listing:
    """Carries units to their table, with what is a matter of view alone: order and filters."""

    def __init__(self, screen: Screen[None], scope: Microscope) -> None:
        self._screen = screen
        self._scope = scope
        self.sort = SORTS[0]
        self.filter = ""
        self.site: Site | None = None
        self.fresh = True
        """Whether the table starts at its top when it is shown next."""
        self._rows: UnitRows | None = None
        self._drawn = 0.0
        self._redraw: Timer | None = None
        self._follow = False

    def begin(self, reading: Reading) -> None:
        self._rows = UnitRows(reading)

    def show(self) -> None:
        """Shows the units as they are now, scrolled to the cursor: a person asked for it."""
        self._follow = True
        self._draw()

    def switched(self) -> None:
        """Marks what is switched off at once; where units have their places is drawn a little later, so that it does
        not stand in front of the answer."""
        self._screen.query_one(UnitsTable).show_switches(self._scope.off)
        self._follow = True
        self._draw_within(BETWEEN_REDRAWS)

    def swept(self) -> None:
        """Shows what a sweep found: at once when it ended, else not too often. The table does not scroll."""
        left = BETWEEN_REDRAWS - (monotonic() - self._drawn)
        if left <= 0 or not self._scope.sweeper.wanted:
            self._draw()
        else:
            self._draw_within(left)

    def _draw_within(self, seconds: float) -> None:
        if self._redraw is None:
            self._redraw = self._screen.set_timer(seconds, self._draw)

    def _draw(self) -> None:
        if self._redraw is not None:
            self._redraw.stop()
            self._redraw = None
        scope, sweeper, table = self._scope, self._scope.sweeper, self._screen.query_one(UnitsTable)
        table.show_switches(scope.off)
        exact = sweeper.exact
        if self._rows is None or exact is None:
            return
        rows = self._rows.in_view(
            exact.deltas,
            families=FAMILIES[scope.family],
            sort=self.sort,
            text=self.filter,
            site=self.site,
            beyond=exact.beyond,
            off=scope.off,
            off_first=scope.beside and self.sort is Rank.DELTA_PROB,
        )
        waiting = "…" if sweeper.wanted else "–"
        delta = DeltaColumn(exact.deltas, exact.measured, exact.given.units, scope.beside, waiting)
        table.show(rows, delta, sort=self.sort, fresh=self.fresh, steady=not self._follow)
        self.fresh = self._follow = False
        self._drawn = monotonic()
        panel, shown = self._screen.query_one(UnitsPanel), f"{len(rows):,} shown"
        panel.show_count(f"{self.site} · {shown}" if self.site is not None else shown)
        panel.show_measured(exactly(exact, stopped=sweeper.stopped))
