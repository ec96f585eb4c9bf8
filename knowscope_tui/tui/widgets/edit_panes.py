"""What the edit screen shows of an edit, in tabs: plan, frontier, figures, leaks, journal."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static, TabbedContent, TabPane, Tabs

from knowscope_tui.core.edits import EditPlan, JournalState
from knowscope_tui.core.proof import EditReport, LeakTest
from knowscope_tui.text import visible
from knowscope_tui.tui.messages import LeakMarked
from knowscope_tui.tui.widgets.frontier import FrontierPlot
from knowscope_tui.tui.widgets.journal import JournalTable
from knowscope_tui.tui.widgets.leaks import LeaksTable
from knowscope_tui.tui.widgets.plan import plan_lines
from knowscope_tui.tui.widgets.report import report_lines

PANES = ("plan", "frontier", "figures", "leaks", "journal")


class EditPanes(Vertical):
    """One pane in view at a time; `go` brings another to the front."""

    def __init__(self) -> None:
        super().__init__(id="edit-panes")

    def compose(self) -> ComposeResult:
        with TabbedContent(id="edit-tabs"):
            with TabPane("Plan", id="pane-plan"), VerticalScroll(id="plan-scroll"):
                yield Static(Content.styled("counting positions…", "$muted"), id="plan")
            with TabPane("Frontier", id="pane-frontier"):
                yield FrontierPlot()
            with TabPane("Figures", id="pane-figures"), VerticalScroll(id="report-scroll"):
                nothing = "Preview measures the edit and takes it back; Apply keeps it in memory."
                yield Static(Content.styled(nothing, "$muted"), id="report")
            with TabPane("Leaks", id="pane-leaks"), Vertical():
                yield Static("", id="leaks-how")
                yield LeaksTable()
                yield Static("", id="leaks-detail")
            with TabPane("Journal", id="pane-journal"), Vertical():
                yield JournalTable()
                yield Static(
                    Content.styled(
                        "space switches an edit on or off · u undo · r redo: every bit comes back", "$muted"
                    ),
                    id="journal-how",
                )

    @property
    def _tabs(self) -> TabbedContent:
        return self.query_one("#edit-tabs", TabbedContent)

    @property
    def pane(self) -> str:
        return self._tabs.active.removeprefix("pane-")

    def go(self, pane: str) -> None:
        """Brings a pane to the front, and the focus with it if that was in another pane."""
        held = self.screen.focused
        inside = held is not None and self in held.ancestors and not isinstance(held, Tabs)
        self._tabs.active = f"pane-{pane}"
        if inside:
            self.call_after_refresh(self.focus_pane)

    def focus_pane(self) -> None:
        body = {"plan": "#plan-scroll", "frontier": "#frontier", "figures": "#report-scroll"}
        self.screen.set_focus(self.query_one(body.get(self.pane, f"#{self.pane}")))

    def show_plan(self, plan: EditPlan, layers: int) -> None:
        self.query_one("#plan", Static).update(plan_lines(plan, layers))
        self.query_one(FrontierPlot).aim(plan.tau2)

    def show_problem(self, problem: str) -> None:
        """Says in the plan's place why there is none."""
        self.query_one("#plan", Static).update(Content.styled(visible(problem), "$warning"))

    def show_report(self, report: EditReport) -> None:
        what = "What it did" if report.applied else "What it would do: nothing is kept"
        head = Content.styled(what, "bold $primary")
        self.query_one("#report", Static).update(Content("\n").join([head, report_lines(report)]))

    def show_leaks_wanted(self, wanted: bool) -> None:
        how = "run with the next preview or apply" if wanted else "do not run"
        self.query_one("#leaks-how", Static).update(
            Content.assemble(("leak tests ", "$muted"), (how, "bold $primary"), ("  l changes that", "$muted"))
        )

    def show_journal(self, journal: JournalState) -> None:
        self.query_one(JournalTable).show(journal)

    @on(LeakMarked)
    def _show_leak(self) -> None:
        table = self.query_one(LeaksTable)
        self.query_one("#leaks-detail", Static).update(table.detail())
        done = f" {table.done}/{len(LeakTest)}" if table.done else ""
        self._tabs.get_tab("pane-leaks").label = f"Leaks{done}"
