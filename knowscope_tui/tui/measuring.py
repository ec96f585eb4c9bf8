"""What the switches do to the answer: asked anew whenever they change, and remembered as it was before the first edit.

No widget in here, as in `microscope`.
"""

from __future__ import annotations

from collections.abc import Callable

from knowscope_tui.core.readings import Ablation, Effect, Reading
from knowscope_tui.session.protocol import Ablate, AblationMeasured, Event, Failed
from knowscope_tui.tui.desk import Desk


class Measurer:
    """`effect` is the last answer; None while a reading has none yet."""

    def __init__(self, desk: Desk, changed: Callable[[], None], failed: Callable[[Failed], None]) -> None:
        self._desk = desk
        self._changed = changed
        self._failed = failed
        self._unedited: dict[tuple[str, str], Effect] = {}
        self.effect: Effect | None = None
        self.edits = 0
        """Edits in the model that is measured."""

    def measure(self, reading: Reading, ablation: Ablation) -> None:
        self._desk.ask(
            "ablate",
            lambda revision: Ablate(revision, reading.prompt, reading.answer, ablation, reading.position),
            self._hear,
            "Measuring the ablation",
        )

    def _hear(self, event: Event) -> None:
        if isinstance(event, AblationMeasured):
            self.effect = event.effect
            if not self.edits:
                self._unedited[event.effect.prompt, event.effect.answer] = event.effect
            self._changed()
        elif isinstance(event, Failed):
            self._failed(event)

    def unedited(self, reading: Reading) -> Effect | None:
        """What this fact showed before the first edit, if it was looked at then and there are edits."""
        return self._unedited.get((reading.prompt, reading.answer)) if self.edits else None
