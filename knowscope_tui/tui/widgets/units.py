"""The units: one row each, with bars for what was measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content
from textual.geometry import Region

from knowscope_tui.core.readings import Rank
from knowscope_tui.core.units import Unit
from knowscope_tui.text import bar, figure, fit, share
from knowscope_tui.tui.messages import SortPicked, UnitToggled
from knowscope_tui.tui.table import Columns, UnitRow
from knowscope_tui.tui.widgets.rows import RowsTable, moving_keys

_HEADINGS = {
    Rank.ACTIVATION: ("activation", "act"),
    Rank.ATTRIBUTION: ("attribution", "attr"),
    Rank.DELTA_PROB: ("ΔProb", "ΔP"),
}
_BESIDE = ("ΔProb beside", "beside", "ΔP")


@dataclass(frozen=True)
class DeltaColumn:
    """What the column ΔProb holds: `values`, of units alone or beside those in `given`; `waiting` stands where a value
    is missing: … while it will come. `known` is how many there are, by which two columns of growing values differ."""

    values: Mapping[Unit, float]
    known: int = 0
    given: Collection[Unit] = ()
    beside: bool = False
    waiting: str = "…"

    def cell(self, unit: Unit) -> tuple[float, str]:
        """Length of the bar, and what stands beside it."""
        value = self.values.get(unit)
        if unit in self.given:
            return 0.0, "off"
        return (0.0, self.waiting) if value is None else (value, share(value))


NO_DELTAS = DeltaColumn({})


class UnitsTable(RowsTable[UnitRow], inherit_bindings=False):
    """Rows of units under headings that sort. A click or a key toggles the unit under the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = moving_keys("units", "unit")

    def __init__(self) -> None:
        super().__init__("units", "No unit is read yet.")
        self._off: Collection[Unit] = ()
        self._sort = Rank.DELTA_PROB
        self._delta = NO_DELTAS
        self._moved = False
        self._largest = (0.0, 0.0)
        self._longest_name = 18
        self.tooltip = None

    # --- what it shows ----------------------------------------------------------------------------------------------

    def show(self, rows: list[UnitRow], delta: DeltaColumn, *, sort: Rank, fresh: bool, steady: bool) -> None:
        """Shows `rows`; the cursor stays on its unit once it was moved. `fresh` rows start at the top again; with
        `steady` the table does not scroll."""
        row = self.row if self._moved and not fresh else None
        self._moved = row is not None
        if not fresh and (rows, delta, sort) == (self._rows, self._delta, self._sort):
            return
        self._sort, self._delta = sort, delta
        self._largest = (
            max((row.activation or 0.0 for row in rows), default=0.0),
            max((row.attribution or 0.0 for row in rows), default=0.0),
        )
        self._longest_name = max((len(row.name) for row in rows), default=18)
        cursor = next((at for at, other in enumerate(rows) if other.name == row.name), 0) if row is not None else 0
        self.set_rows(rows, cursor, steady=steady and not fresh)

    def show_switches(self, off: Collection[Unit]) -> None:
        """Draws the lines anew whose unit was switched."""
        switched = set(off).symmetric_difference(self._off)
        self._off = off
        top = self.scroll_offset.y
        for at, row in enumerate(self._rows[top : top + self.size.height]):
            if row.unit in switched:
                self.refresh(Region(0, at + 1, self.size.width, 1))

    def hold(self) -> None:
        """The cursor stays on the unit that it is on, wherever that goes, and is to be seen."""
        self._moved = True
        self._keep_in_view()

    @property
    def unit(self) -> Unit | None:
        """The unit under the cursor."""
        return self.row.unit if self.row is not None else None

    # --- drawing ----------------------------------------------------------------------------------------------------

    def _columns(self, width: int) -> Columns:
        return Columns.within(width, self._longest_name)

    def heading(self, width: int) -> Content:
        columns = self._columns(width)
        pieces: list[tuple[str, str]] = [(fit("       unit", columns.LEFT + columns.unit), "$muted")]
        for _start, rank in columns.starts():
            bar_width = columns.delta_bar if rank is Rank.DELTA_PROB else columns.bar
            cells = columns.GAP + (bar_width + 1 if bar_width else 0) + columns.NUMBER
            sorted_here = rank is self._sort
            forms = _BESIDE if rank is Rank.DELTA_PROB and self._delta.beside else _HEADINGS[rank]
            names = [form + ("▾" if sorted_here else "") for form in forms]
            name = next((name for name in names if len(name) < cells), names[-1])
            pieces.append((name.rjust(cells), "bold $primary" if sorted_here else "$muted"))
        return Content.assemble(*pieces)

    def line(self, row: UnitRow, width: int, at_cursor: bool) -> Content:
        columns = self._columns(width)
        off = row.unit in self._off
        quiet, off_style = ("", "bold") if at_cursor else ("$muted", "bold $warning")
        pieces: list[tuple[str, str]] = [
            ("▸" if at_cursor else " ", "bold"),
            ("■ off" if off else "□ on ", off_style if off else quiet),
            (" ", ""),
            (fit(row.name, columns.unit), off_style if off else "bold" if row.selected else ""),
            *_figure(row.activation, self._largest[0], columns.bar, "" if at_cursor else "$secondary"),
        ]
        if columns.attribution:
            pieces += _figure(row.attribution, self._largest[1], columns.bar, "" if at_cursor else "$primary")
        length, text = self._delta.cell(row.unit)
        pieces += _measure(length, 1.0, columns.delta_bar, text, "" if at_cursor else "$accent")
        return Content.assemble(*pieces)

    # --- moving and toggling ----------------------------------------------------------------------------------------

    def cursor_moved(self) -> None:
        self._moved = True

    def row_clicked(self, row: UnitRow, x: int) -> None:
        self.post_message(UnitToggled(row.unit))

    def heading_clicked(self, x: int) -> None:
        ranks = [rank for start, rank in self._columns(self.scrollable_content_region.width).starts() if x >= start]
        if ranks:
            self.post_message(SortPicked(ranks[-1]))


def _figure(value: float | None, largest: float, width: int, style: str) -> list[tuple[str, str]]:
    return _measure(value or 0.0, largest, width, "–" if value is None else figure(value), style)


def _measure(value: float, largest: float, width: int, text: str, style: str) -> list[tuple[str, str]]:
    drawn = bar(value / largest, width) if largest > 0 and value > 0 else " " * width
    pieces = [("  ", ""), (drawn + " ", style)] if width else [("  ", "")]
    return [*pieces, (text.rjust(Columns.NUMBER), "")]
