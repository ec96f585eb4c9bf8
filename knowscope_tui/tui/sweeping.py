"""The sweep of the reading in view: exact effects of every active unit, asked when the model is free of questions.

It gives way to any of a person's questions and goes on afterwards where it was; the session remembers what it found.
No widget in here, as in `microscope`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from knowscope_tui.core.readings import Ablation, Reading
from knowscope_tui.session.protocol import Event, Failed, Finished, SweepUnits, Swept
from knowscope_tui.tui.desk import Desk, Urgency
from knowscope_tui.tui.effects import Exact

_SLOT = "sweep"
ALONE = Ablation()


class Sweeper:
    """`exact` is what is known beside the ablation in view; `stopped` says that a person, or a fault, stopped it."""

    def __init__(self, desk: Desk, changed: Callable[[], None], failed: Callable[[Failed], None]) -> None:
        self._desk = desk
        self._changed = changed
        self._failed = failed
        self._reading: Reading | None = None
        self._known: dict[Ablation, Exact] = {}
        self._paused = False
        self.exact: Exact | None = None
        self.stopped = False

    def begin(self, reading: Reading, given: Ablation) -> None:
        """There is a reading: from now on its units are measured."""
        self._reading, self._known = reading, {}
        self._paused = self.stopped = False
        self.exact = self._beside(given)

    def aim(self, given: Ablation) -> None:
        """Measures beside `given` from now on; what is known of it is there at once."""
        if self.exact is None or self.exact.given == given:
            return
        self.exact = self._beside(given)
        self._desk.drop(_SLOT)

    def _beside(self, given: Ablation) -> Exact:
        """What is known beside `given`. Only that and what each unit does alone is kept."""
        assert self._reading is not None
        found = self._known.get(given) or Exact(self._reading, given)
        self._known = {kept: exact for kept, exact in self._known.items() if kept == ALONE} | {given: found}
        return found

    def pause(self) -> None:
        """Something else is about to be looked at."""
        self._paused = True
        self._desk.drop(_SLOT)

    def resume(self) -> None:
        """What was to be looked at could not be: what is in view is measured on."""
        self._paused = False

    @property
    def wanted(self) -> bool:
        """Whether there is something to measure, be it under way or waiting for its turn."""
        return self.exact is not None and not (self._paused or self.stopped or self.exact.ended)

    def when_free(self) -> None:
        """Asks for the sweep, or the rest of it, if it is wanted and the model is free."""
        if self._reading is None or self.exact is None or not self.wanted or not self._desk.takes(Urgency.SWEEP):
            return
        reading, given = self._reading, self.exact.given
        self._desk.ask(
            _SLOT,
            lambda revision: SweepUnits(revision, reading.prompt, reading.answer, reading.position, given),
            partial(self._hear, self.exact),
            "Measuring exact ΔProb",
            urgency=Urgency.SWEEP,
        )

    def stop(self) -> bool:
        """Stops measuring until `go_on`; whether there was something to stop."""
        if not self.wanted:
            return False
        self.stopped = True
        self._desk.drop(_SLOT)
        self._changed()
        return True

    def go_on(self) -> bool:
        """Measures what is left, neurons as long once more; whether anything is."""
        if self.exact is None or self.exact.whole:
            return False
        self.stopped = self.exact.ended = False
        self.when_free()
        self._changed()
        return True

    def _hear(self, exact: Exact, event: Event) -> None:
        match event:
            case Swept(part=part):
                exact.take(part)
            case Finished():
                exact.ended = True
            case Failed():
                self.stopped = True
                self._failed(event)
            case _:
                return
        self._changed()
