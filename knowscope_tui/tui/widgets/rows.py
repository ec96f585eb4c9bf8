"""A table drawn line by line, so that thousands of rows cost no more than those in view, and its cursor."""

from __future__ import annotations

from textwrap import wrap
from typing import ClassVar, Generic, TypeVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

Row = TypeVar("Row")


def moving_keys(table: str, row: str) -> list[BindingType]:
    """The keys that move the cursor of the table called `table`, whose rows are called `row`."""
    return [
        Binding("up,k", "go(-1)", "Up", id=f"{table}.up", show=False, tooltip=f"Go to the {row} above."),
        Binding("down,j", "go(1)", "Down", id=f"{table}.down", show=False, tooltip=f"Go to the {row} below."),
        Binding("pageup", "page(-1)", "Page up", id=f"{table}.pageup", show=False, tooltip="Go one page up."),
        Binding("pagedown", "page(1)", "Page down", id=f"{table}.pagedown", show=False, tooltip="Go one page down."),
        Binding("home", "end(False)", "First", id=f"{table}.home", show=False, tooltip=f"Go to the first {row}."),
        Binding("end", "end(True)", "Last", id=f"{table}.end", show=False, tooltip=f"Go to the last {row}."),
    ]


class RowsTable(ScrollView, Generic[Row], inherit_bindings=False):
    """Rows under a fixed heading, with a cursor. A table of its own says how they are drawn and what a click means."""

    can_focus = True
    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"rows--cursor", "rows--cursor-blurred", "rows--row"}

    def __init__(self, id: str, empty: str) -> None:
        super().__init__(id=id)
        self._rows: list[Row] = []
        self._cursor = 0
        self._empty = empty

    # --- what a table of its own says -------------------------------------------------------------------------------

    def heading(self, width: int) -> Content:
        raise NotImplementedError

    def line(self, row: Row, width: int, at_cursor: bool) -> Content:
        raise NotImplementedError

    def cursor_moved(self) -> None:
        """A person moved the cursor."""

    def heading_clicked(self, x: int) -> None:
        """A person clicked the heading at column `x`."""

    def row_clicked(self, row: Row, x: int) -> None:
        """A person clicked `row` at column `x`; the cursor is there already."""

    # --- what it shows ----------------------------------------------------------------------------------------------

    def set_rows(self, rows: list[Row], cursor: int, *, steady: bool = False) -> None:
        """Shows `rows` and scrolls to the cursor; with `steady` it scrolls not at all, wherever the cursor went."""
        self._rows, self._cursor = rows, min(max(cursor, 0), max(len(rows) - 1, 0))
        self.virtual_size = Size(0, len(rows) + 1)
        if not steady:
            self._keep_in_view()
        self.refresh()

    def show_nothing(self, why: str) -> None:
        """Says in the rows' place why there is none."""
        self._empty = why
        self.refresh()

    @property
    def row(self) -> Row | None:
        """The row under the cursor."""
        return self._rows[self._cursor] if self._cursor < len(self._rows) else None

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        style = self.get_visual_style("rows--row")
        index = self.scroll_offset.y + y - 1
        if y == 0:
            content = self.heading(width)
        elif not self._rows:
            content = Content.styled(self._empty_line(y - 2, width), "$muted")
        elif index < len(self._rows):
            if index == self._cursor:
                style = self.get_visual_style("rows--row", self._cursor_class)
            content = self.line(self._rows[index], width, index == self._cursor)
        else:
            content = Content("")
        strips = Visual.to_strips(self, content.truncate(width, ellipsis=True), width, 1, style, pad=True)
        return strips[0] if strips else Strip.blank(width)

    def _empty_line(self, number: int, width: int) -> str:
        """Line `number`, from 0, of what stands where there are no rows."""
        lines = wrap(self._empty, max(width - 2, 10)) if number >= 0 else []
        return f" {lines[number]}" if 0 <= number < len(lines) else ""

    @property
    def _cursor_class(self) -> str:
        return "rows--cursor" if self.has_focus else "rows--cursor-blurred"

    # --- moving -----------------------------------------------------------------------------------------------------

    def _keep_in_view(self) -> None:
        room = max(self.size.height - 1, 1)
        top = round(self.scroll_target_y)
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False)
        elif self._cursor >= top + room:
            self.scroll_to(y=self._cursor - room + 1, animate=False)

    def go_to(self, index: int) -> None:
        if self._rows:
            self._cursor = min(max(index, 0), len(self._rows) - 1)
            self._keep_in_view()
            self.refresh()
            self.cursor_moved()

    def action_go(self, step: int) -> None:
        self.go_to(self._cursor + step)

    def action_page(self, step: int) -> None:
        self.go_to(self._cursor + step * max(self.size.height - 2, 1))

    def action_end(self, last: bool) -> None:
        self.go_to(len(self._rows) - 1 if last else 0)

    def on_resize(self) -> None:
        self._keep_in_view()

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None:
            return
        if offset.y == 0:
            self.heading_clicked(offset.x)
            return
        index = self.scroll_offset.y + offset.y - 1
        if index < len(self._rows):
            self.go_to(index)
            self.row_clicked(self._rows[index], offset.x)
