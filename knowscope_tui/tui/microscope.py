"""What the main screen looks at: the fact, its reading, what is switched off, and the questions that follow.

No widget in here: the screen calls these methods and redraws a part when `changed` names it. A look is asked in three
steps, so that each answer comes as early as it can: the reading, the continuation, then the exact ΔProb of the
strongest units, which give way whenever a unit is toggled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.readings import Ablation, Effect, Mode, Positions, Reading
from knowscope_tui.core.units import Family, Unit
from knowscope_tui.session.protocol import (
    Ablate,
    AblationMeasured,
    DictionariesOpened,
    Event,
    Failed,
    ModelInfo,
    Opened,
    Probe,
    Probed,
    Undo,
    Undone,
)
from knowscope_tui.tui.desk import Desk

EXACT = 200
"""Units whose ΔProb is measured exactly."""

FAMILIES: dict[str, tuple[Family, ...]] = {
    "both": (Family.FEATURE, Family.NEURON),
    "features": (Family.FEATURE,),
    "neurons": (Family.NEURON,),
}
MODES: dict[str, tuple[Mode, float]] = {
    "zero": (Mode.ZERO, 0.0),
    "mean": (Mode.MEAN, 0.0),
    "scale 0.5": (Mode.SCALE, 0.5),
}


class Part(Enum):
    """A part of the screen that shows something else than before."""

    MODEL = "model"
    DICTIONARIES = "dictionaries"
    READING = "reading"
    EFFECT = "effect"
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

    def __init__(self, desk: Desk, changed: Callable[[Part], None], failed: Callable[[Failed], None]) -> None:
        self._desk = desk
        self._changed = changed
        self._failed = failed
        self.info: ModelInfo | None = None
        self.facts: tuple[Fact, ...] = ()
        self.shown: Shown | None = None
        self.reading: Reading | None = None
        self.exact = False
        self.effect: Effect | None = None
        self.off: dict[Unit, None] = {}
        self.family = "both"
        self.mode = "zero"
        self.positions = Positions.LAST
        self.edits = 0
        self.unsaved = False
        self._unedited: dict[tuple[str, str], Effect] = {}

    # --- looking ----------------------------------------------------------------------------------------------------

    def opened(self, event: Opened) -> None:
        self.info, self.facts = event.info, event.facts
        self._changed(Part.MODEL)

    def dictionaries_opened(self, event: DictionariesOpened) -> None:
        """Other features are there: those that were switched off are no longer meant, and the fact is read again."""
        self.info = event.info
        self.off = {unit: None for unit in self.off if unit.family is Family.NEURON}
        self._changed(Part.DICTIONARIES)
        self._changed(Part.SWITCHES)
        self.look_again()

    def look(self, prompt: str, answer: str | None = None, position: int | None = None) -> None:
        """Looks at a fact. Another fact starts with everything switched on."""
        same = self.shown is not None and (self.shown.prompt, self.shown.answer) == (prompt, answer)
        if not same and self.off:
            self.off.clear()
            self._changed(Part.SWITCHES)
        self.shown = Shown(prompt, answer, position)
        self._desk.drop("exact")
        self._desk.ask("look", self._probe(0), self._hear_reading, "Reading the fact")

    def look_again(self) -> None:
        """Looks at the same fact once more: after an edit, or with another choice of units."""
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

    def _probe(self, exact: int) -> Callable[[int], Probe]:
        assert self.shown is not None
        shown, families = self.shown, FAMILIES[self.family]
        return lambda revision: Probe(
            revision, shown.prompt, shown.answer, shown.position, families=families, exact=exact
        )

    def _hear_reading(self, event: Event) -> None:
        if isinstance(event, Probed):
            self.reading, self.exact, self.effect = event.reading, False, None
            self._changed(Part.READING)
            self._measure()
            self._ask_exact()
        elif isinstance(event, Failed):
            self._failed(event)

    def _ask_exact(self) -> None:
        if self.shown is not None and not self.exact:
            self._desk.ask("exact", self._probe(EXACT), self._hear_exact, "Measuring ΔProb")

    def _hear_exact(self, event: Event) -> None:
        if isinstance(event, Probed) and event.final:
            self.reading, self.exact = event.reading, True
            self._changed(Part.READING)
        elif isinstance(event, Failed):
            self._failed(event)

    # --- switching off ----------------------------------------------------------------------------------------------

    @property
    def ablation(self) -> Ablation:
        mode, factor = MODES[self.mode]
        return Ablation(tuple(self.off), mode, factor, self.positions)

    def toggle(self, unit: Unit) -> None:
        if unit in self.off:
            del self.off[unit]
        else:
            self.off[unit] = None
        self._changed(Part.SWITCHES)
        self._measure()

    def clear(self) -> None:
        if self.off:
            self.off.clear()
            self._changed(Part.SWITCHES)
            self._measure()

    def _measure(self) -> None:
        """Asks what the ablation does, ahead of exact values that are still being measured."""
        if self.reading is None:
            return
        waiting = self._desk.asking("exact")
        if waiting:
            self._desk.drop("exact")
        reading, ablation = self.reading, self.ablation
        self._desk.ask(
            "ablate",
            lambda revision: Ablate(revision, reading.prompt, reading.answer, ablation, reading.position),
            self._hear_effect,
            "Measuring the ablation",
        )
        if waiting:
            self._ask_exact()

    def _hear_effect(self, event: Event) -> None:
        if isinstance(event, AblationMeasured):
            self.effect = event.effect
            if not self.edits:
                self._unedited[event.effect.prompt, event.effect.answer] = event.effect
            self._changed(Part.EFFECT)
        elif isinstance(event, Failed):
            self._failed(event)

    @property
    def unedited(self) -> Effect | None:
        """What this fact showed before the first edit, if it was looked at then and there are edits."""
        if not self.edits or self.reading is None:
            return None
        return self._unedited.get((self.reading.prompt, self.reading.answer))

    # --- settings ---------------------------------------------------------------------------------------------------

    def cycle_family(self) -> None:
        self.family = _next(self.family, list(FAMILIES))
        self._changed(Part.SETTINGS)
        self.look_again()

    def cycle_mode(self) -> None:
        self.mode = _next(self.mode, list(MODES))
        self._changed(Part.SETTINGS)
        if self.off:
            self._measure()

    def cycle_positions(self) -> None:
        self.positions = Positions.ALL if self.positions is Positions.LAST else Positions.LAST
        self._changed(Part.SETTINGS)
        if self.off:
            self._measure()

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
        if isinstance(event, Undone):
            self.journal_is(event.edits, event.unsaved)
        elif isinstance(event, Failed):
            self._failed(event)

    def journal_is(self, edits: int, unsaved: bool) -> None:
        """Says how many edits the model in memory holds; the fact in view is looked at again."""
        changed = edits != self.edits
        self.edits, self.unsaved = edits, unsaved
        self._changed(Part.JOURNAL)
        if changed:
            self.look_again()


def _next(current: str, names: list[str]) -> str:
    return names[(names.index(current) + 1) % len(names)]
