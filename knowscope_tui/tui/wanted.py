"""What a choice means for a release, and in words what pulling it would bring. Plain functions on plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from knowscope_tui.core.dictionaries import Choice, Entry, EntryState, Release, choose, parse_l0, parse_layers
from knowscope_tui.errors import DictionaryError
from knowscope_tui.text import count, file_size


@dataclass(frozen=True)
class TypedChoice:
    """Which dictionaries of a release are meant, as a person wrote it; empty is canonical, and all layers."""

    width: int | None = None
    l0: str = ""
    layers: str = ""

    def read(self) -> Choice:
        """Raises `UsageError` for an L0 or layers that make no sense."""
        l0 = self.l0.replace(",", ".")
        return Choice(
            self.width,
            parse_l0(l0) if l0.strip() else None,
            parse_layers(self.layers) if self.layers.strip() else None,
        )


@dataclass(frozen=True)
class Wanted:
    """The entries that a choice names in a release, or the sentence that says why there are none."""

    entries: tuple[Entry, ...] = ()
    missing: int | None = None
    """How many of them are not here yet, once that was looked up."""
    missing_bytes: int | None = None
    """What these take to download, where that is known."""
    problem: str = ""


def wanted(release: Release, choice: Choice, states: Sequence[EntryState] | None) -> Wanted:
    """What `choice` names in `release`; `states` says what of it is here, once that was looked up."""
    try:
        entries = choose(release, choice)
    except DictionaryError as error:
        return Wanted(problem=f"{error.what} {error.hint}".strip())
    if states is None:
        return Wanted(entries)
    by_id = {state.entry.id: state for state in states}
    missing = [by_id[entry.id] for entry in entries if entry.id in by_id and not by_id[entry.id].cached]
    sizes = [0 if state.downloaded else state.download_bytes for state in missing]
    known = [size for size in sizes if size is not None]
    return Wanted(entries, len(missing), sum(known) if len(known) == len(sizes) else None)


def outcome(each: Mapping[str, Wanted]) -> tuple[str, bool]:
    """What pulling releases would bring, in a sentence, and whether it is one about a problem."""
    for one in each.values():
        if one.problem:
            return one.problem, True
    if not each:
        return "", False
    whole = sum(len(one.entries) for one in each.values())
    what = count(whole, "dictionary", "dictionaries")
    named = f"{what} of {count(len(each), 'release')}" if len(each) > 1 else what
    counts = [one.missing for one in each.values() if one.missing is not None]
    if len(counts) < len(each):
        return f"{named}.", False
    missing = sum(counts)
    if not missing:
        return f"{named}, all here: u opens {'it' if whole == 1 else 'them'}.", False
    return f"{named}, {missing} still to pull: {_size(list(each.values()))}.", False


def _size(each: Sequence[Wanted]) -> str:
    sizes = [one.missing_bytes for one in each if one.missing_bytes is not None]
    if len(sizes) < len(each):
        return "their size is not known"
    return f"{file_size(sum(sizes))} to download" if sum(sizes) else "downloaded, to be converted"
