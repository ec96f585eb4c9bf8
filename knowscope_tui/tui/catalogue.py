"""The releases that the library screen looks at: which there are, what each holds, and which of them are meant.

No widget in here, as in `microscope`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial

from knowscope_tui.core.dictionaries import Choice, ReleaseState
from knowscope_tui.errors import UsageError
from knowscope_tui.session.protocol import (
    DictionaryInUse,
    Event,
    Failed,
    ListReleases,
    ReleaseShown,
    ReleasesListed,
    ShowRelease,
    SourceSpec,
)
from knowscope_tui.tui.desk import Desk
from knowscope_tui.tui.microscope import Microscope
from knowscope_tui.tui.wanted import TypedChoice, outcome, wanted


class Shelf(Enum):
    """A part of the library screen that shows something else than before."""

    LISTING = "listing"
    RELEASE = "release"
    MARKS = "marks"
    WORK = "work"
    IN_USE = "in use"


def usable_first(releases: Iterable[ReleaseState]) -> tuple[ReleaseState, ...]:
    """What can be used, in the registry's order, and after it what cannot."""
    return tuple(sorted(releases, key=lambda state: bool(state.release.why_not)))


def releases_of(dictionaries: Iterable[DictionaryInUse]) -> set[str]:
    """The releases that open dictionaries come from: their source is a release's name, and then an id."""
    return {used.source.partition(" ")[0] for used in dictionaries}


class Catalogue:
    """What was looked up, the release under the cursor and those that are marked."""

    def __init__(self, desk: Desk, scope: Microscope, source: SourceSpec, changed: Callable[[Shelf], None]) -> None:
        self._desk, self._scope, self._source, self._changed = desk, scope, source, changed
        self._shown: dict[str, ReleaseShown] = {}
        self._fitting: set[str] = set()
        self.releases: tuple[ReleaseState, ...] | None = None
        self.words = ""
        self.all_models = False
        self.failed = ""
        """The sentence that says why nothing could be looked up."""
        self.at: str | None = None
        self.choice = TypedChoice()
        self.marked: dict[str, ReleaseState] = {}
        """Marked releases, which the words that are searched for may hide."""

    @property
    def own_model(self) -> str | None:
        """The open model, or the one it was tuned from; None for the demo, for which no release was made."""
        info = self._scope.info
        if info is not None:
            return None if info.is_demo else info.trained_on or info.name
        return self._source.model if self._source.model != "demo" else None

    @property
    def model(self) -> str | None:
        """The model whose releases are listed; None where those of every model are."""
        return None if self.all_models else self.own_model

    # --- looking up -------------------------------------------------------------------------------------------------

    def look_up(self) -> None:
        """Asks for the releases that hold every word of `words`."""
        words, model = self.words, self.model
        dtype = self._source.sae_dtype
        self._desk.ask(
            "releases",
            lambda revision: ListReleases(revision, words, model, dtype),
            self._hear_listing,
            "Looking it up",
        )

    def search(self, words: str) -> None:
        self.words = words
        self.look_up()

    def toggle_models(self) -> None:
        self.all_models = not self.all_models
        self._changed(Shelf.LISTING)
        self.look_up()

    def _hear_listing(self, event: Event) -> None:
        if isinstance(event, ReleasesListed):
            self.releases, self.failed = usable_first(event.releases), ""
            if self.model is not None:
                self._fitting |= {state.release.name for state in event.releases}
            self._changed(Shelf.LISTING)
        elif isinstance(event, Failed):
            self.releases, self.failed = (), f"{event.what} {event.hint}".strip()
            self._changed(Shelf.LISTING)

    def go_to(self, release: str | None) -> None:
        """A person looks at `release`."""
        self.at = release
        self._look_into(release, *self.marked)
        self._changed(Shelf.RELEASE)

    def _look_into(self, *releases: str | None) -> None:
        """Asks for the first of `releases` that was not looked into yet."""
        for release in releases:
            if release is not None and release not in self._shown:
                make = partial(ShowRelease, release=release, sae_dtype=self._source.sae_dtype)
                self._desk.ask("release", make, self._hear_release, "Looking it up")
                return

    def _hear_release(self, event: Event) -> None:
        if isinstance(event, ReleaseShown):
            self._shown[event.release.release.name] = event
            self._changed(Shelf.RELEASE)
            self._look_into(self.at, *self.marked)

    def refresh(self) -> None:
        """Looks again at what is on this machine."""
        self._shown.clear()
        self.look_up()
        self.go_to(self.at)

    # --- what is looked at, and what is meant -----------------------------------------------------------------------

    def _listed(self) -> dict[str, ReleaseState]:
        return {state.release.name: state for state in self.releases or ()}

    @property
    def state(self) -> ReleaseState | None:
        """The release that a person looks at."""
        return self._listed().get(self.at or "")

    @property
    def in_use(self) -> set[str]:
        """The releases whose dictionaries are open."""
        info = self._scope.info
        return releases_of(info.dictionaries) if info is not None else set()

    def toggle_mark(self, release: str) -> None:
        listed = self._listed()
        if release in self.marked:
            del self.marked[release]
        elif release in listed:
            self.marked[release] = listed[release]
        self._changed(Shelf.MARKS)

    @property
    def targets(self) -> tuple[str, ...]:
        """What a person means: the marked releases, or else the one under the cursor."""
        return tuple(self.marked) or ((self.at,) if self.at is not None else ())

    @property
    def foreign(self) -> tuple[str, ...]:
        """What is meant, but was never listed for the open model."""
        return tuple(name for name in self.targets if name not in self._fitting)

    def read_choice(self) -> tuple[Choice, str]:
        """What was chosen, and what is wrong with it, in a sentence."""
        try:
            return self.choice.read(), ""
        except UsageError as error:
            return Choice(), str(error)

    def outcome(self) -> tuple[str, bool]:
        """What pulling the targets would bring, in a sentence, and whether it is one about a problem."""
        choice, problem = self.read_choice()
        if problem:
            return problem, True
        known = {**self.marked, **self._listed()}
        shown = {name: self._shown[name].entries if name in self._shown else None for name in self.targets}
        named = [name for name in self.targets if name in known]
        return outcome({name: wanted(known[name].release, choice, shown[name]) for name in named})
