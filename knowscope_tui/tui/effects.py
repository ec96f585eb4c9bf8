"""Exact effects of single units as a sweep finds them: a dictionary that grows beside the reading, and its state."""

from __future__ import annotations

from knowscope_tui.core.readings import Ablation, Reading, SweepPart
from knowscope_tui.core.units import Family, Unit

MATTERS = 0.01
"""Size of ΔProb from which on a unit is shown that the reading does not list: what the column shows as 0.01."""


class Exact:
    """Exact ΔProb of the units of `reading`, each switched off beside `given`."""

    def __init__(self, reading: Reading, given: Ablation) -> None:
        self.given = given
        self.deltas: dict[Unit, float] = {}
        self.beyond: dict[Unit, None] = {}
        """Units that matter though the reading does not list them."""
        self.ended = False
        """Whether the sweep came to its end: everything is measured, or the time for neurons is over."""
        self._listed = {row.unit for row in reading.units}
        taken = [unit for unit in given.units if unit in self._listed]
        self._active = sum(site.active for site in reading.sites) - len(taken)
        self._features = sum(site.active for site in reading.sites if site.family is Family.FEATURE)
        self._features -= sum(unit.family is Family.FEATURE for unit in taken)
        self._measured = {Family.FEATURE: 0, Family.NEURON: 0}

    def take(self, part: SweepPart) -> None:
        """Adds what `part` holds; what is known already is told again when a sweep goes on."""
        self._active = part.active
        for effect in part.effects:
            unit, known = effect.unit, len(self.deltas)
            self.deltas[unit] = effect.delta_prob
            if len(self.deltas) == known:
                continue
            self._measured[unit.family] += 1
            if abs(effect.delta_prob) >= MATTERS and unit not in self._listed:
                self.beyond[unit] = None

    @property
    def measured(self) -> int:
        return len(self.deltas)

    @property
    def active(self) -> int:
        """How many units there are to measure."""
        return self._active

    @property
    def whole(self) -> bool:
        """Whether every active unit is measured."""
        return self.ended and self.measured >= self._active

    @property
    def features(self) -> tuple[int, int]:
        """How many active features are measured, and how many there are."""
        return self._measured[Family.FEATURE], self._features

    @property
    def neurons(self) -> tuple[int, int]:
        """How many active neurons are measured, and how many there are."""
        return self._measured[Family.NEURON], max(self._active - self._features, 0)
