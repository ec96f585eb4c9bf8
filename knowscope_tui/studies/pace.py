"""How far a run is, and how long the rest will take."""

from __future__ import annotations

import time

from knowscope_tui.core.progress import OnProgress
from knowscope_tui.text import duration


class Pace:
    """Follows the items of a study, `done` of which earlier runs measured."""

    def __init__(self, name: str, items: int, done: int, on_progress: OnProgress) -> None:
        self._name, self._items, self._done = name, items, done
        self._on_progress = on_progress
        self.measured = 0
        """Items that this process measured."""
        self._first = self._last = 0.0
        """When the first of them was finished, and the last."""

    def finished(self) -> None:
        """An item more is measured."""
        self._last = time.monotonic()
        self.measured += 1
        if self.measured == 1:
            self._first = self._last
        self("", None)

    def __call__(self, doing: str, fraction: float | None) -> None:
        """Says what is done of an item, an `OnProgress`; may raise to cancel."""
        done = self._done + self.measured
        words = [f"{self._name}: {done:,} of {self._items:,}"]
        if self.seconds_left is not None:
            words.append(f"{duration(self.seconds_left)} left")
        if doing:
            words.append(doing)
        self._on_progress(" · ".join(words), (done + min(fraction or 0.0, 1.0)) / self._items)

    @property
    def seconds_left(self) -> float | None:
        """By the mean of the items after the first, which shares its time with what all items need."""
        if self.measured < 2:
            return None
        left = self._items - self._done - self.measured
        return left * (self._last - self._first) / (self.measured - 1)
