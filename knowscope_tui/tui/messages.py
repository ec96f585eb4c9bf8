"""What widgets tell their screen. Each message says what a person wants; none says how it is done."""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message

from knowscope_tui.core.edits import JournalEntry
from knowscope_tui.core.readings import Rank
from knowscope_tui.core.units import Site, Unit
from knowscope_tui.session.protocol import Event
from knowscope_tui.tui.wanted import TypedChoice


@dataclass
class SessionEvent(Message, bubble=False):
    """An event of the session, brought from the runner's thread to the screen's."""

    event: Event


@dataclass
class FactAsked(Message):
    """A person wants this fact looked at. No answer means the model's own top token."""

    prompt: str
    answer: str | None


@dataclass
class PositionPicked(Message):
    """A person picked the token that units are read at."""

    position: int


@dataclass
class SitePicked(Message):
    """A person picked a cell of the heat map; None takes the choice back."""

    site: Site | None


@dataclass
class UnitToggled(Message):
    """A person switched a unit off or on."""

    unit: Unit


@dataclass
class SortPicked(Message):
    """A person clicked a heading of the units table."""

    rank: Rank


@dataclass
class FilterTyped(Message):
    """The text that units are filtered by changed."""

    text: str


@dataclass
class InputLeft(Message):
    """A person left an input with escape or finished it with enter."""


@dataclass
class ChipPressed(Message):
    """A person clicked a word that stands for a key; `action` is that key's action on the screen."""

    action: str


@dataclass
class EditChosen(Message):
    """A person changed what an edit is made of."""


@dataclass
class FrontierMoved(Message):
    """A person went to another point of the frontier."""

    tau2: float


@dataclass
class LeakMarked(Message):
    """The leak test under the cursor is another one, or found something."""


@dataclass
class EntrySwitched(Message):
    """A person switches an edit of the journal off or on."""

    entry: JournalEntry


@dataclass
class ReleaseReached(Message):
    """A person moved to another release."""

    release: str | None


@dataclass
class ReleaseMarked(Message):
    """A person marked a release, or took the mark back."""

    release: str


@dataclass
class ReleasesSearched(Message):
    """The words that releases are looked up by changed."""

    words: str


@dataclass
class ChoiceMade(Message):
    """A person changed which dictionaries of a release are meant."""

    choice: TypedChoice
