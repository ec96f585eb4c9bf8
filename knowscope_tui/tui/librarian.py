"""Pulls dictionaries and puts them to use beside the open model.

No widget in here, and it outlives the library screen: a pull goes on while a person looks through the microscope.
"""

from __future__ import annotations

from collections.abc import Callable

from knowscope_tui.core.dictionaries import Choice, DictionarySource
from knowscope_tui.session.protocol import (
    DictionariesOpened,
    DictionariesPulled,
    Event,
    Failed,
    Finished,
    Progress,
    PullDictionaries,
    SourceSpec,
    Stopped,
    UseDictionaries,
)
from knowscope_tui.text import count, file_size
from knowscope_tui.tui.catalogue import Catalogue, Shelf
from knowscope_tui.tui.desk import Desk
from knowscope_tui.tui.microscope import Microscope
from knowscope_tui.tui.said import Said

PULL, USE = "pull", "use"


class Librarian:
    """What goes on and what came of it. `tell` says a sentence to a person who is not in the library."""

    def __init__(self, desk: Desk, scope: Microscope, source: SourceSpec, tell: Callable[[Said], None]) -> None:
        self._desk, self._scope, self._source, self._tell = desk, scope, source, tell
        self._changed: Callable[[Shelf], None] | None = None
        self._to_pull: list[str] = []
        self._releases = 0
        self._choice = Choice()
        self._then_use: tuple[str, ...] = ()
        self._made = self._present = self._bytes = 0
        self.stopping = False
        """Whether what goes on was asked to stop, which it does at its next step."""
        self.catalogue = Catalogue(desk, scope, source, self._change)
        self.said: Said | None = None

    def attach(self, changed: Callable[[Shelf], None]) -> None:
        """The screen is there: from now on it hears of changes."""
        self._changed = changed
        self.catalogue.words = ""
        self.catalogue.refresh()

    def detach(self) -> None:
        self._changed = None

    def _change(self, part: Shelf) -> None:
        if self._changed is not None:
            self._changed(part)

    def opened(self) -> None:
        """The model or its dictionaries are others now."""
        if self._changed is not None:
            self.catalogue.look_up()
        self._change(Shelf.IN_USE)

    def tested(self) -> None:
        """The self-test went on, or is done."""
        self._change(Shelf.IN_USE)

    # --- pulling and using ------------------------------------------------------------------------------------------

    @property
    def progress(self) -> tuple[str, float | None] | None:
        """What goes on and how far it is: a pull, or the opening of dictionaries."""
        pull = self._desk.progress(PULL)
        if pull is None or self._releases < 2:
            return pull or self._desk.progress(USE)
        number, (doing, fraction) = self._releases - len(self._to_pull), pull
        whole = (number - 1 + (fraction or 0.0)) / self._releases
        return f"Release {number} of {self._releases}: {doing}", whole

    def pull(self, *, then_use: bool = False) -> None:
        """Brings what is meant here, one release after the other, and then uses it, if asked to."""
        self._to_pull, (self._choice, _) = list(self.catalogue.targets), self.catalogue.read_choice()
        self._releases = len(self._to_pull)
        self._then_use = tuple(self._to_pull) if then_use else ()
        self._made = self._present = self._bytes = 0
        self.said, self.stopping = None, False
        self._pull_next()

    def _pull_next(self) -> None:
        release, choice, source = self._to_pull.pop(0), self._choice, self._source
        self._desk.ask(
            PULL,
            lambda revision: PullDictionaries(
                revision, release, choice, sae_dtype=source.sae_dtype, offline=source.offline
            ),
            self._hear_pull,
            f"Pulling {release}",
        )
        self._change(Shelf.WORK)

    def _hear_pull(self, event: Event) -> None:
        match event:
            case Progress() | Finished():
                self._change(Shelf.WORK)
            case DictionariesPulled(pulled=pulled):
                self._made += pulled.made
                self._present += pulled.present
                self._bytes += pulled.bytes
                self._go_on()
            case Stopped():
                self.catalogue.refresh()
                self._say("●", "Stopped. Pulling it again goes on where it was.", "$warning")
            case Failed():
                self.catalogue.refresh()
                self._say("✗", f"{event.what} {event.hint}".strip(), "$error")

    def _go_on(self) -> None:
        self.catalogue.refresh()
        if self._to_pull and not self.stopping:
            self._pull_next()
            return
        if self._then_use:
            self._use()
            return
        new = f"{count(self._made, 'dictionary', 'dictionaries')} pulled" if self._made else "Nothing was missing"
        were = "was" if self._present == 1 else "were"
        here = f", {self._present:,} {were} here" if self._made and self._present else ""
        self._say("●", f"{new}{here}; {file_size(self._bytes)} in the cache. u puts them to use.", "$success")

    def _use(self) -> None:
        sources, choice = tuple(DictionarySource(release=name) for name in self._then_use), self._choice
        self._then_use = ()
        self._desk.ask(
            USE, lambda revision: UseDictionaries(revision, sources, choice), self._hear_use, "Opening dictionaries"
        )
        self._change(Shelf.WORK)

    def _hear_use(self, event: Event) -> None:
        match event:
            case Progress() | Finished():
                self._change(Shelf.WORK)
            case DictionariesOpened(info=info):
                self.catalogue.marked.clear()
                self._scope.dictionaries_opened(event)
                self._say("●", f"{count(len(info.dictionaries), 'dictionary', 'dictionaries')} in use.", "$success")
            case Stopped():
                self._say("●", "Stopped. The dictionaries in use are as they were.", "$warning")
            case Failed():
                self._say("✗", f"{event.what} {event.hint}".strip(), "$error")

    def stop(self) -> None:
        """Stops what goes on."""
        self._then_use, self.stopping = (), True
        self._change(Shelf.WORK)
        for slot in (PULL, USE):
            self._desk.cancel(slot)

    def _say(self, sign: str, text: str, style: str) -> None:
        self.said = Said(sign, text, style)
        if self._changed is None:
            self._tell(self.said)
        self._change(Shelf.WORK)
