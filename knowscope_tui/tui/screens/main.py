"""The main screen: its panels, its keys, and which panel redraws when something changed."""

from __future__ import annotations

from typing import ClassVar, Literal

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen

from knowscope_tui.session.protocol import Event, Failed, Opened, Planned, SourceSpec
from knowscope_tui.text import visible
from knowscope_tui.tui import messages
from knowscope_tui.tui.desk import Desk
from knowscope_tui.tui.librarian import Librarian, Said
from knowscope_tui.tui.microscope import Microscope, Part
from knowscope_tui.tui.panels import Panels
from knowscope_tui.tui.selftest import SelfTester
from knowscope_tui.tui.status import Status
from knowscope_tui.tui.table import SORTS
from knowscope_tui.tui.widgets.answer import AnswerPanel
from knowscope_tui.tui.widgets.common import KeyBar
from knowscope_tui.tui.widgets.effect import EffectPanel
from knowscope_tui.tui.widgets.fact import FactPanel
from knowscope_tui.tui.widgets.header import TopLine
from knowscope_tui.tui.widgets.heat import HeatMap
from knowscope_tui.tui.widgets.units import UnitsPanel, UnitsTable

NARROW = 104
"""Below this many columns the heat map and the answer panel become one line each."""


class MainScreen(Screen[None]):
    """The microscope. Widgets tell it what a person wants; it asks the `Microscope` and redraws."""

    AUTO_FOCUS = "#prompt"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "toggle_unit", "toggle", id="main.toggle", tooltip="Switch the marked unit off or on."),
        Binding("x", "clear", "clear", id="main.clear", tooltip="Switch every unit on again."),
        Binding("e", "edit", "edit…", id="main.edit", tooltip="Turn units into a change of the weights."),
        Binding("s", "save", "save…", id="main.save", tooltip="Save the edited model as a checkpoint folder."),
        Binding("u", "undo", "undo", id="main.undo", tooltip="Take the last edit back, bit for bit."),
        Binding("slash", "filter", "filter", id="main.filter", tooltip="Type words that units' names must hold."),
        Binding("i", "fact", "fact", id="main.fact", tooltip="Type another fact."),
        Binding("l", "library", "library", id="main.library", tooltip="Find, pull and use dictionaries; self-test."),
        Binding("f", "cycle_family", "kind", id="main.family", tooltip="Show features, neurons, or both."),
        Binding("o", "cycle_sort", "sort", id="main.sort", tooltip="Sort by ΔProb, attribution or activation."),
        Binding(
            "p",
            "cycle_positions",
            "tokens",
            id="main.positions",
            tooltip="Switch off at this token, or at every token.",
        ),
        Binding(
            "m", "cycle_mode", "mode", id="main.mode", tooltip="Switched off means zero, the unit's mean, or half."
        ),
        Binding("t", "app.next_theme", "theme", id="main.theme", tooltip="Go to the next theme."),
        Binding("question_mark", "app.help", "help", id="main.help", tooltip="Show every key and every word."),
        Binding("q", "app.quit", "quit", id="main.quit", tooltip="Leave; asks first when edits are unsaved."),
        Binding(
            "left", "move(-1)", "token left", id="main.left", show=False, tooltip="Read units one token to the left."
        ),
        Binding(
            "right", "move(1)", "token right", id="main.right", show=False, tooltip="Read units one token to the right."
        ),
        Binding("escape", "leave", "back", id="main.leave", show=False, tooltip="Back to the units; lifts filters."),
    ]

    def __init__(self, desk: Desk, source: SourceSpec) -> None:
        super().__init__(id="main")
        self._desk = desk
        self.scope = Microscope(desk, self._changed, self._failed)
        self.tester = SelfTester(desk, self._show_test)
        self.librarian = Librarian(desk, self.scope, source, self._tell)
        self._panels = Panels(self, self.scope)
        self._status = Status(self, desk, self.scope, self.tester)

    def compose(self) -> ComposeResult:
        yield TopLine()
        yield FactPanel()
        with Horizontal(id="middle"):
            yield HeatMap()
            yield UnitsPanel()
            yield AnswerPanel()
        yield EffectPanel()
        yield KeyBar()

    def on_mount(self) -> None:
        self._panels.show(Part.SETTINGS)
        self.show_activity()

    def on_resize(self, event: events.Resize) -> None:
        narrow = event.size.width < NARROW
        self.set_class(narrow, "-narrow")
        self.set_class(event.size.height < 20, "-short")
        self.query_one(HeatMap).compact = narrow
        self.query_one(AnswerPanel).compact = narrow

    # --- what the session says --------------------------------------------------------------------------------------

    def hear_open(self, event: Event) -> None:
        """Hears what opening the model comes to."""
        if isinstance(event, Opened):
            self.scope.opened(event)
        elif isinstance(event, Planned):
            self._panels.show_plan(event.plan)
        elif isinstance(event, Failed):
            self._status.broken = True
            self.query_one(UnitsTable).show_nothing(visible(f"No model is open. {event.what} {event.hint}".strip()))
            self.query_one(UnitsTable).focus()
            self._failed(event)

    def _failed(self, event: Failed) -> None:
        self.notify(visible(f"{event.what} {event.hint}".strip()), severity="error", timeout=10, markup=False)

    def _tell(self, said: Said) -> None:
        """Says what became of a pull to a person who is not in the library."""
        severity: Literal["information", "error"] = "error" if said.sign == "✗" else "information"
        self.notify(visible(said.text), severity=severity, timeout=10, markup=False)

    def show_activity(self) -> None:
        """Shows what the session works on; when it is free, the self-test has its turn."""
        self._status.show_activity()
        if self.scope.reading is not None or (self.scope.info is not None and not self.scope.facts):
            self.tester.when_free()

    def _changed(self, part: Part) -> None:
        if part in (Part.MODEL, Part.DICTIONARIES):
            self._status.remark()
            self.tester.want()
            self.librarian.opened()
        self._panels.show(part)

    def _show_test(self) -> None:
        self._status.show_test()
        self.librarian.tested()

    # --- what a person wants ----------------------------------------------------------------------------------------

    @on(messages.FactAsked)
    def _look(self, message: messages.FactAsked) -> None:
        if not message.prompt.strip():
            self.notify("The fact is empty. Type the words before its answer.", severity="warning", markup=False)
            return
        self._panels.fresh = True
        if self.scope.info is None:
            if not self._status.broken:
                self.notify("The fact is looked at as soon as the model is loaded.", markup=False)
            return
        self.scope.look(message.prompt, message.answer)
        self.query_one(UnitsTable).focus()

    @on(messages.PositionPicked)
    def _read_at(self, message: messages.PositionPicked) -> None:
        self.scope.read_at(message.position)

    @on(messages.SitePicked)
    def _pick_site(self, message: messages.SitePicked) -> None:
        self._panels.site = message.site
        self._panels.show_units()

    @on(messages.UnitToggled)
    def _toggle(self, message: messages.UnitToggled) -> None:
        self.scope.toggle(message.unit)

    @on(messages.SortPicked)
    def _sort_by(self, message: messages.SortPicked) -> None:
        self._panels.sort = message.rank
        self._panels.fresh = True
        self._changed(Part.SETTINGS)

    @on(messages.FilterTyped)
    def _filter_by(self, message: messages.FilterTyped) -> None:
        self._panels.filter = message.text
        self._panels.show_units()

    @on(messages.InputLeft)
    def action_leave(self) -> None:
        heat = self.query_one(HeatMap)
        if self.focused is self.query_one(UnitsTable) and heat.picked is not None:
            heat.picked = self._panels.site = None
            self._panels.show_units()
        self.query_one(UnitsTable).focus()

    @on(messages.ChipPressed)
    async def _press(self, message: messages.ChipPressed) -> None:
        await self.run_action(message.action)

    def action_toggle_unit(self) -> None:
        unit = self.query_one(UnitsTable).unit
        if unit is not None:
            self.scope.toggle(unit)

    def action_clear(self) -> None:
        self.scope.clear()

    def action_move(self, step: int) -> None:
        self.scope.move(step)

    def action_fact(self) -> None:
        self.query_one("#prompt").focus()

    def action_filter(self) -> None:
        self.query_one("#filter").focus()

    def action_cycle_family(self) -> None:
        self.scope.cycle_family()

    def action_cycle_mode(self) -> None:
        self.scope.cycle_mode()

    def action_cycle_positions(self) -> None:
        self.scope.cycle_positions()

    def action_cycle_sort(self) -> None:
        self.post_message(messages.SortPicked(SORTS[(SORTS.index(self._panels.sort) + 1) % len(SORTS)]))

    # --- dictionaries -----------------------------------------------------------------------------------------------

    def action_library(self, view: str = "releases") -> None:
        from knowscope_tui.tui.screens.library import LibraryScreen

        self.app.push_screen(LibraryScreen(self.scope, self.librarian, self.tester, view))

    # --- edits ------------------------------------------------------------------------------------------------------

    def action_edit(self) -> None:
        from knowscope_tui.tui.screens.edit import EditScreen

        fact = self.scope.fact()
        if fact is None or self.scope.info is None:
            self.notify("There is no fact to edit yet. Type one and press enter.", severity="warning", markup=False)
            return
        self.app.push_screen(EditScreen(self._desk, self.scope, fact))

    def action_save(self) -> None:
        from knowscope_tui.tui.screens.save import SaveScreen

        if not self.scope.edits:
            self.notify("There is no edit to save. Press e to make one.", severity="warning", markup=False)
            return
        self.app.push_screen(SaveScreen(self._desk, self.scope))

    def action_undo(self) -> None:
        if self.scope.edits:
            self.scope.undo()
        else:
            self.notify("There is no edit to undo. Press e to make one.", severity="warning", markup=False)
