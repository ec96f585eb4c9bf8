"""The journal: every edit of the open model, switched on or off in its place."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content

from knowscope_tui.core.edits import JournalEntry, JournalState
from knowscope_tui.text import count, cut, fit, share, visible
from knowscope_tui.tui.messages import EntrySwitched
from knowscope_tui.tui.widgets.rows import RowsTable, moving_keys


class JournalTable(RowsTable[JournalEntry]):
    """Edits in the order of application, then those that redo would bring back."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space,enter", "switch", "on / off", id="journal.switch", tooltip="Switch the edit off or on."),
        *moving_keys("journal", "edit"),
    ]

    def __init__(self) -> None:
        super().__init__("journal", "No edit is applied yet.")
        self._undone: set[int] = set()

    def show(self, journal: JournalState) -> None:
        self._undone = {entry.number for entry in journal.undone}
        here = self.row.number if self.row is not None else None
        rows = [*journal.entries, *journal.undone]
        at = next((index for index, entry in enumerate(rows) if entry.number == here), len(journal.entries) - 1)
        self.set_rows(rows, at)

    def heading(self, width: int) -> Content:
        head = f"     #  {'method':<15}{'facts':<{self._facts(width)}}{'positions':>11}{'Rel':>6}  "
        return Content.styled(head, "$muted")

    def _facts(self, width: int) -> int:
        return max(width - 8 - 15 - 11 - 6 - 2 - 8, 8)

    def line(self, row: JournalEntry, width: int, at_cursor: bool) -> Content:
        undone = row.number in self._undone
        sign, state = ("·", "undone") if undone else ("■", "on") if row.on else ("□", "off")
        style = "" if at_cursor else "$success" if row.on and not undone else "$muted"
        named = visible(row.facts[0]) if len(row.facts) == 1 else count(len(row.facts), "fact")
        facts = f"{named}, from {visible(row.source)}" if row.source else named
        room = self._facts(width)
        return Content.assemble(
            (f" {sign} ", style),
            f"{row.number:>3}  {fit(visible(row.method), 15)}{fit(cut(facts, room - 1), room)}",
            f"{row.positions:>11,}{share(row.reliability):>6}  ",
            (state, style),
        )

    def row_clicked(self, row: JournalEntry, x: int) -> None:
        if x < 4:
            self.action_switch()

    def action_switch(self) -> None:
        """An undone edit is no part of the model; redo brings it back."""
        if self.row is None:
            return
        if self.row.number in self._undone:
            self.app.notify("That edit is undone. Press r to bring it back.", severity="warning", markup=False)
        else:
            self.post_message(EntrySwitched(self.row))
