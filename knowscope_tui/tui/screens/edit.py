"""The edit screen: from units to a change of the weights, counted while it is chosen and measured before it is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Button, Static, TabbedContent, TabPane

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.proof import EditReport
from knowscope_tui.session.protocol import (
    ApplyEdit,
    EditMeasured,
    EditPlanned,
    Event,
    Failed,
    FindFrontier,
    FrontierGrown,
    JournalChanged,
    LeakTested,
    PlanEdit,
    PreviewEdit,
    Progress,
    Redo,
    Request,
    Stopped,
    SwitchEdit,
    Undo,
)
from knowscope_tui.text import count, visible
from knowscope_tui.tui.desk import Desk
from knowscope_tui.tui.messages import EditChosen, EntrySwitched, FrontierMoved, InputLeft, LeakMarked
from knowscope_tui.tui.microscope import Microscope
from knowscope_tui.tui.widgets.common import KeyBar
from knowscope_tui.tui.widgets.edit_form import EditForm
from knowscope_tui.tui.widgets.frontier import FrontierPlot
from knowscope_tui.tui.widgets.journal import JournalTable
from knowscope_tui.tui.widgets.leaks import LeaksTable
from knowscope_tui.tui.widgets.report import report_lines

_WORK = ("preview", "apply", "journal")


class EditScreen(Screen[None]):
    """Chooses, counts, previews, applies and undoes an edit of the fact in view."""

    CSS_PATH = "edit.tcss"
    AUTO_FOCUS = "#tau2"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "preview", "preview", id="edit.preview", tooltip="Measure the edit without keeping it."),
        Binding("a", "apply", "apply", id="edit.apply", tooltip="Change the model in memory, and measure."),
        Binding("u", "undo", "undo", id="edit.undo", tooltip="Take the last edit back, bit for bit."),
        Binding("r", "redo", "redo", id="edit.redo", tooltip="Make the undone edit again, after all others."),
        Binding("f", "frontier", "frontier", id="edit.frontier", tooltip="Measure erasure against damage over τ2."),
        Binding("l", "leaks", "leak tests", id="edit.leaks", tooltip="Preview the edit with its leak tests."),
        Binding("d", "default", "default τ2", id="edit.default", tooltip="Go back to the method's own τ2."),
        Binding("escape", "back", "stop / back", id="edit.back", tooltip="Stop what runs; otherwise go back."),
        Binding("question_mark", "app.help", "help", id="edit.help", tooltip="Show every key and every word."),
    ]

    def __init__(self, desk: Desk, scope: Microscope, fact: Fact) -> None:
        super().__init__(id="edit")
        self._desk, self._scope, self._fact = desk, scope, fact
        self._units = tuple(scope.off)

    def compose(self) -> ComposeResult:
        yield Static(self._title(), id="edit-title")
        yield EditForm(self._fact, self._units, self._scope.info)
        with TabbedContent(id="edit-result", initial="tab-figures"):
            with TabPane("Figures", id="tab-figures"), VerticalScroll(can_focus=False):
                yield Static("", id="report")
            with TabPane("Frontier", id="tab-frontier"):
                yield FrontierPlot()
            with TabPane("Leaks", id="tab-leaks"):
                yield LeaksTable()
                yield Static("", id="leak-detail")
            with TabPane("Journal", id="tab-journal"):
                yield JournalTable()
        with Horizontal(id="edit-buttons"):
            yield Button("Preview", id="preview", variant="primary", compact=True)
            yield Button("Apply", id="apply", variant="warning", compact=True)
            yield Button("Undo", id="undo", compact=True)
            yield Button("Close", id="close", compact=True)
            yield Static("", id="edit-state")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#edit-result").border_title = "What it does"
        self.query_one(FrontierPlot).show_nothing("f measures erasure against damage over τ2.")
        self.query_one(JournalTable).show(self._scope.journal)
        self.query_one("#report", Static).update(
            Content.styled("Preview measures the edit and takes it back; Apply keeps it in memory.", "$muted")
        )
        self._ask_plan()

    def _title(self) -> Content:
        return Content.assemble(
            (" edit ", "bold $primary reverse"),
            "  erase “",
            (visible(self._fact.prompt), "bold"),
            " ",
            (visible(self._fact.answer), "bold $warning"),
            "” from the weights",
        )

    # --- planning ---------------------------------------------------------------------------------------------------

    @property
    def _form(self) -> EditForm:
        return self.query_one(EditForm)

    @on(EditChosen)
    def _ask_plan(self) -> None:
        spec = self._form.spec()
        if spec is None:
            self._desk.drop("plan")
            self._form.show_problem(self._form.problem)
            return
        self._desk.ask("plan", lambda revision: PlanEdit(revision, spec), self._hear_plan, "Counting positions")

    def _hear_plan(self, event: Event) -> None:
        if isinstance(event, EditPlanned):
            info = self._scope.info
            self._form.show_plan(event.plan, info.n_layers if info is not None else 0)
            self.query_one(FrontierPlot).aim(event.plan.tau2)
        elif isinstance(event, Failed):
            self._form.show_problem(f"{event.what} {event.hint}".strip())

    def action_raise_tau2(self, step: int) -> None:
        self._form.raise_tau2(step)

    def action_default(self) -> None:
        self._form.clear_tau2()

    # --- working ----------------------------------------------------------------------------------------------------

    @property
    def _working(self) -> str | None:
        return next((slot for slot in _WORK if self._desk.asking(slot)), None)

    def _start(self, slot: str, doing: str, *, leaks: bool = False) -> None:
        spec = self._form.spec()
        if self._working:
            self.notify("One thing at a time: escape stops what runs.", severity="warning", markup=False)
        elif spec is None:
            self.notify(self._form.problem or "Choose units and a method first.", severity="warning", markup=False)
        else:
            request = PreviewEdit if slot == "preview" else ApplyEdit
            self._say(f"◌ {doing}…  escape stops it", "$warning")
            self.query_one(LeaksTable).begin(asked=leaks)
            self._desk.ask(slot, lambda revision: request(revision, spec, leaks=leaks), self._hear_work, doing)

    def action_preview(self) -> None:
        self._start("preview", "Previewing")

    def action_apply(self) -> None:
        self._start("apply", "Applying")

    def action_leaks(self) -> None:
        self._start("preview", "Previewing with leak tests", leaks=True)

    def action_undo(self) -> None:
        if self._scope.edits:
            self._ask_journal(Undo, "Undoing the last edit")
        else:
            self.notify("There is no edit to undo. Apply one first.", severity="warning", markup=False)

    def action_redo(self) -> None:
        if self._scope.journal.undone:
            self._ask_journal(Redo, "Making the undone edit again")
        else:
            self.notify("There is no undone edit. Undo one first.", severity="warning", markup=False)

    @on(EntrySwitched)
    def _switch(self, event: EntrySwitched) -> None:
        entry = event.entry
        if entry in self._scope.journal.undone:
            self._ask_journal(lambda revision: Redo(revision, entry.number), f"Making edit {entry.number} again")
        else:
            doing = f"Switching edit {entry.number} {'off' if entry.on else 'on'}"
            self._ask_journal(lambda revision: SwitchEdit(revision, entry.number, not entry.on), doing)

    def _ask_journal(self, request: Callable[[int], Request], doing: str) -> None:
        if self._working:
            self.notify("One thing at a time: escape stops what runs.", severity="warning", markup=False)
        else:
            self._desk.ask("journal", request, self._hear_work, doing)

    # --- the frontier -----------------------------------------------------------------------------------------------

    def action_frontier(self) -> None:
        spec = self._form.spec()
        if spec is None:
            self.notify(self._form.problem or "Choose units and a method first.", severity="warning", markup=False)
            return
        self.query_one(TabbedContent).active = "tab-frontier"
        self.query_one(FrontierPlot).show_nothing("◌ measuring the first point…")
        self._desk.ask("frontier", lambda revision: FindFrontier(revision, spec), self._hear_frontier, "Measuring")

    def _hear_frontier(self, event: Event) -> None:
        plot = self.query_one(FrontierPlot)
        if isinstance(event, FrontierGrown):
            plot.show(event.frontier, final=event.final)
        elif isinstance(event, Failed):
            plot.show_nothing(f"{event.what} {event.hint}".strip())

    @on(FrontierMoved)
    def _tau2_moved(self, event: FrontierMoved) -> None:
        self._form.put_tau2(event.tau2)

    @on(LeakMarked)
    def _leak_marked(self) -> None:
        self.query_one("#leak-detail", Static).update(self.query_one(LeaksTable).detail())

    def _hear_work(self, event: Event) -> None:
        match event:
            case Progress(doing=doing, fraction=fraction):
                done = "…" if fraction is None else f" {fraction * 100:.0f} %"
                self._say(f"◌ {visible(doing)}{done}  escape stops it", "$warning")
            case EditMeasured(report=report):
                self._measured(report)
            case LeakTested(result=result):
                self.query_one(TabbedContent).active = "tab-leaks"
                self.query_one(LeaksTable).add(result)
            case JournalChanged(journal=journal):
                self._say(f"● {count(journal.on, 'edit')} in force", "$success")
                self._scope.journal_is(journal)
                self.query_one(JournalTable).show(journal)
                self._ask_plan()
            case Stopped():
                self._say("● stopped; the model is unchanged", "$warning")
            case Failed():
                self._say("✗ failed", "$error")
                self.notify(visible(f"{event.what} {event.hint}".strip()), severity="error", timeout=10, markup=False)

    def _measured(self, report: EditReport) -> None:
        self.query_one("#report", Static).update(report_lines(report))
        self.query_one(LeaksTable).end()
        self.query_one("#edit-result").border_title = "What it did" if report.applied else "What it would do"
        self._say("● applied in memory; not saved yet" if report.applied else "● previewed", "$success")

    def _say(self, text: str, style: str) -> None:
        self.query_one("#edit-state", Static).update(Content.styled(text, style))

    @on(Button.Pressed)
    async def _pressed(self, event: Button.Pressed) -> None:
        await self.run_action("back" if event.button.id == "close" else str(event.button.id))

    @on(InputLeft)
    def action_back(self) -> None:
        """Stops what runs; otherwise goes back to the main screen."""
        working = self._working
        if working is not None:
            self._desk.cancel(working)
        else:
            self._desk.drop("plan")
            self.dismiss(None)
