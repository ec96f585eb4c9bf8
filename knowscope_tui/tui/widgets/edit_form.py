"""What an edit is made of: the units, the method and the threshold, with a live count of what they change."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Input, Select, Static

from knowscope_tui.core.edits import EditPlan, EditSpec, Method
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.units import SiteKind, Unit
from knowscope_tui.session.protocol import ModelInfo
from knowscope_tui.text import count, visible
from knowscope_tui.tui.messages import EditChosen
from knowscope_tui.tui.widgets.common import NumberInput
from knowscope_tui.tui.widgets.plan import plan_lines

METHODS: dict[Method, str] = {
    Method.POSITIONS: "our reading: zeroes the weights that write most into the units",
    Method.ROWS: "the literal reading: zeroes whole rows, where the units point most",
    Method.NEURONS: "zeroes the columns of the strongest neurons: the older way",
    Method.PROJECTION: "takes the units' directions out of the weights",
    Method.RANDOM: "zeroes as many weights, drawn at random: the control",
    Method.PRECISE: "solves for the smallest change that switches the units off, and keeps the rest",
    Method.REFINED: "optimises the weights that write most into the units, 1 % at most",
    Method.REFINED_RANDOM: "optimises as many weights, drawn at random: the control of refined",
    Method.GRADIENT: "optimises every weight of the MLPs' second matrices: the plain baseline",
}
SITES = (SiteKind.RESID_POST, SiteKind.RESID_MID, SiteKind.MLP_OUT)


class ThresholdInput(NumberInput):
    """τ2, with keys to raise and lower it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "up",
            "screen.raise_tau2(1)",
            "τ2 up",
            id="edit.tau2.up",
            show=False,
            tooltip="Raise τ2: fewer weights change.",
        ),
        Binding(
            "down",
            "screen.raise_tau2(-1)",
            "τ2 down",
            id="edit.tau2.down",
            show=False,
            tooltip="Lower τ2: more weights change.",
        ),
    ]


class EditForm(VerticalScroll, can_focus=False):
    """Posts `EditChosen` when a choice changed; `spec` is what is chosen."""

    def __init__(self, fact: Fact, units: tuple[Unit, ...], info: ModelInfo | None) -> None:
        super().__init__(id="edit-form")
        self.border_title = "Edit"
        self._fact, self._units, self._info = fact, units, info
        self._plan: EditPlan | None = None
        self.problem = ""

    def compose(self) -> ComposeResult:
        with Horizontal(classes="row"):
            yield Static("facts", classes="label")
            yield Static(self._facts(), id="edit-facts", classes="text")
        with Horizontal(classes="row"):
            yield Static("units", classes="label")
            yield Select(self._unit_choices(), allow_blank=False, id="which", compact=True)
            yield Static("top", id="top-label")
            yield NumberInput("10", id="top-n", compact=True, restrict=r"\d{0,4}")
        with Horizontal(classes="row"):
            yield Static("method", classes="label")
            yield Select([(method.value, method) for method in METHODS], allow_blank=False, id="method", compact=True)
        yield Static("", id="method-means")
        with Horizontal(classes="row"):
            yield Static("τ2", classes="label")
            yield ThresholdInput(placeholder="default", id="tau2", compact=True)
            yield Static("", id="tau2-note")
        yield Static("", id="plan")

    def on_mount(self) -> None:
        self.query_one("#plan", Static).update(Content.styled("counting positions…", "$muted"))
        self.query_one("#tau2").tooltip = "The threshold τ2: weights above this share of the largest are zeroed."
        self._explain()

    def _facts(self) -> Content:
        more, unseen = len(self._fact.edit_prompts), len(self._fact.paraphrases)
        known = f"this one in {count(1 + more, 'phrasing')}; Gen on {count(unseen, 'unseen paraphrase')}"
        return Content(known if unseen or more else "this one as typed; without paraphrases there is no Gen")

    def _unit_choices(self) -> list[tuple[str, str]]:
        choices = []
        if self._units:
            choices.append((f"the {count(len(self._units), 'switched-off unit')}", "off"))
        kinds = self._info.dictionary_kinds if self._info is not None else ()
        choices += [(f"strongest at {kind.value}", kind.value) for kind in SITES if kind in kinds]
        return choices or [("strongest neurons", SiteKind.MLP_ACT.value)]

    def _number(self, selector: str) -> float | None:
        text = self.query_one(selector, Input).value.strip().replace(",", ".")
        return float(text) if text else None

    def spec(self) -> EditSpec | None:
        """The edit as chosen; None, with the problem shown, when a number makes no sense."""
        which, method = self.query_one("#which", Select).value, self.query_one("#method", Select).value
        if not isinstance(which, str) or not isinstance(method, Method):
            return None
        try:
            tau2, top = self._number("#tau2"), self._number("#top-n")
        except ValueError:
            self.problem = "τ2 is no number. Write one between 0 and 1, such as 0.05."
            return None
        if tau2 is not None and not 0 <= tau2 < 1:
            self.problem = "τ2 is a share of the largest value. Write a number between 0 and 1."
            return None
        if which != "off" and not top:
            self.problem = "No unit is taken. Write how many of the strongest units to use."
            return None
        self.problem = ""
        spec = EditSpec((self._fact,), method=method, top=int(top or 10), tau2=tau2)
        return replace(spec, units=self._units) if which == "off" else replace(spec, site=SiteKind(which))

    @on(Select.Changed)
    @on(Input.Changed)
    def _chosen(self, event: Select.Changed | Input.Changed) -> None:
        event.stop()
        self._explain()
        self.post_message(EditChosen())

    def _explain(self) -> None:
        method = self.query_one("#method", Select).value
        if isinstance(method, Method):
            self.query_one("#method-means", Static).update(Content(METHODS[method]))
        by_count = self.query_one("#which", Select).value != "off"
        self.query_one("#top-n").display = self.query_one("#top-label").display = by_count

    def show_plan(self, plan: EditPlan, layers: int) -> None:
        self._plan = plan
        own = "method's own" if plan.spec.tau2 is None else "yours"
        used = "the method has none" if plan.tau2 is None else f"used: {plan.tau2:.4g} ({own})"
        note = f"{used}  ↑/↓ change it, d default"
        self.query_one("#tau2-note", Static).update(Content.styled(note, "$muted"))
        self.query_one("#plan", Static).update(plan_lines(plan, layers))

    def show_problem(self, problem: str) -> None:
        """Says in the count's place why there is none."""
        self._plan = None
        self.query_one("#plan", Static).update(Content.styled(visible(problem), "$warning"))

    def raise_tau2(self, step: int) -> None:
        """Takes τ2 a tenth up or down, from the value in use."""
        tau2 = self.query_one("#tau2", Input)
        try:
            value = self._number("#tau2")
        except ValueError:
            value = None
        if value is None:
            value = (self._plan.tau2 if self._plan is not None else None) or 0.1
        changed = value * (1.1 if step > 0 else 1 / 1.1)
        tau2.value = f"{min(max(changed, 1e-6), 0.99):.3g}"

    def put_tau2(self, tau2: float) -> None:
        """Takes a τ2 that was picked elsewhere."""
        self.query_one("#tau2", Input).value = f"{tau2:.4g}"

    def clear_tau2(self) -> None:
        self.query_one("#tau2", Input).value = ""
