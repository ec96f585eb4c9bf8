"""What is switched off and how, as a value: the screen shows it, a search replaces it and puts it back."""

from __future__ import annotations

from dataclasses import dataclass, replace

from knowscope_tui.core.readings import Ablation, Mode, Positions
from knowscope_tui.core.units import Unit

MODES: dict[str, tuple[Mode, float]] = {
    "zero": (Mode.ZERO, 0.0),
    "mean": (Mode.MEAN, 0.0),
    "scale 0.5": (Mode.SCALE, 0.5),
}


@dataclass(frozen=True)
class Switches:
    """The switched-off units in the order in which they were switched off, what they become, and at which tokens."""

    off: tuple[Unit, ...] = ()
    mode: str = "zero"
    positions: Positions = Positions.LAST

    @property
    def ablation(self) -> Ablation:
        """What the session is asked; with nothing switched off, mode and tokens mean nothing."""
        if not self.off:
            return Ablation()
        mode, factor = MODES[self.mode]
        return Ablation(self.off, mode, factor, self.positions)

    @property
    def where(self) -> str:
        return "this token" if self.positions is Positions.LAST else "all tokens"

    def toggled(self, unit: Unit) -> Switches:
        if unit in self.off:
            return replace(self, off=tuple(other for other in self.off if other != unit))
        return replace(self, off=(*self.off, unit))

    def with_off(self, off: tuple[Unit, ...]) -> Switches:
        return replace(self, off=off)

    def next_mode(self) -> Switches:
        names = list(MODES)
        return replace(self, mode=names[(names.index(self.mode) + 1) % len(names)])

    def other_positions(self) -> Switches:
        return replace(self, positions=Positions.ALL if self.positions is Positions.LAST else Positions.LAST)
