"""The work of the edit screen: what it asks of the session, and where the answers go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from knowscope_tui.core.edits import EditSpec, Frontier, JournalEntry
from knowscope_tui.core.proof import EditReport
from knowscope_tui.session.protocol import (
    ApplyEdit,
    EditMeasured,
    Event,
    Failed,
    FindFrontier,
    Finished,
    FrontierGrown,
    JournalChanged,
    LeakTested,
    PreviewEdit,
    Progress,
    Redo,
    Request,
    Stopped,
    SwitchEdit,
    Undo,
)
from knowscope_tui.text import count
from knowscope_tui.tui.desk import Desk
from knowscope_tui.tui.microscope import Microscope
from knowscope_tui.tui.widgets.edit_form import EditForm
from knowscope_tui.tui.widgets.edit_panes import EditPanes
from knowscope_tui.tui.widgets.frontier import FrontierPlot
from knowscope_tui.tui.widgets.leaks import LeaksTable

_WORK = ("preview", "apply", "frontier", "undo", "redo", "switch")


class Face(Protocol):
    """What the editor needs of the screen."""

    @property
    def form(self) -> EditForm: ...

    @property
    def panes(self) -> EditPanes: ...

    def warn(self, text: str) -> None: ...

    def say(self, text: str, style: str) -> None: ...

    def ask_plan(self) -> None: ...


class Editor:
    """One thing at a time: preview, apply, the frontier, or a change of the journal."""

    def __init__(self, desk: Desk, scope: Microscope, face: Face) -> None:
        self._desk, self._scope, self._face = desk, scope, face
        self.leaks = False
        """Whether leak tests run with the next preview or apply."""
        self.moved = False
        """Whether a person moved τ2 since the frontier was asked for; the knee then leaves it alone."""
        self._along: EditSpec | None = None
        self._measured: EditReport | None = None
        self._leaking = 0

    @property
    def working(self) -> str | None:
        return next((slot for slot in _WORK if self._desk.asking(slot)), None)

    def stop(self) -> bool:
        """Stops what runs; whether anything did."""
        working = self.working
        if working is not None:
            self._desk.cancel(working)
        return working is not None

    def _ask(self, slot: str, make: Callable[[int], Request], hear: Callable[[Event], None], doing: str) -> None:
        self._face.say(f"◌ {doing}…  escape stops it", "$warning")
        self._desk.ask(slot, make, hear, doing)

    # --- measuring --------------------------------------------------------------------------------------------------

    def preview(self, spec: EditSpec) -> None:
        self._begin()
        leaks = self.leaks
        self._ask("preview", lambda at: PreviewEdit(at, spec, leaks=leaks), self._hear_edit, "Previewing")

    def apply(self, spec: EditSpec) -> None:
        self._begin()
        leaks = self.leaks
        self._ask("apply", lambda at: ApplyEdit(at, spec, leaks=leaks), self._hear_edit, "Applying")

    def _begin(self) -> None:
        self._measured, self._leaking = None, 0
        self._face.panes.query_one(LeaksTable).begin(asked=self.leaks)

    def _hear_edit(self, event: Event) -> None:
        panes = self._face.panes
        match event:
            case EditMeasured(report=report):
                self._measured = report
                panes.show_report(report)
                panes.go("leaks" if self.leaks else "figures")
                self._say_measured(report)
            case LeakTested(result=result, number=number, tests=tests):
                panes.query_one(LeaksTable).add(result)
                self._leaking += bool(result.leaking)
                self._face.say(f"◌ {number} of {tests} leak tests done  escape stops them", "$warning")
                if number == tests:
                    self._face.say(
                        f"! {self._leaking} of {tests} tests leak" if self._leaking else f"● no leak in {tests} tests",
                        "$warning" if self._leaking else "$success",
                    )
            case Stopped() if self._measured is not None:
                panes.show_report(replace(self._measured, applied=False))
                self._face.say("● stopped; the model is unchanged", "$warning")
            case Failed() if self._measured is not None:
                panes.show_report(replace(self._measured, applied=False))
                self._hear(event)
            case _:
                self._hear(event)
        if isinstance(event, (Finished, Failed, Stopped)):
            panes.query_one(LeaksTable).end()

    def _say_measured(self, report: EditReport) -> None:
        done = "● applied; not saved yet" if report.applied else "● previewed; not kept"
        self._face.say(done, "$success")

    def _hear(self, event: Event) -> None:
        """What all work has in common."""
        match event:
            case Progress(doing=doing, fraction=fraction):
                done = "…" if fraction is None else f" {fraction * 100:.0f} %"
                self._face.say(f"◌ {doing.rstrip('.… ')}{done}  escape stops it", "$warning")
            case JournalChanged(journal=journal):
                self._scope.journal_is(journal)
                self._face.panes.show_journal(journal)
                self._forget_frontier()
                self._face.ask_plan()
            case Stopped():
                self._face.say("● stopped; the model is unchanged", "$warning")
            case Failed(what=what, hint=hint):
                self._face.say("✗ failed", "$error")
                self._face.warn(f"{what} {hint}".strip())

    # --- the frontier -----------------------------------------------------------------------------------------------

    def find(self, spec: EditSpec) -> None:
        """Looks for the τ2 that meets the limits, and takes it unless a person moved τ2 meanwhile."""
        self._along, self.moved = spec, False
        self._face.panes.query_one(FrontierPlot).show_nothing("Measuring the first τ2…")
        self._ask("frontier", lambda at: FindFrontier(at, spec), self._hear_frontier, "Looking for τ2")

    def _hear_frontier(self, event: Event) -> None:
        if not isinstance(event, FrontierGrown):
            self._hear(event)
            return
        self._face.panes.query_one(FrontierPlot).show(event.frontier, final=event.final)
        if event.final:
            self._found(event.frontier)

    def _found(self, frontier: Frontier) -> None:
        if frontier.knee is None:
            self._face.say("! no τ2 meets the limits", "$warning")
            return
        self._face.say(f"● knee at τ2 {frontier.knee.tau2:.3g}", "$success")
        if not self.moved:
            self._face.form.set_tau2(frontier.knee.tau2)

    def frontier_fits(self, spec: EditSpec | None) -> None:
        """Drops a frontier that was measured for anything but `spec`, whatever its τ2."""
        if self._along is not None and (spec is None or replace(spec, tau2=None) != self._along):
            self._forget_frontier()

    def _forget_frontier(self) -> None:
        if self._along is not None:
            self._along = None
            self._desk.drop("frontier")
            self._face.panes.query_one(FrontierPlot).show_nothing("f looks for the τ2 that meets the limits.")

    # --- the journal ------------------------------------------------------------------------------------------------

    def undo(self) -> None:
        self._change("undo", Undo, bool(self._scope.journal.entries), "Undoing the last edit", "undo. Apply one first")

    def redo(self) -> None:
        self._change("redo", Redo, bool(self._scope.journal.undone), "Redoing an edit", "redo. Undo one first")

    def switch(self, entry: JournalEntry) -> None:
        doing = f"Switching edit {entry.number} {'off' if entry.on else 'on'}"
        self._change("switch", lambda at: SwitchEdit(at, entry.number, not entry.on), True, doing, "switch")

    def _change(self, slot: str, make: Callable[[int], Request], possible: bool, doing: str, nothing: str) -> None:
        if self.working is not None:
            self._face.warn("One thing at a time: escape stops what runs.")
        elif possible:
            self._face.panes.go("journal")
            self._ask(slot, make, self._hear_journal, doing)
        else:
            self._face.warn(f"There is no edit to {nothing}.")

    def _hear_journal(self, event: Event) -> None:
        self._hear(event)
        if isinstance(event, JournalChanged):
            journal = event.journal
            off = len(journal.entries) - journal.on
            others = f", {off} off" if off else ""
            self._face.say(f"● {count(journal.on, 'edit')} on{others}", "$success")
