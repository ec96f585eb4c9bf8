"""The study screen: choose one of the paper's studies, let it run, watch its claims and plots grow, open its units."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from knowscope_tui.core.studies import TITLES, Findings, PaperClaim, Plot, StudyName, Verdict
from knowscope_tui.text import visible
from knowscope_tui.tui.messages import InputLeft
from knowscope_tui.tui.studying import Students, Wanted
from knowscope_tui.tui.widgets.common import KeyBar, NumberInput, SafeInput
from knowscope_tui.tui.widgets.study_plot import StudyPlot
from knowscope_tui.tui.widgets.work import WorkLine

FACTS = "20"
SIGNS = {Verdict.HOLDS: ("✓", "$success"), Verdict.DOES_NOT: ("✗", "$error"), Verdict.UNDECIDED: ("?", "$warning")}


class StudyScreen(Screen[str | None]):
    """One study at a time; it goes on when the screen is left. Dismissed with a unit to show, or None."""

    CSS_PATH = "study.tcss"
    AUTO_FOCUS = "#studies"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "run", "run", id="study.run", tooltip="Carry the study out, or go on where it was stopped."),
        Binding("x", "stop", "stop", id="study.stop", tooltip="Stop it; what is measured is kept."),
        Binding("n", "next(1)", "next plot", id="study.next", tooltip="Show the next plot."),
        Binding("b", "next(-1)", "plot before", id="study.before", show=False, tooltip="Show the plot before."),
        Binding("u", "units", "units", id="study.units", tooltip="Go to the units of the plot; enter opens one."),
        Binding("escape", "back", "back", id="study.back", tooltip="Go back to the fact; the study goes on."),
        Binding("question_mark", "app.help", "help", id="study.help", tooltip="Show every key and every word."),
    ]

    def __init__(self, students: Students) -> None:
        super().__init__(id="study")
        self._students = students
        self._place = 0

    def compose(self) -> ComposeResult:
        yield Static("", id="study-title")
        with Horizontal(id="study-top"):
            yield OptionList(*(Option(name.value, id=name.value) for name in StudyName), id="studies")
            with Vertical(id="study-asked"):
                yield Static("", id="study-question")
                with Horizontal(classes="row"):
                    yield Static("folder", classes="label")
                    yield SafeInput(id="study-folder", compact=True)
                    yield Static("facts", classes="label")
                    yield NumberInput(FACTS, id="study-limit", compact=True)
                with VerticalScroll(id="study-verdicts"):
                    yield Static("", id="study-claims")
        with Horizontal(id="study-shown"):
            yield StudyPlot(id="study-plot")
            yield OptionList(id="study-units")
        yield WorkLine("", id="study-said")
        with Horizontal(id="study-buttons"):
            yield Button("Run", id="study-run", variant="primary", compact=True)
            yield Button("Stop", id="study-stop", compact=True)
            yield Button("Next plot", id="study-next", compact=True)
            yield Button("Close", id="study-close", compact=True)
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#study-top").border_title = "Studies"
        asked = self._students.asked
        names = list(StudyName)
        self.query_one("#studies", OptionList).highlighted = names.index(asked.name) if asked else 0
        self._students.attach(self._show, lambda: self._chosen)
        self._show()

    def on_unmount(self) -> None:
        self._students.detach()

    # --- showing ----------------------------------------------------------------------------------------------------

    @property
    def _chosen(self) -> StudyName:
        return list(StudyName)[self.query_one("#studies", OptionList).highlighted or 0]

    @property
    def _runs(self) -> bool:
        """Whether the chosen study is measured or waits for its turn."""
        asked = self._students.asked
        return self._students.running and asked is not None and asked.name is self._chosen

    @property
    def _findings(self) -> Findings | None:
        """What is known of the chosen study."""
        return self._students.about(self._chosen).findings

    @property
    def _plots(self) -> tuple[Plot, ...]:
        return self._findings.plots if self._findings else ()

    def _show(self) -> None:
        chosen = self._chosen
        about = self._students.about(chosen)
        title = Content.assemble((" studies ", "bold $primary reverse"), f"  {TITLES[chosen][0]}")
        self.query_one("#study-title", Static).update(title)
        self.query_one("#study-question", Static).update(Content.styled(TITLES[chosen][1], "$muted"))
        lines = [_claim(one) for one in about.findings.claims] if about.findings else []
        if lines and about.growing:
            lines.insert(0, Content.styled("so far; verdicts may change until it is finished", "$muted"))
        self.query_one("#study-claims", Static).update(Content("\n").join(lines))
        self._show_plot()
        line = self.query_one(WorkLine)
        if self._students.doing is not None and (self._runs or about.said is None):
            line.show_progress(*self._students.doing, stopping=False, stop="x stops it")
        elif about.said is not None:
            line.show_said(about.said)
        else:
            line.show_nothing()

    def _show_plot(self) -> None:
        plots = self._plots
        place = self._place % len(plots) if plots else 0
        plot = plots[place] if plots else None
        nothing = "Plots appear as it is measured." if self._runs else "No plots so far. r runs the study."
        self.query_one(StudyPlot).show(plot, f"{place + 1} of {len(plots)}" if plots else nothing)
        units = list(dict.fromkeys(unit for series in plot.series for unit in series.units)) if plot else []
        listed = self.query_one("#study-units", OptionList)
        listed.display = bool(units)
        if [option.prompt for option in listed.options] != units:
            listed.set_options(units)

    @on(OptionList.OptionHighlighted, "#studies")
    def _choose(self, event: OptionList.OptionHighlighted) -> None:
        wanted, folder = self._students.about(self._chosen).wanted, self.query_one("#study-folder", Input)
        folder.value = wanted.folder if wanted else f"./knowscope-{event.option.id}"
        if wanted:
            self.query_one("#study-limit", Input).value = str(wanted.limit or "")
        self._place = 0
        self._show()

    # --- what a person wants ----------------------------------------------------------------------------------------

    def action_run(self) -> None:
        folder = self.query_one("#study-folder", Input).value.strip()
        limit = self.query_one("#study-limit", Input).value.strip()
        if not folder:
            self.notify("The folder has no name. Type one.", severity="warning", markup=False)
        elif limit and (not limit.isdigit() or not int(limit)):
            self.notify("Type how many facts, as 20; nothing means all.", severity="warning", markup=False)
        else:
            self._students.run(Wanted(self._chosen, folder, int(limit) if limit else None))

    def action_stop(self) -> None:
        if not self._students.stop():
            self.notify("No study runs.", markup=False)

    def action_next(self, step: int) -> None:
        self._place += step
        self._show_plot()

    def action_units(self) -> None:
        units = self.query_one("#study-units", OptionList)
        if units.display:
            units.focus()
            units.highlighted = units.highlighted or 0
        else:
            self.notify("This plot names no units.", markup=False)

    @on(OptionList.OptionSelected, "#study-units")
    def _open(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(str(event.option.prompt))

    @on(OptionList.OptionSelected, "#studies")
    def _start(self) -> None:
        self.action_run()

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self.action_run()

    @on(InputLeft)
    def _left(self) -> None:
        self.query_one("#studies").focus()

    def action_back(self) -> None:
        self.dismiss(None)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        match event.button.id:
            case "study-run":
                self.action_run()
            case "study-stop":
                self.action_stop()
            case "study-next":
                self.action_next(1)
            case _:
                self.action_back()


def _claim(claim: PaperClaim) -> Content:
    """A claim with its verdict in a sign and a word, and the figure that decided."""
    sign, style = SIGNS[claim.verdict]
    ours = claim.ours
    figure = "" if ours.value is None else f"  {ours.value:.2f}"
    if ours.low is not None and ours.high is not None:
        figure += f" ({ours.low:.2f} to {ours.high:.2f})"
    return Content.assemble((f"{sign} {claim.verdict.value}  ", style), visible(claim.text), (figure, "$muted"))
