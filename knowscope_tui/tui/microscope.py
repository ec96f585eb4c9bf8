"""What the main screen looks at: the fact, its reading, what is switched off, and the questions that follow.

No widget in here: the screen calls these methods and redraws a part when `changed` names it. A look is asked in steps,
so that each answer comes as early as it can: the reading, what the switches do with a continuation, and then the exact
ΔProb of every active unit, a sweep that gives way to whatever a person asks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from knowscope_tui.core.edits import JournalState
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.readings import Ablation, Effect, Reading, UnitSet
from knowscope_tui.core.units import Family, Unit
from knowscope_tui.session.protocol import (
    DictionariesOpened,
    Event,
    Failed,
    JournalChanged,
    ModelInfo,
    Opened,
    Probe,
    Probed,
    Undo,
)
from knowscope_tui.tui.desk import Desk
from knowscope_tui.tui.finding import SetFinder
from knowscope_tui.tui.measuring import Measurer
from knowscope_tui.tui.sweeping import ALONE, Sweeper
from knowscope_tui.tui.switches import Switches

FAMILIES: dict[str, tuple[Family, ...]] = {
    "both": (Family.FEATURE, Family.NEURON),
    "features": (Family.FEATURE,),
    "neurons": (Family.NEURON,),
}


class Part(Enum):
    """A part of the screen that shows something else than before."""

    MODEL = "model"
    DICTIONARIES = "dictionaries"
    READING = "reading"
    EFFECT = "effect"
    EXACT = "exact"
    SWITCHES = "switches"
    SETTINGS = "settings"
    JOURNAL = "journal"


@dataclass(frozen=True)
class Shown:
    """The fact in view, as it was asked."""

    prompt: str
    answer: str | None
    position: int | None = None


class Microscope:
    """The state of the main screen and the questions it asks."""

    def __init__(
        self,
        desk: Desk,
        changed: Callable[[Part], None],
        failed: Callable[[Failed], None],
        found: Callable[[UnitSet], None],
    ) -> None:
        self._desk = desk
        self._changed = changed
        self._failed = failed
        self.info: ModelInfo | None = None
        self.facts: tuple[Fact, ...] = ()
        self.shown: Shown | None = None
        self.reading: Reading | None = None
        self.switches = Switches()
        self.family = "both"
        self.beside = False
        """Whether ΔProb is that of each unit beside what is switched off, in place of that of each alone."""
        self.journal = JournalState()
        self.sweeper = Sweeper(desk, lambda: changed(Part.EXACT), failed)
        self.search = SetFinder(desk, self._switch, found, failed)
        self._measurer = Measurer(desk, lambda: changed(Part.EFFECT), failed)

    # --- looking ----------------------------------------------------------------------------------------------------

    def opened(self, event: Opened) -> None:
        self.info, self.facts = event.info, event.facts
        self._changed(Part.MODEL)

    def dictionaries_opened(self, event: DictionariesOpened) -> None:
        """Other features are there: those that were switched off are no longer meant, and the fact is read again."""
        self.info = event.info
        self.search.leave()
        self.switches = self.switches.with_off(tuple(unit for unit in self.off if unit.family is Family.NEURON))
        self._changed(Part.DICTIONARIES)
        self._changed(Part.SWITCHES)
        self.look_again()

    def look(self, prompt: str, answer: str | None = None, position: int | None = None) -> None:
        """Looks at a fact. Another fact starts with everything switched on."""
        self.search.stop()
        kept = self.shown, self.switches
        same = self.shown is not None and (self.shown.prompt, self.shown.answer) == (prompt, answer)
        if not same and self.off:
            self.switches = self.switches.with_off(())
            self._changed(Part.SWITCHES)
        self.shown = shown = Shown(prompt, answer, position)
        self._desk.ask(
            "look",
            lambda revision: Probe(revision, shown.prompt, shown.answer, shown.position),
            lambda event: self._hear_reading(event, *kept),
            "Reading the fact",
        )
        self.sweeper.pause()

    def look_again(self) -> None:
        """Looks at the same fact once more: after an edit, or with other dictionaries."""
        if self.shown is not None:
            self.look(self.shown.prompt, self.shown.answer, self.shown.position)

    def move(self, step: int) -> None:
        if self.reading is not None:
            self.read_at(self.reading.position + step)

    def read_at(self, position: int) -> None:
        """Moves the reading position to a token that is there. Nothing is read at the first token, `<bos>`."""
        if self.reading is None or self.shown is None:
            return
        position = min(max(position, 1), len(self.reading.tokens) - 1)
        if position != self.reading.position:
            self.look(self.shown.prompt, self.shown.answer, position)

    def _hear_reading(self, event: Event, shown: Shown | None, switches: Switches) -> None:
        """Where a fact is refused, what was `shown` with its `switches` is what is looked at still."""
        if isinstance(event, Probed):
            self.reading, self._measurer.effect = event.reading, None
            self.sweeper.begin(event.reading, self.given)
            self._changed(Part.READING)
            self._measure()
        elif isinstance(event, Failed):
            self.shown, self.switches = shown, switches
            self._changed(Part.SWITCHES)
            self.sweeper.resume()
            self._failed(event)

    def when_free(self) -> None:
        """The session has answered: what nobody waits for may have its turn."""
        self.sweeper.when_free()

    # --- switching off ----------------------------------------------------------------------------------------------

    @property
    def off(self) -> tuple[Unit, ...]:
        return self.switches.off

    @property
    def given(self) -> Ablation:
        """What is switched off while single units are measured."""
        return self.switches.ablation if self.beside else ALONE

    def toggle(self, unit: Unit) -> None:
        self.search.leave()
        self._switch(self.switches.toggled(unit))

    def clear(self) -> None:
        self.search.leave()
        if self.off:
            self._switch(self.switches.with_off(()))

    def cycle_mode(self) -> None:
        self.search.leave()
        self._switch(self.switches.next_mode())

    def cycle_positions(self) -> None:
        self.search.leave()
        self._switch(self.switches.other_positions())

    def _switch(self, switches: Switches) -> None:
        """Puts the switches so, and asks what that does, ahead of the redraw and of what else is being measured."""
        was, self.switches = self.switches.ablation, switches
        if self.search.step is not None:
            self._changed(Part.EFFECT)
        elif switches.ablation != was or self.effect is None or self.effect.ablation != switches.ablation:
            self._measure()
        else:
            self._changed(Part.EFFECT)
        self._changed(Part.SWITCHES)
        self.sweeper.aim(self.given)

    def _measure(self) -> None:
        if self.reading is not None:
            self._measurer.measure(self.reading, self.switches.ablation)

    @property
    def effect(self) -> Effect | None:
        """What the switches do, as far as it is measured."""
        return self._measurer.effect

    @property
    def unedited(self) -> Effect | None:
        """What this fact showed before the first edit, if it was looked at then and there are edits."""
        return self._measurer.unedited(self.reading) if self.reading is not None else None

    # --- settings ---------------------------------------------------------------------------------------------------

    def cycle_family(self) -> None:
        names = list(FAMILIES)
        self.family = names[(names.index(self.family) + 1) % len(names)]
        self._changed(Part.SETTINGS)

    def cycle_beside(self) -> None:
        """Goes from what each unit does alone to what it does beside what is switched off, and back."""
        self.beside = not self.beside
        self.sweeper.stopped = False
        self.sweeper.aim(self.given)
        self.sweeper.when_free()
        self._changed(Part.SETTINGS)

    # --- the smallest set -------------------------------------------------------------------------------------------

    def find_set(self) -> None:
        """Looks for the smallest set of features that carries the answer of the fact in view."""
        if self.reading is not None:
            self.search.start(self.reading, self.switches)

    # --- edits ------------------------------------------------------------------------------------------------------

    def fact(self) -> Fact | None:
        """The fact in view, with its phrasings when it is one of the known ones."""
        if self.reading is None:
            return None
        prompt, answer = self.reading.prompt, self.reading.answer.strip()
        for fact in self.facts:
            if fact.prompt == prompt and fact.answer == answer:
                return fact
        return Fact(prompt, answer)

    def undo(self) -> None:
        if self._desk.asking("undo"):
            return
        self._desk.ask("undo", Undo, self._hear_undone, "Undoing the last edit")

    def _hear_undone(self, event: Event) -> None:
        if isinstance(event, JournalChanged):
            self.journal_is(event.journal)
        elif isinstance(event, Failed):
            self._failed(event)

    @property
    def edits(self) -> int:
        """How many edits are in force."""
        return self.journal.on

    @property
    def unsaved(self) -> bool:
        return self.journal.unsaved

    def related(self, fact: Fact) -> tuple[Fact, ...]:
        """The known facts of the same relation, `fact` first; `fact` alone where there are no others."""
        others = (other for other in self.facts if fact.relation and other.relation == fact.relation)
        return (fact, *(other for other in others if (other.prompt, other.answer) != (fact.prompt, fact.answer)))

    def saved(self) -> None:
        """A checkpoint holds what is in force."""
        self.journal_is(replace(self.journal, unsaved=False))

    def journal_is(self, journal: JournalState) -> None:
        """Says which edits the open model has; where others are in force the fact in view is looked at again."""
        was, self.journal = self.journal, journal
        changed = _in_force(was) != _in_force(journal)
        self._measurer.edits = journal.on
        self._changed(Part.JOURNAL)
        if changed:
            self.look_again()


def _in_force(journal: JournalState) -> tuple[int, ...]:
    """Numbers of the edits that are switched on."""
    return tuple(entry.number for entry in journal.entries if entry.on)
