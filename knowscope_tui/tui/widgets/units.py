"""The units: one row each, with bars for what was measured."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input

from knowscope_tui.core.readings import Rank, UnitReading
from knowscope_tui.core.units import Unit
from knowscope_tui.text import bar, figure, fit, share
from knowscope_tui.tui.messages import FilterTyped, InputLeft, SortPicked, UnitToggled
from knowscope_tui.tui.table import Columns
from knowscope_tui.tui.widgets.common import Chip, SafeInput
from knowscope_tui.tui.widgets.rows import RowsTable, moving_keys

_HEADINGS = {Rank.ACTIVATION: "activation", Rank.ATTRIBUTION: "attribution", Rank.DELTA_PROB: "ΔProb"}


class UnitsTable(RowsTable[UnitReading], inherit_bindings=False):
    """Rows of units under headings that sort. A click or a key toggles the unit under the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = moving_keys("units", "unit")

    def __init__(self) -> None:
        super().__init__("units", "No unit is read yet.")
        self._off: Collection[Unit] = ()
        self._sort = Rank.DELTA_PROB
        self._exact = False
        self._moved = False
        self._largest = (0.0, 0.0)
        self.tooltip = None

    # --- what it shows ----------------------------------------------------------------------------------------------

    def show(self, rows: list[UnitReading], *, sort: Rank, exact: bool, fresh: bool) -> None:
        """Shows `rows`; the cursor stays on its unit once it was moved. `fresh` rows start at the top again."""
        unit = self.unit if self._moved and not fresh else None
        self._moved = self._moved and not fresh
        self._sort, self._exact = sort, exact
        self._largest = (
            max((row.activation for row in rows), default=0.0),
            max((row.attribution for row in rows), default=0.0),
        )
        places = {row.unit: index for index, row in enumerate(rows)}
        self.set_rows(rows, places.get(unit, 0) if unit is not None else 0)

    def show_switches(self, off: Collection[Unit]) -> None:
        self._off = off
        self.refresh()

    @property
    def unit(self) -> Unit | None:
        """The unit under the cursor."""
        return self.row.unit if self.row is not None else None

    # --- drawing ----------------------------------------------------------------------------------------------------

    def _columns(self, width: int) -> Columns:
        return Columns.within(width, max((len(str(row.unit)) for row in self._rows), default=18))

    def heading(self, width: int) -> Content:
        columns = self._columns(width)
        pieces: list[tuple[str, str]] = [(fit("       unit", columns.LEFT + columns.unit), "$muted")]
        for _start, rank in columns.starts():
            bar_width = columns.delta_bar if rank is Rank.DELTA_PROB else columns.bar
            cells = (bar_width + 1 if bar_width else 0) + columns.NUMBER
            sorted_here = rank is self._sort
            name = _HEADINGS[rank] + ("▾" if sorted_here else "")
            if len(name) > cells:
                name = {"activation": "act", "attribution": "attr"}.get(_HEADINGS[rank], "ΔP") + (
                    "▾" if sorted_here else ""
                )
            pieces += [("  ", ""), (name.rjust(cells), "bold $primary" if sorted_here else "$muted")]
        return Content.assemble(*pieces)

    def line(self, row: UnitReading, width: int, at_cursor: bool) -> Content:
        columns = self._columns(width)
        off = row.unit in self._off
        quiet, off_style = ("", "bold") if at_cursor else ("$muted", "bold $warning")
        pieces: list[tuple[str, str]] = [
            ("▸" if at_cursor else " ", "bold"),
            ("■ off" if off else "□ on ", off_style if off else quiet),
            (" ", ""),
            (fit(str(row.unit), columns.unit), off_style if off else "bold" if row.selected else ""),
            *_measure(
                row.activation, self._largest[0], columns.bar, figure(row.activation), "" if at_cursor else "$secondary"
            ),
        ]
        if columns.attribution:
            pieces += _measure(
                row.attribution, self._largest[1], columns.bar, figure(row.attribution), "" if at_cursor else "$primary"
            )
        waiting = "–" if self._exact else "…"
        text = waiting if row.delta_prob is None else share(row.delta_prob)
        pieces += _measure(row.delta_prob or 0.0, 1.0, columns.delta_bar, text, "" if at_cursor else "$accent")
        return Content.assemble(*pieces)

    # --- moving and toggling ----------------------------------------------------------------------------------------

    def cursor_moved(self) -> None:
        self._moved = True

    def row_clicked(self, row: UnitReading, x: int) -> None:
        self.post_message(UnitToggled(row.unit))

    def heading_clicked(self, x: int) -> None:
        ranks = [rank for start, rank in self._columns(self.scrollable_content_region.width).starts() if x >= start]
        if ranks:
            self.post_message(SortPicked(ranks[-1]))


def _measure(value: float, largest: float, width: int, text: str, style: str) -> list[tuple[str, str]]:
    drawn = bar(value / largest, width) if largest > 0 and value > 0 else " " * width
    pieces = [("  ", ""), (drawn + " ", style)] if width else [("  ", "")]
    return [*pieces, (text.rjust(Columns.NUMBER), "")]


class UnitsPanel(Vertical):
    """The table under a line that says what it shows; each word of the line is a button."""

    def __init__(self) -> None:
        super().__init__(id="units-panel")
        self.border_title = "Units"

    def compose(self) -> ComposeResult:
        with Horizontal(id="units-line"):
            yield Chip("cycle_family", "family", "Features of the dictionaries, neurons of the MLPs, or both.")
            yield Chip("cycle_sort", "sort", "What the units are sorted by.")
            yield Chip("cycle_mode", "mode", "What a switched-off unit becomes: zero, its mean, or half.")
            yield Chip("cycle_positions", "positions", "Where it is switched off: this token, or every token.")
            yield SafeInput(placeholder="/ filter", id="filter", compact=True)
        yield UnitsTable()

    def on_mount(self) -> None:
        self.query_one("#filter").tooltip = "Words that a unit's name must hold: resid 4 shows 4.resid_post.f17."

    @on(Input.Changed, "#filter")
    def _filter_typed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(FilterTyped(event.value))

    @on(Input.Submitted, "#filter")
    def _filter_done(self, event: Input.Submitted) -> None:
        event.stop()
        self.post_message(InputLeft())

    def show_dictionaries(self, some: bool) -> None:
        """Without dictionaries there are neurons alone, which the panel's title says."""
        self.border_title = "Units" if some else "Units · neurons alone: l brings dictionaries"

    def show_settings(self, family: str, sort: str, mode: str, positions: str) -> None:
        values = {
            "family": ("", family),
            "sort": ("sort", sort),
            "mode": ("mode", mode),
            "positions": ("at", positions),
        }
        for chip, (name, value) in values.items():
            self.query_one(f"#{chip}", Chip).show(name, value)
