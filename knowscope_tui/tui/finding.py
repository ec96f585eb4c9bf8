"""The search for the smallest set of features that carries the answer: each set it finds is switched off as it comes.

No widget in here, as in `microscope`.
"""

from __future__ import annotations

from collections.abc import Callable

from knowscope_tui.core.readings import Reading, UnitSet
from knowscope_tui.session.protocol import Event, Failed, FindSet, SetFound
from knowscope_tui.tui.desk import Desk
from knowscope_tui.tui.switches import Switches

_SLOT = "set"


class SetFinder:
    """`switch` puts switches as a search has them; `found` hears the set that was found in the end."""

    def __init__(
        self,
        desk: Desk,
        switch: Callable[[Switches], None],
        found: Callable[[UnitSet], None],
        failed: Callable[[Failed], None],
    ) -> None:
        self._desk = desk
        self._switch = switch
        self._found = found
        self._failed = failed
        self._before = Switches()
        self.step: UnitSet | None = None
        """The set so far, while the search goes on."""

    @property
    def running(self) -> bool:
        return self._desk.asking(_SLOT)

    def start(self, reading: Reading, before: Switches) -> None:
        """Looks for the set of the fact of `reading`; `before` is what `stop` goes back to."""
        self._before, self.step = before, None
        self._desk.ask(
            _SLOT,
            lambda revision: FindSet(revision, reading.prompt, reading.answer, reading.position),
            self._hear,
            "Looking for the smallest set",
        )

    def stop(self) -> bool:
        """Ends the search and puts the switches back as they were; whether there was one."""
        if not self.leave():
            return False
        self._switch(self._before)
        return True

    def leave(self) -> bool:
        """Ends the search with the switches as they are: a person takes over. Whether there was one."""
        running, self.step = self.running, None
        if running:
            self._desk.drop(_SLOT)
        return running

    def _hear(self, event: Event) -> None:
        match event:
            case SetFound(found=found, final=final):
                self.step = None if final else found
                if final:
                    self._desk.drop(_SLOT)
                # It zeroes units at the reading position, so that is what the switches say too.
                self._switch(Switches(found.units))
                if final:
                    self._found(found)
            case Failed():
                self.step = None
                self._switch(self._before)
                self._failed(event)
