"""Which panel of the main screen shows what, once a part of the microscope's state changed."""

from __future__ import annotations

from textual.screen import Screen

from knowscope_tui.core.memory import MemoryPlan
from knowscope_tui.core.readings import UnitSet
from knowscope_tui.text import probability, token_text
from knowscope_tui.tui.listing import Listing
from knowscope_tui.tui.microscope import FAMILIES, Microscope, Part
from knowscope_tui.tui.table import SORT_NAMES
from knowscope_tui.tui.widgets.answer import AnswerPanel, AnswerView
from knowscope_tui.tui.widgets.effect import EffectPanel
from knowscope_tui.tui.widgets.fact import FactPanel
from knowscope_tui.tui.widgets.header import TopLine
from knowscope_tui.tui.widgets.heat import HeatMap
from knowscope_tui.tui.widgets.units import UnitsTable
from knowscope_tui.tui.widgets.units_panel import UnitsPanel
from knowscope_tui.tui.words import plan_line


class Panels:
    """Carries the microscope's state to the panels."""

    def __init__(self, screen: Screen[None], scope: Microscope) -> None:
        self._screen = screen
        self._scope = scope
        self.units = Listing(screen, scope)

    def show(self, part: Part) -> None:
        match part:
            case Part.MODEL:
                self._show_model()
            case Part.DICTIONARIES:
                self._show_dictionaries()
            case Part.READING:
                self._show_reading()
            case Part.EFFECT:
                self._show_effect()
            case Part.EXACT:
                self.units.swept()
            case Part.SWITCHES:
                self._show_settings()
                self.units.switched()
            case Part.SETTINGS:
                self._show_settings()
                self._show_sites()
                self.units.show()
            case Part.JOURNAL:
                self._screen.query_one(TopLine).show_journal(self._scope.edits, self._scope.unsaved)

    def _show_model(self) -> None:
        scope, panel = self._scope, self._screen.query_one(FactPanel)
        self._show_dictionaries()
        panel.set_facts(scope.facts)
        self._screen.query_one(UnitsTable).show_nothing("Type a fact above and press enter.")
        if panel.prompt.strip():
            scope.look(panel.prompt, panel.answer)
        elif scope.facts:
            panel.fill(scope.facts[0])
            scope.look(scope.facts[0].prompt, scope.facts[0].answer)

    def show_plan(self, plan: MemoryPlan) -> None:
        self._screen.query_one(EffectPanel).show_plan(plan_line(plan))

    def _show_dictionaries(self) -> None:
        info = self._scope.info
        assert info is not None
        self._screen.query_one(TopLine).show_model(info)
        self._screen.query_one(HeatMap).picked = self.units.site = None
        self._screen.query_one(UnitsPanel).show_dictionaries(bool(info.dictionaries))
        self.units.fresh = True

    def _show_reading(self) -> None:
        scope, screen = self._scope, self._screen
        reading, panel, table = scope.reading, screen.query_one(FactPanel), screen.query_one(UnitsTable)
        assert reading is not None
        self.units.begin(reading)
        panel.show_reading(reading)
        self._show_sites()
        table.show_nothing("No unit matches the filter." if reading.units else "No unit is active here.")
        self.units.show()
        self._show_effect()
        if not panel.touched and screen.focused is not None and screen.focused.id == "prompt":
            table.focus()

    def _show_sites(self) -> None:
        """The heat map of the families in view. A site that is not there any more is not picked any more."""
        scope, heat = self._scope, self._screen.query_one(HeatMap)
        if scope.reading is None:
            return
        sites = tuple(site for site in scope.reading.sites if site.family in FAMILIES[scope.family])
        if self.units.site is not None and self.units.site not in {site.site for site in sites}:
            heat.picked = self.units.site = None
        heat.show(sites, scope.info.n_layers if scope.info is not None else 0)

    def _show_settings(self) -> None:
        scope, switches = self._scope, self._scope.switches
        beside = f"beside {len(scope.off)} off" if scope.beside else "alone"
        self._screen.query_one(UnitsPanel).show_settings(
            scope.family, SORT_NAMES[self.units.sort], beside, switches.mode, switches.where
        )
        self._screen.query_one(EffectPanel).show_switches(scope.off, f"{switches.mode} at {switches.where}")

    # --- the effect -------------------------------------------------------------------------------------------------

    def _show_effect(self) -> None:
        scope, reading, effect = self._scope, self._scope.reading, self._scope.effect
        if reading is None:
            return
        if scope.search.step is not None:
            self._show_step(scope.search.step)
            return
        before = scope.unedited
        self._screen.query_one(EffectPanel).show(effect, before, scope.edits)
        p_now = effect.p_after if effect is not None else reading.p_answer
        was = before or effect
        self._show_answer(
            AnswerView(
                reading.answer,
                p_now,
                was.p_before if was is not None else reading.p_answer,
                effect.top_after if effect is not None else reading.top_tokens,
                was.top_before if was is not None else reading.top_tokens,
                "was: before the edit" if before is not None else "was: all switched on" if scope.off else "",
            )
        )

    def _show_step(self, step: UnitSet) -> None:
        """A search goes on: of what its set does, P(answer) alone is known."""
        reading = self._scope.reading
        assert reading is not None
        self._screen.query_one(EffectPanel).show_step(step)
        was = "was: all switched on"
        self._show_answer(AnswerView(reading.answer, step.p_after, step.p_before, (), reading.top_tokens, was))

    def _show_answer(self, view: AnswerView) -> None:
        self._screen.query_one(AnswerPanel).show(view)
        self._screen.query_one(TopLine).show_answer(f"P({token_text(view.answer)}) {probability(view.p_now)}")
