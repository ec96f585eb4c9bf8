"""How fast a ranking goes: what is done, how many units a second, and how long the rest will take."""

from __future__ import annotations

import time

from knowscope_tui.core.progress import OnProgress
from knowscope_tui.text import count, duration


class Pace:
    """Follows `facts` facts, `done` of which an earlier run did; the others' answers have `tokens` tokens in all.

    A unit's rows are as long as its fact's answer, so that time goes by these tokens.
    """

    def __init__(self, facts: int, done: int, tokens: int, on_progress: OnProgress) -> None:
        self._facts, self._done = facts, done
        self._tokens, self._tokens_done = tokens, 0
        self._on_progress = on_progress
        self._batch: float = 0.0
        """Facts of the batch that are measured, parts of one counted too."""
        self._each = 0
        """Answer tokens of each fact of the batch."""
        self.units = 0
        self._started = self._heard = time.monotonic()

    @property
    def seconds(self) -> float:
        """From the start to what was measured last."""
        return self._heard - self._started

    def begin(self, tokens: int) -> None:
        """A batch begins, of facts whose answers have `tokens` tokens each."""
        self._batch, self._each = 0.0, tokens

    def measured(self, facts: float, units: int) -> None:
        """So many facts of the batch are measured, and so many units more."""
        self._batch = facts
        self.units += units
        self._heard = time.monotonic()
        self.tell()

    def finish(self, facts: int) -> None:
        """The batch, of so many facts, is finished."""
        self._done += facts
        self._tokens_done += facts * self._each
        self._batch = 0.0

    def tell(self) -> None:
        """Says how far it is; may raise to cancel."""
        told = f"Ranking: {self._done:,} of {count(self._facts, 'fact')}"
        tokens = self._tokens_done + self._batch * self._each
        if self.seconds > 0 and tokens > 0:
            left = (self._tokens - tokens) * self.seconds / tokens
            told += f" · {self.units / self.seconds:,.0f} units/s · {duration(left)} left"
        self._on_progress(told, (self._done + self._batch) / self._facts)
