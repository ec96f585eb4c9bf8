"""The edit screen: from units to a change of the weights, planned while it is chosen and measured before it is made."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Button, Static

from knowscope_tui.core.edits import EditPlan, EditSpec
from knowscope_tui.core.facts import Fact
from knowscope_tui.session.protocol import EditPlanned, Event, Failed, PlanEdit
from knowscope_tui.text import count, cut, visible
from knowscope_tui.tui.desk import Desk
from knowscope_tui.tui.editing import Editor
from knowscope_tui.tui.messages import EditChosen, EntrySwitched, FrontierMoved, InputLeft
from knowscope_tui.tui.microscope import Microscope
from knowscope_tui.tui.widgets.common import KeyBar
from knowscope_tui.tui.widgets.edit_form import EditForm
from knowscope_tui.tui.widgets.edit_panes import PANES, EditPanes
from knowscope_tui.tui.widgets.frontier import FrontierPlot


class EditScreen(Screen[None]):
    """Chooses, plans, previews, applies, proves, switches and undoes edits of the fact in view and its like."""

    CSS_PATH = "edit.tcss"
    AUTO_FOCUS = "#tau2"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "preview", "preview", id="edit.preview", tooltip="Measure the edit without keeping it."),
        Binding("a", "apply", "apply", id="edit.apply", tooltip="Change the model in memory, and measure."),
        Binding("f", "find", "find τ2", id="edit.find", tooltip="Look for the τ2 that meets the limits (auto)."),
        Binding("v", "view(1)", "next view", id="edit.view", tooltip="Go to the next tab: plan, frontier, figures."),
        Binding("V", "view(-1)", "view before", id="edit.view.before", show=False, tooltip="Go to the tab before."),
        Binding("l", "leaks", "leak tests", id="edit.leaks", tooltip="Run leak tests with preview and apply, or not."),
        Binding("u", "undo", "undo", id="edit.undo", tooltip="Take the last edit back, bit for bit."),
        Binding("r", "redo", "redo", id="edit.redo", tooltip="Bring the last undone edit back, bit for bit."),
        Binding("d", "default", "default τ2", id="edit.default", tooltip="Go back to the method's own τ2."),
        Binding("escape", "back", "stop / back", id="edit.back", tooltip="Stop what runs; otherwise go back."),
        Binding("question_mark", "app.help", "help", id="edit.help", tooltip="Show every key and every word."),
    ]

    def __init__(self, desk: Desk, scope: Microscope, fact: Fact) -> None:
        super().__init__(id="edit")
        self._desk, self._scope, self._fact = desk, scope, fact
        self.editor = Editor(desk, scope, self)
        self.plan: EditPlan | None = None
        self._confirmed: EditSpec | None = None

    def compose(self) -> ComposeResult:
        yield Static("", id="edit-title")
        yield EditForm(self._scope.related(self._fact), tuple(self._scope.off), self._scope.info)
        yield EditPanes()
        with Horizontal(id="edit-buttons"):
            yield Button("Preview", id="preview", variant="primary", compact=True)
            yield Button("Apply", id="apply", variant="warning", compact=True)
            yield Button("Find τ2", id="find", compact=True)
            yield Button("Undo", id="undo", compact=True)
            yield Button("Close", id="close", compact=True)
            yield Static("", id="edit-state")
        yield KeyBar()

    def on_mount(self) -> None:
        self.panes.show_journal(self._scope.journal)
        self.panes.show_leaks_wanted(self.editor.leaks)
        self.panes.query_one(FrontierPlot).show_nothing("f looks for the τ2 that meets the limits.")
        self.ask_plan()

    @property
    def form(self) -> EditForm:
        return self.query_one(EditForm)

    @property
    def panes(self) -> EditPanes:
        return self.query_one(EditPanes)

    def _title(self) -> Content:
        facts = self.form.facts
        first = facts[0]
        prompt, answer = cut(visible(first.prompt), 34), cut(visible(first.answer), 20)
        if len(facts) > 1:
            words = (f"  erase {count(len(facts), 'fact')}, “{prompt} {answer}” and its like",)
            return Content.assemble((" edit ", "bold $primary reverse"), *words)
        target = cut(visible(first.target_new), 20)
        makes = (" becomes ", (target, "bold $success")) if target else ()
        return Content.assemble(
            (" edit ", "bold $primary reverse"),
            "  change “" if target else "  erase “",
            (prompt, "bold"),
            " ",
            (answer, "bold $warning"),
            "” in the weights" if target else "” from the weights",
            *makes,
        )

    # --- planning ---------------------------------------------------------------------------------------------------

    @on(EditChosen)
    def ask_plan(self) -> None:
        """Asks what is chosen anew. A frontier that was measured for other choices is shown no longer."""
        self.query_one("#edit-title", Static).update(self._title())
        self.plan = None
        spec = self.form.spec()
        self.editor.frontier_fits(spec)
        if spec is None:
            self._desk.drop("plan")
            self.panes.show_problem(self.form.problem)
            return
        self._desk.ask("plan", lambda revision: PlanEdit(revision, spec), self._hear_plan, "Counting positions")

    def _hear_plan(self, event: Event) -> None:
        if isinstance(event, EditPlanned):
            self.plan = event.plan
            self.form.show_plan(event.plan)
            self.panes.show_plan(event.plan, self._scope.info.n_layers if self._scope.info is not None else 1)
        elif isinstance(event, Failed):
            self.panes.show_problem(f"{event.what} {event.hint}".strip())

    def action_raise_tau2(self, step: int) -> None:
        self.form.raise_tau2(step)

    def action_default(self) -> None:
        self.form.clear_tau2()

    @on(FrontierMoved)
    def _move_tau2(self, message: FrontierMoved) -> None:
        self.editor.moved = True
        self.form.set_tau2(message.tau2)

    # --- working ----------------------------------------------------------------------------------------------------

    def _ready(self) -> EditSpec | None:
        """What is chosen, where it can be worked on at once; otherwise says why not."""
        spec = self.form.spec()
        if self.editor.working is not None:
            self.warn("One thing at a time: escape stops what runs.")
        elif spec is None:
            self.warn(self.form.problem)
        else:
            return spec
        return None

    def action_preview(self) -> None:
        spec = self._ready()
        if spec is not None:
            self.editor.preview(spec)

    def action_apply(self) -> None:
        spec = self._ready()
        if spec is None:
            return
        if self.plan is None:
            self.warn("The edit is still being planned. Press a again in a moment.")
        elif self.plan.conflicts and self._confirmed != spec:
            self._confirmed = spec
            self.panes.go("plan")
            self.say(f"! {count(len(self.plan.conflicts), 'conflict')}: apply again if it is meant", "$warning")
        else:
            self._confirmed = None
            self.editor.apply(spec)

    def action_find(self) -> None:
        spec = self._ready()
        if spec is None:
            return
        if spec.method.has_tau2:
            self.panes.go("frontier")
            self.editor.find(replace(spec, tau2=None))
        else:
            self.warn(f"{spec.method.value} has no threshold, so there is no frontier to look along.")

    def action_leaks(self) -> None:
        self.editor.leaks = not self.editor.leaks
        self.panes.show_leaks_wanted(self.editor.leaks)
        self.panes.go("leaks")

    def action_undo(self) -> None:
        self.editor.undo()

    def action_redo(self) -> None:
        self.editor.redo()

    @on(EntrySwitched)
    def _switch(self, message: EntrySwitched) -> None:
        self.editor.switch(message.entry)

    def action_view(self, step: int) -> None:
        at = PANES.index(self.panes.pane)
        self.panes.go(PANES[(at + step) % len(PANES)])

    # --- saying -----------------------------------------------------------------------------------------------------

    def warn(self, text: str) -> None:
        self.notify(visible(text), severity="warning", markup=False)

    def say(self, text: str, style: str) -> None:
        self.query_one("#edit-state", Static).update(Content.styled(visible(text), style))

    @on(Button.Pressed)
    async def _pressed(self, event: Button.Pressed) -> None:
        await self.run_action("back" if event.button.id == "close" else str(event.button.id))

    @on(InputLeft)
    def action_back(self) -> None:
        """Stops what runs; otherwise goes back to the main screen."""
        if not self.editor.stop():
            self._desk.drop("plan")
            self.dismiss(None)
