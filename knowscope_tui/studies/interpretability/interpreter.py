"""What the study asks of whoever explains units: the lexical simulator, or a language model behind an endpoint."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from knowscope_tui.core.units import Unit
from knowscope_tui.studies.interpretability.contexts import Context, Shown
from knowscope_tui.studies.interpretability.lexical import Simulator
from knowscope_tui.studies.interpretability.scores import Marked, area, marked, pearson, scored, told_apart


@dataclass(frozen=True)
class Interpretation:
    """An explanation, and its scores on held-out sentences; None where a score could not be had."""

    explanation: str
    simulation: float | None
    detection: float | None
    fuzzing: float | None


@dataclass(frozen=True)
class Task:
    """What one unit is explained from and scored on; every draw is made already."""

    examples: Shown
    """The half that explanations may see."""
    largest: float
    """The unit's largest activation there."""
    scored: Shown
    apart: Sequence[Context]
    fires: Sequence[bool]
    """Whether the unit fires in each context of `apart`."""
    marks: Sequence[tuple[Context, Marked]]

    @classmethod
    def of(cls, unit: Unit | str, shown: Shown, seed: int) -> Task:
        """The task of `unit`, or of what has such a name, which shows `shown`; draws depend on name and seed alone."""
        rng = random.Random(f"{seed}:{unit}")
        examples, held = shown.half(fitted=True), shown.half(fitted=False)
        largest = float(examples.peaks.max(initial=0.0))
        chosen, fires = told_apart(held, largest, rng)
        return cls(
            examples=examples,
            largest=largest,
            scored=held.only(scored(held, rng)),
            apart=[held.contexts[index] for index in chosen],
            fires=fires,
            marks=[(held.contexts[mark.context], mark) for mark in marked(held, largest, rng)],
        )

    def simulation(self, foretold: Sequence[Sequence[float]]) -> float | None:
        """The interpretability score of activations foretold for each scored context."""
        if not self.scored.values:
            return None
        flat = [float(value) for values in foretold for value in values]
        return pearson(flat, [float(value) for value in np.concatenate(self.scored.values)])

    def detection(self, foretold: Sequence[float]) -> float | None:
        return area(foretold, self.fires)

    def fuzzing(self, foretold: Sequence[float]) -> float | None:
        return area(foretold, [mark.right for _context, mark in self.marks])


class Interpreter(Protocol):
    """Explains units. `label` names it wherever its scores stand."""

    label: str

    def interpret(self, task: Task) -> Interpretation:
        """Explains the unit of `task` and scores the explanation. Raises `EndpointError`."""


class LexicalInterpreter:
    """The embedded simulator behind the same door."""

    label = "lexical simulator"

    def __init__(self, contexts: Sequence[Context]) -> None:
        self._simulator = Simulator(contexts)

    def interpret(self, task: Task) -> Interpretation:
        explanation = self._simulator.explain(task.examples)
        apart = [float(explanation.simulate(context).max()) for context in task.apart]
        marks = [float(explanation.simulate(context)[list(mark.places)].mean()) for context, mark in task.marks]
        return Interpretation(
            explanation.text,
            task.simulation([explanation.simulate(context).tolist() for context in task.scored.contexts]),
            task.detection(apart),
            task.fuzzing(marks),
        )
