"""The main screen: its panels, its keys, and which panel redraws when something changed."""

from __future__ import annotations

from typing import ClassVar, Literal

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widgets import Input

from knowscope_tui.core.readings import UnitSet
from knowscope_tui.session.protocol import Event, Failed, Opened, Planned, SourceSpec
from knowscope_tui.text import visible
from knowscope_tui.tui import messages
from knowscope_tui.tui.desk import Desk
from knowscope_tui.tui.keys import MAIN_KEYS
from knowscope_tui.tui.librarian import Librarian
from knowscope_tui.tui.microscope import Microscope, Part
from knowscope_tui.tui.panels import Panels
from knowscope_tui.tui.said import Said
from knowscope_tui.tui.selftest import SelfTester
from knowscope_tui.tui.status import Status
from knowscope_tui.tui.studying import Students
from knowscope_tui.tui.table import SORTS
from knowscope_tui.tui.widgets.answer import AnswerPanel
from knowscope_tui.tui.widgets.common import KeyBar
from knowscope_tui.tui.widgets.effect import EffectPanel
from knowscope_tui.tui.widgets.fact import FactPanel
from knowscope_tui.tui.widgets.header import TopLine
from knowscope_tui.tui.widgets.heat import HeatMap
from knowscope_tui.tui.widgets.units import UnitsTable
from knowscope_tui.tui.widgets.units_panel import UnitsPanel
from knowscope_tui.tui.words import set_found

ROOM_BESIDE_HEAT = 34 + 46
"""Columns that the answer panel and the units need; where the heat map leaves less, it and the answer panel become one
line each."""


class MainScreen(Screen[None]):
    """The microscope. Widgets tell it what a person wants; it asks the `Microscope` and redraws."""

    AUTO_FOCUS = "#prompt"
    BINDINGS: ClassVar[list[BindingType]] = MAIN_KEYS

    def __init__(self, desk: Desk, source: SourceSpec) -> None:
        super().__init__(id="main")
        self._desk = desk
        self.scope = Microscope(desk, self._changed, self._failed, self._set_found)
        self.tester = SelfTester(desk, self._show_test)
        self.librarian = Librarian(desk, self.scope, source, self._tell)
        self.students = Students(desk, self._tell)
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

    def on_resize(self) -> None:
        width, height = self.app.size
        narrow = width < self.query_one(HeatMap).full_width + ROOM_BESIDE_HEAT
        self.set_class(narrow, "-narrow")
        self.set_class(height < 20, "-short")
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
        """Says what became of a pull or a study to a person who does not look at it."""
        severity: Literal["information", "error"] = "error" if said.sign == "✗" else "information"
        self.notify(visible(said.text), severity=severity, timeout=10, markup=False)

    def show_activity(self) -> None:
        """Shows what the session works on; when it is free, the sweep and then the self-test have their turn."""
        self._status.show_activity()
        self.scope.when_free()
        self.students.when_free()
        if self.scope.reading is not None or (self.scope.info is not None and not self.scope.facts):
            self.tester.when_free()

    def _set_found(self, found: UnitSet) -> None:
        self._say(set_found(found), "information" if found.reached else "warning", timeout=10)

    def _say(self, text: str, severity: Literal["information", "warning"] = "information", timeout: float = 5) -> None:
        self.notify(visible(text), severity=severity, timeout=timeout, markup=False)

    def _changed(self, part: Part) -> None:
        if part in (Part.MODEL, Part.DICTIONARIES):
            self._status.remark()
            self.tester.want()
            self.librarian.opened()
        self._panels.show(part)
        if part is Part.READING:
            self.on_resize()  # The heat map may have grown.

    def _show_test(self) -> None:
        self._status.show_test()
        self.librarian.tested()

    # --- what a person wants ----------------------------------------------------------------------------------------

    @on(messages.FactAsked)
    def _look(self, message: messages.FactAsked) -> None:
        if not message.prompt.strip():
            self._say("The fact is empty. Type the words before its answer.", "warning")
            return
        self._panels.units.fresh = True
        if self.scope.info is None:
            if not self._status.broken:
                self._say("The fact is looked at as soon as the model is loaded.")
            return
        self.scope.look(message.prompt, message.answer)
        self.set_focus(self.query_one(UnitsTable))

    @on(messages.PositionPicked)
    def _read_at(self, message: messages.PositionPicked) -> None:
        self.scope.read_at(message.position)

    @on(messages.SitePicked)
    def _pick_site(self, message: messages.SitePicked) -> None:
        self._panels.units.site = message.site
        self._panels.units.show()

    @on(messages.UnitToggled)
    def _toggle(self, message: messages.UnitToggled) -> None:
        self.scope.toggle(message.unit)

    @on(messages.SortPicked)
    def _sort_by(self, message: messages.SortPicked) -> None:
        self._panels.units.sort = message.rank
        self._panels.units.fresh = True
        self._changed(Part.SETTINGS)

    @on(messages.FilterTyped)
    def _filter_by(self, message: messages.FilterTyped) -> None:
        self._panels.units.filter = message.text
        self._panels.units.show()

    @on(messages.InputLeft)
    def _leave_input(self) -> None:
        self.query_one(UnitsTable).focus()

    def action_leave(self) -> None:
        heat, table = self.query_one(HeatMap), self.query_one(UnitsTable)
        if self.scope.search.stop():
            self._say("The search is stopped; the switches are as they were.")
        elif self.focused is table and heat.picked is not None:
            heat.picked = self._panels.units.site = None
            self._panels.units.show()
        elif self.focused is table and self.scope.sweeper.stop():
            self._say("Measuring is stopped; r goes on.")
        table.focus()

    @on(messages.ChipPressed)
    async def _press(self, message: messages.ChipPressed) -> None:
        await self.run_action(message.action)

    def action_toggle_unit(self) -> None:
        unit = self.query_one(UnitsTable).unit
        if unit is not None:
            self.query_one(UnitsTable).hold()
            self.scope.toggle(unit)

    def action_find_set(self) -> None:
        """Looks for the smallest set, or stops looking."""
        if self.scope.reading is None:
            self._say("There is no fact yet. Type one and press enter.", "warning")
        elif not self.scope.search.stop():
            self.scope.find_set()

    def action_cycle_beside(self) -> None:
        self.scope.cycle_beside()
        if self.scope.beside and not self.scope.off:
            self._say("Nothing is switched off yet: until then, beside and alone are the same.")

    def action_measure(self) -> None:
        """Goes on measuring, or stops."""
        if not self.scope.sweeper.stop() and not self.scope.sweeper.go_on():
            nothing = self.scope.reading is None
            self._say("There is no fact to measure yet." if nothing else "Every active unit is measured already.")

    def action_clear(self) -> None:
        self.scope.clear()

    def action_move(self, step: int) -> None:
        self.scope.move(step)

    def action_fact(self) -> None:
        self.set_focus(self.query_one("#prompt"))

    def action_filter(self) -> None:
        self.set_focus(self.query_one("#filter"))

    def action_cycle_family(self) -> None:
        self.scope.cycle_family()

    def action_cycle_mode(self) -> None:
        self.scope.cycle_mode()

    def action_cycle_positions(self) -> None:
        self.scope.cycle_positions()

    def action_cycle_sort(self) -> None:
        self.post_message(messages.SortPicked(SORTS[(SORTS.index(self._panels.units.sort) + 1) % len(SORTS)]))

    # --- dictionaries -----------------------------------------------------------------------------------------------

    def action_library(self, view: str = "releases") -> None:
        from knowscope_tui.tui.screens.library import LibraryScreen

        self.app.push_screen(LibraryScreen(self.scope, self.librarian, self.tester, view))

    def action_study(self) -> None:
        from knowscope_tui.tui.screens.study import StudyScreen

        self.app.push_screen(StudyScreen(self.students), self._show_unit)

    def _show_unit(self, unit: str | None) -> None:
        """Shows a unit that was picked on a study's plot, where it is active on the fact in view."""
        if not unit:
            return
        reading = self.scope.reading
        if reading is None or unit not in {str(one.unit) for one in reading.units}:
            self._say(f"{unit} is silent on the fact in view. Type a fact that it carries, and look again.", "warning")
            return
        self.query_one("#filter", Input).value = unit
        self.query_one(UnitsTable).focus()

    # --- edits ------------------------------------------------------------------------------------------------------

    def action_edit(self) -> None:
        from knowscope_tui.tui.screens.edit import EditScreen

        fact = self.scope.fact()
        if fact is None or self.scope.info is None:
            self._say("There is no fact to edit yet. Type one and press enter.", "warning")
            return
        self.app.push_screen(EditScreen(self._desk, self.scope, fact))

    def action_save(self) -> None:
        from knowscope_tui.tui.screens.save import SaveScreen

        if not self.scope.edits:
            self._say("There is no edit to save. Press e to make one.", "warning")
            return
        self.app.push_screen(SaveScreen(self._desk, self.scope))

    def action_undo(self) -> None:
        if self.scope.edits:
            self.scope.undo()
        else:
            self._say("There is no edit to undo. Press e to make one.", "warning")
