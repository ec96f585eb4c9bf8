"""One unit at a time through the peers, timed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from knowscope_tui.bench import plain_hooks
from knowscope_tui.bench.saelens import Bridge
from knowscope_tui.bench.subject import Subject
from knowscope_tui.core.units import Site, Unit


@dataclass(frozen=True)
class Timed:
    """P(answer) with a unit zeroed, and the seconds it took to come by it."""

    seconds: float
    p: float


@dataclass(frozen=True)
class OnePass:
    """The same unit through each peer; `saelens` is None where it is left out."""

    hooks: Timed
    saelens: Timed | None

    @property
    def probabilities(self) -> list[float]:
        return [self.hooks.p] + ([] if self.saelens is None else [self.saelens.p])


class Peers:
    """Plain hooks, and sae-lens's bridge unless it is left out. One SAE is kept at a time; making it is not timed."""

    def __init__(self, subject: Subject, *, saelens: bool) -> None:
        self._subject = subject
        self._bridge = Bridge(subject) if saelens else None
        self._kept: tuple[Site, Any] | None = None

    def run(self, unit: Unit) -> OnePass:
        saelens = self._through_saelens(unit)
        return OnePass(Timed(*self._subject.timed(lambda: plain_hooks.p_without(self._subject, unit))), saelens)

    def _through_saelens(self, unit: Unit) -> Timed | None:
        bridge = self._bridge
        if bridge is None:
            return None
        if self._kept is None or self._kept[0] != unit.site:
            self._kept = None
            self._kept = (unit.site, bridge.sae(unit.site))
        sae = self._kept[1]
        return Timed(*self._subject.timed(lambda: bridge.p_without(sae, unit)))
