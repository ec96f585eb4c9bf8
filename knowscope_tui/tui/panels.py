"""Which panel of the main screen shows what, once a part of the microscope's state changed."""

from __future__ import annotations

from textual.screen import Screen

from knowscope_tui.core.memory import MemoryPlan
from knowscope_tui.core.readings import Positions
from knowscope_tui.core.units import Site
from knowscope_tui.text import probability, token_text
from knowscope_tui.tui.microscope import FAMILIES, Microscope, Part
from knowscope_tui.tui.table import SORT_NAMES, SORTS, units_in_view
from knowscope_tui.tui.widgets.answer import AnswerPanel, AnswerView
from knowscope_tui.tui.widgets.effect import EffectPanel
from knowscope_tui.tui.widgets.fact import FactPanel
from knowscope_tui.tui.widgets.header import TopLine
from knowscope_tui.tui.widgets.heat import HeatMap
from knowscope_tui.tui.widgets.units import UnitsPanel, UnitsTable
from knowscope_tui.tui.words import plan_line


class Panels:
    """Carries the microscope's state to the panels, with what is a matter of view alone: order and filters."""

    def __init__(self, screen: Screen[None], scope: Microscope) -> None:
        self._screen = screen
        self._scope = scope
        self.sort = SORTS[0]
        self.filter = ""
        self.site: Site | None = None
        self.fresh = True
        """Whether the table starts at its top when it is shown next."""

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
            case Part.SWITCHES | Part.SETTINGS:
                self._show_settings()
                self.show_units()
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
        self._screen.query_one(HeatMap).picked = self.site = None
        self._screen.query_one(UnitsPanel).show_dictionaries(bool(info.dictionaries))
        self.fresh = True

    def _show_reading(self) -> None:
        scope, screen = self._scope, self._screen
        reading, panel, table = scope.reading, screen.query_one(FactPanel), screen.query_one(UnitsTable)
        assert reading is not None
        panel.show_reading(reading)
        screen.query_one(HeatMap).show(reading.sites, scope.info.n_layers if scope.info is not None else 0)
        table.show_nothing("No unit matches the filter." if reading.units else "No unit is active here.")
        self.show_units()
        self._show_effect()
        if not panel.touched and screen.focused is not None and screen.focused.id == "prompt":
            table.focus()

    def show_units(self) -> None:
        scope, table = self._scope, self._screen.query_one(UnitsTable)
        table.show_switches(tuple(scope.off))
        if scope.reading is None:
            return
        rows = units_in_view(
            scope.reading,
            families=FAMILIES[scope.family],
            sort=self.sort,
            text=self.filter,
            site=self.site,
            off=scope.off,
        )
        table.show(rows, sort=self.sort, exact=scope.exact, fresh=self.fresh)
        self.fresh = False
        shown = f"{len(rows)} shown"
        panel = self._screen.query_one(UnitsPanel)
        panel.border_subtitle = f"{self.site} · {shown}" if self.site is not None else shown

    def _show_settings(self) -> None:
        scope = self._scope
        where = "this token" if scope.positions is Positions.LAST else "all tokens"
        self._screen.query_one(UnitsPanel).show_settings(scope.family, SORT_NAMES[self.sort], scope.mode, where)
        self._screen.query_one(EffectPanel).show_switches(tuple(scope.off), f"{scope.mode} at {where}")

    def _show_effect(self) -> None:
        scope, reading, effect = self._scope, self._scope.reading, self._scope.effect
        if reading is None:
            return
        before = scope.unedited
        self._screen.query_one(EffectPanel).show(effect, before, scope.edits)
        p_now = effect.p_after if effect is not None else reading.p_answer
        was = before or effect
        view = AnswerView(
            reading.answer,
            p_now,
            was.p_before if was is not None else reading.p_answer,
            effect.top_after if effect is not None else reading.top_tokens,
            was.top_before if was is not None else reading.top_tokens,
            "was: before the edit" if before is not None else "was: all switched on" if scope.off else "",
        )
        self._screen.query_one(AnswerPanel).show(view)
        self._screen.query_one(TopLine).show_answer(f"P({token_text(reading.answer)}) {probability(p_now)}")
