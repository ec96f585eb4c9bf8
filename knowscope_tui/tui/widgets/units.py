"""The units: one row each, drawn line by line, so that thousands cost no more than those in view."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual
from textual.widgets import Input

from knowscope_tui.core.readings import Rank, UnitReading
from knowscope_tui.core.units import Unit
from knowscope_tui.text import bar, figure, fit, share
from knowscope_tui.tui.messages import FilterTyped, InputLeft, SortPicked, UnitToggled
from knowscope_tui.tui.table import Columns
from knowscope_tui.tui.widgets.common import Chip, SafeInput

_HEADINGS = {Rank.ACTIVATION: "activation", Rank.ATTRIBUTION: "attribution", Rank.DELTA_PROB: "ΔProb"}


class UnitsTable(ScrollView, inherit_bindings=False):
    """Rows of units under fixed headings. A click or a key toggles the unit under the cursor."""

    can_focus = True
    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"units--cursor", "units--cursor-blurred", "units--row"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "go(-1)", "Up", id="units.up", show=False, tooltip="Go to the unit above."),
        Binding("down,j", "go(1)", "Down", id="units.down", show=False, tooltip="Go to the unit below."),
        Binding("pageup", "page(-1)", "Page up", id="units.pageup", show=False, tooltip="Go one page up."),
        Binding("pagedown", "page(1)", "Page down", id="units.pagedown", show=False, tooltip="Go one page down."),
        Binding("home", "end(False)", "First", id="units.home", show=False, tooltip="Go to the first unit."),
        Binding("end", "end(True)", "Last", id="units.end", show=False, tooltip="Go to the last unit."),
    ]

    def __init__(self) -> None:
        super().__init__(id="units")
        self._rows: list[UnitReading] = []
        self._off: Collection[Unit] = ()
        self._sort = Rank.DELTA_PROB
        self._exact = False
        self._cursor = 0
        self._moved = False
        self._largest = (0.0, 0.0)
        self._empty = "No unit is read yet."
        self.tooltip = None

    # --- what it shows ----------------------------------------------------------------------------------------------

    def show(self, rows: list[UnitReading], *, sort: Rank, exact: bool, fresh: bool) -> None:
        """Shows `rows`; the cursor stays on its unit once it was moved. `fresh` rows start at the top again."""
        unit = self.unit if self._moved and not fresh else None
        self._moved = self._moved and not fresh
        self._rows, self._sort, self._exact = rows, sort, exact
        self._largest = (
            max((row.activation for row in rows), default=0.0),
            max((row.attribution for row in rows), default=0.0),
        )
        places = {row.unit: index for index, row in enumerate(rows)}
        self._cursor = places.get(unit, 0) if unit is not None else 0
        self.virtual_size = Size(0, len(rows) + 1)
        self._keep_in_view()
        self.refresh()

    def show_switches(self, off: Collection[Unit]) -> None:
        self._off = off
        self.refresh()

    def show_nothing(self, why: str) -> None:
        """Says in the table's place why it is empty."""
        self._empty = why
        self.refresh()

    @property
    def unit(self) -> Unit | None:
        """The unit under the cursor."""
        return self._rows[self._cursor].unit if self._cursor < len(self._rows) else None

    # --- drawing ----------------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        style = self.get_visual_style("units--row")
        index = self.scroll_offset.y + y - 1
        if y == 0:
            content = self._heading(width)
        elif not self._rows:
            content = Content.styled(f" {self._empty}" if y == 2 else "", "$muted")
        elif index < len(self._rows):
            if index == self._cursor:
                style = self.get_visual_style("units--row", self._cursor_class)
            content = self._row(self._rows[index], width, index == self._cursor)
        else:
            content = Content("")
        strips = Visual.to_strips(self, content.truncate(width, ellipsis=True), width, 1, style, pad=True)
        return strips[0] if strips else Strip.blank(width)

    @property
    def _cursor_class(self) -> str:
        return "units--cursor" if self.has_focus else "units--cursor-blurred"

    def _columns(self, width: int) -> Columns:
        return Columns.within(width, max((len(str(row.unit)) for row in self._rows), default=18))

    def _heading(self, width: int) -> Content:
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

    def _row(self, row: UnitReading, width: int, at_cursor: bool) -> Content:
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

    def _keep_in_view(self) -> None:
        room = max(self.size.height - 1, 1)
        top = round(self.scroll_target_y)
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False)
        elif self._cursor >= top + room:
            self.scroll_to(y=self._cursor - room + 1, animate=False)

    def _go_to(self, index: int) -> None:
        if self._rows:
            self._moved = True
            self._cursor = min(max(index, 0), len(self._rows) - 1)
            self._keep_in_view()
            self.refresh()

    def action_go(self, step: int) -> None:
        self._go_to(self._cursor + step)

    def action_page(self, step: int) -> None:
        self._go_to(self._cursor + step * max(self.size.height - 2, 1))

    def action_end(self, last: bool) -> None:
        self._go_to(len(self._rows) - 1 if last else 0)

    def on_resize(self) -> None:
        self._keep_in_view()

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None:
            return
        if offset.y == 0:
            self._click_heading(offset.x)
            return
        index = self.scroll_offset.y + offset.y - 1
        if index < len(self._rows):
            self._go_to(index)
            self.post_message(UnitToggled(self._rows[index].unit))

    def _click_heading(self, x: int) -> None:
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

    def show_settings(self, family: str, sort: str, mode: str, positions: str) -> None:
        values = {
            "family": ("", family),
            "sort": ("sort", sort),
            "mode": ("mode", mode),
            "positions": ("at", positions),
        }
        for chip, (name, value) in values.items():
            self.query_one(f"#{chip}", Chip).show(name, value)
