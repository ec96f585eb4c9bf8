"""What an edit is made of: the facts, the units, the method, its threshold or budget, and the limits it is held to."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Input, Select, Static

from knowscope_tui.core.edits import MEANING, EditPlan, EditSpec, Limits, Method
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.units import SiteKind, Unit
from knowscope_tui.session.protocol import ModelInfo
from knowscope_tui.text import count, cut, visible
from knowscope_tui.tui.messages import EditChosen
from knowscope_tui.tui.widgets.common import NumberInput, SafeInput

SITES = (SiteKind.RESID_POST, SiteKind.RESID_MID, SiteKind.MLP_OUT)
_LIMITS = (("Rel ≥", "min-rel", "0.97"), ("Loc ≥", "min-loc", "0.97"), ("ΔPPL ≤", "max-ppl", "0.01"))


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
    """Posts `EditChosen` when a choice changed; `spec` is what is chosen. `facts` begins with the fact in view."""

    def __init__(self, facts: tuple[Fact, ...], units: tuple[Unit, ...], info: ModelInfo | None) -> None:
        super().__init__(id="edit-form")
        self.border_title = "Edit"
        self._facts, self._units, self._info = facts, units, info
        self._plan: EditPlan | None = None
        self.problem = ""

    def compose(self) -> ComposeResult:
        with Horizontal(classes="row"):
            yield Static("facts", classes="label")
            yield Select(self._fact_choices(), allow_blank=False, id="which-facts", compact=True)
            yield Static("new answer", id="target-label")
            yield SafeInput(placeholder="none: erase", id="target", compact=True)
            yield Static("", id="target-note")
        with Horizontal(classes="row"):
            yield Static("units", classes="label")
            yield Select(self._unit_choices(), allow_blank=False, id="which", compact=True)
            yield Static("top", id="top-label")
            yield NumberInput("10", id="top-n", compact=True, restrict=r"\d{0,4}")
        with Horizontal(classes="row"):
            yield Static("method", classes="label")
            yield Select([(method.value, method) for method in MEANING], allow_blank=False, id="method", compact=True)
        yield Static("", id="method-means")
        with Horizontal(classes="row", id="tau2-row"):
            yield Static("τ2", classes="label")
            yield ThresholdInput(placeholder="default", id="tau2", compact=True)
            yield Static("", id="tau2-note")
        with Horizontal(classes="row", id="budget-row"):
            yield Static("budget", classes="label")
            yield NumberInput("1", id="budget", compact=True)
            yield Static("% of the model's weights at most", id="budget-note")
        with Horizontal(classes="row", id="limits"):
            yield Static("limits", classes="label")
            for label, name, value in _LIMITS:
                yield Static(label, classes="limit-label")
                yield NumberInput(value, id=name, classes="limit", compact=True)

    def on_mount(self) -> None:
        self.query_one("#tau2").tooltip = "The threshold τ2: weights above this share of the largest are zeroed."
        self.query_one("#target").tooltip = "What the model shall say instead. Empty: the answer is only taken away."
        self._explain()

    def _fact_choices(self) -> list[tuple[str, int]]:
        choices = [("this one", 1)]
        if len(self._facts) > 1:
            relation = cut(visible(self._facts[0].relation), 12)
            choices.append((f"all {len(self._facts):,} of “{relation}”", len(self._facts)))
        return choices

    def _unit_choices(self) -> list[tuple[str, str]]:
        choices = []
        if self._units:
            choices.append((f"the {count(len(self._units), 'switched-off unit')}", "off"))
        kinds = self._info.dictionary_kinds if self._info is not None else ()
        choices += [(f"strongest at {kind.value}", kind.value) for kind in SITES if kind in kinds]
        return choices or [("strongest neurons", SiteKind.MLP_ACT.value)]

    # --- what is chosen ---------------------------------------------------------------------------------------------

    @property
    def method(self) -> Method:
        method = self.query_one("#method", Select).value
        assert isinstance(method, Method)
        return method

    @property
    def facts(self) -> tuple[Fact, ...]:
        """The facts to edit, the one in view with its new answer."""
        number = self.query_one("#which-facts", Select).value
        facts = self._facts[: number if isinstance(number, int) else 1]
        target = self.query_one("#target", Input).value.strip()
        return (replace(facts[0], target_new=target),) if target and self._takes_answer else facts

    @property
    def _takes_answer(self) -> bool:
        return self.method.writes and self.query_one("#which-facts", Select).value == 1

    def _number(self, selector: str) -> float | None:
        text = self.query_one(selector, Input).value.strip().replace(",", ".")
        return float(text) if text else None

    def _share(self, selector: str, what: str, example: str) -> float | None:
        """A number between 0 and 1. Raises `ValueError` with what is wrong."""
        try:
            value = self._number(selector)
        except ValueError:
            raise ValueError(f"{what} is no number. Write one between 0 and 1, such as {example}.") from None
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{what} is a share. Write a number between 0 and 1, such as {example}.")
        return value

    def spec(self) -> EditSpec | None:
        """The edit as chosen; None, with `problem` said, when a number makes no sense."""
        try:
            self.problem = ""
            return self._spec()
        except ValueError as error:
            self.problem = str(error)
            return None

    def _spec(self) -> EditSpec:
        which, method = self.query_one("#which", Select).value, self.method
        top = self._number("#top-n")
        tau2 = self._share("#tau2", "τ2", "0.05") if method.has_tau2 else None
        if which != "off" and not top:
            raise ValueError("No unit is taken. Write how many of the strongest units to use.")
        spec = EditSpec(self.facts, method=method, top=int(top or 10), tau2=tau2, limits=self._limits())
        if method.has_budget:
            spec = replace(spec, budget=self._budget())
        return replace(spec, units=self._units) if which == "off" else replace(spec, site=SiteKind(str(which)))

    def _limits(self) -> Limits:
        rel = self._share("#min-rel", "The limit of Rel", "0.97")
        ppl = self._share("#max-ppl", "The limit of ΔPPL", "0.01")
        loc = self._share("#min-loc", "The limit of Loc", "0.97")
        own = Limits()
        return Limits(
            own.min_reliability if rel is None else rel,
            own.max_delta_ppl if ppl is None else ppl,
            own.min_locality if loc is None else loc,
        )

    def _budget(self) -> float:
        try:
            percent = self._number("#budget")
        except ValueError:
            percent = None
        if percent is None or not 0 < percent <= 100:
            raise ValueError("The budget is a percentage of the model's weights. Write one such as 1.")
        return percent / 100

    @on(Select.Changed)
    @on(Input.Changed)
    def _chosen(self, event: Select.Changed | Input.Changed) -> None:
        event.stop()
        self._explain()
        self.post_message(EditChosen())

    # --- what it shows ----------------------------------------------------------------------------------------------

    def _explain(self) -> None:
        """Says what the method does, and shows the rows that it has."""
        method, budget = self.method, self.method.has_budget
        self.query_one("#method-means", Static).update(Content(MEANING[method]))
        by_count = self.query_one("#which", Select).value != "off"
        self.query_one("#top-n").display = self.query_one("#top-label").display = by_count
        self.query_one("#tau2-row").display = not budget
        self.query_one("#tau2").display = method.has_tau2
        if not method.has_tau2:
            self.query_one("#tau2-note", Static).update("this method has no threshold")
        self.query_one("#budget-row").display = budget
        self.query_one("#target").display = self._takes_answer
        self.query_one("#target-note").display = not self._takes_answer
        why = "for one fact alone" if method.writes else f"{method.value} can only erase"
        self.query_one("#target-note", Static).update(why)
        first = self.facts[0]
        phrasings, unseen = 1 + len(first.edit_prompts), len(first.paraphrases)
        self.border_subtitle = (
            f"{count(phrasings, 'phrasing')} to edit by, {count(unseen, 'unseen paraphrase')} to judge by"
            if unseen
            else "no paraphrases: no Gen"
        )

    def show_plan(self, plan: EditPlan) -> None:
        self._plan = plan
        if plan.tau2 is not None:
            own = "its own" if plan.spec.tau2 is None else "yours"
            note = f"{plan.tau2:.4g}, {own}  ↑/↓ change  d default  f find"
            self.query_one("#tau2-note", Static).update(Content.styled(note, "$muted"))

    def set_tau2(self, tau2: float) -> None:
        self.query_one("#tau2", Input).value = f"{tau2:.6g}"

    def raise_tau2(self, step: int) -> None:
        """Takes τ2 a tenth up or down, from the value in use."""
        try:
            value = self._number("#tau2")
        except ValueError:
            value = None
        if value is None:
            value = self._plan.tau2 if self._plan is not None else None
        changed = (0.1 if value is None else value) * (1.1 if step > 0 else 1 / 1.1)
        self.query_one("#tau2", Input).value = f"{min(max(changed, 1e-6), 0.99):.3g}"

    def clear_tau2(self) -> None:
        self.query_one("#tau2", Input).value = ""
