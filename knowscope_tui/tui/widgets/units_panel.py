"""The units' table with the words above it: what it shows, and how units are switched off."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Input

from knowscope_tui.tui.messages import FilterTyped, InputLeft
from knowscope_tui.tui.widgets.common import Chip, SafeInput
from knowscope_tui.tui.widgets.units import UnitsTable

ONE_LINE = 72
"""Columns from which on all words have room in one line."""
ROOM_FOR_SORT = (50, 90)
"""Columns from which on the order has a word of its own, with two lines and with one; the headings show it always."""


class UnitsPanel(Vertical):
    """Each word is a button that does what its key does."""

    def __init__(self) -> None:
        super().__init__(id="units-panel")
        self.border_title = "Units"
        self._measured: Sequence[str] = ()
        self._dictionaries = True
        self._shown = ""

    def compose(self) -> ComposeResult:
        with Horizontal(id="units-line"):
            with Horizontal(id="units-what"):
                yield Chip("cycle_family", "family", "Features of the dictionaries, neurons of the MLPs, or both.")
                yield Chip("cycle_sort", "sort", "What the units are sorted by.")
                yield Chip("cycle_beside", "beside", "ΔProb of each unit alone, or beside what is off already.")
            with Horizontal(id="units-how"):
                yield Chip("cycle_mode", "mode", "What a switched-off unit becomes: zero, its mean, or half.")
                yield Chip("cycle_positions", "positions", "Where it is switched off: this token, or every token.")
                yield SafeInput(placeholder="/ filter", id="filter", compact=True)
        yield UnitsTable()

    def on_mount(self) -> None:
        self.query_one("#filter").tooltip = "Words that a unit's name must hold: resid 4 shows 4.resid_post.f17."

    def on_resize(self, event: events.Resize) -> None:
        width = event.size.width
        one_line = width >= ONE_LINE
        self.set_class(one_line, "-one-line")
        self.set_class(width < ROOM_FOR_SORT[one_line], "-unsorted")
        self._entitle()

    @on(Input.Changed, "#filter")
    def _filter_typed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(FilterTyped(event.value))

    @on(Input.Submitted, "#filter")
    def _filter_done(self, event: Input.Submitted) -> None:
        event.stop()
        self.post_message(InputLeft())

    def show_dictionaries(self, some: bool) -> None:
        """Without dictionaries there are neurons alone, which the panel says."""
        self._dictionaries = some
        self._entitle()

    def show_count(self, text: str) -> None:
        self._shown = text
        self._entitle()

    def show_measured(self, forms: Sequence[str]) -> None:
        """How much of the column ΔProb is measured, ever shorter."""
        self._measured = forms
        self._entitle()

    def _entitle(self) -> None:
        room = self.size.width - 4
        titles = [f"Units · {form}" for form in self._measured] or ["Units"]
        counts = [self._shown]
        if not self._dictionaries:
            hint = "neurons alone: l brings dictionaries"
            counts = [f"{hint} · {self._shown}" if self._shown else hint, hint]
        self.border_title = next((title for title in titles if len(title) <= room), titles[-1])
        self.border_subtitle = next((text for text in counts if len(text) <= room), counts[-1])

    def show_settings(self, family: str, sort: str, beside: str, mode: str, positions: str) -> None:
        values = {
            "family": ("", family),
            "sort": ("sort", sort),
            "beside": ("ΔProb", beside),
            "mode": ("mode", mode),
            "positions": ("at", positions),
        }
        for chip, (name, value) in values.items():
            self.query_one(f"#{chip}", Chip).show(name, value)
