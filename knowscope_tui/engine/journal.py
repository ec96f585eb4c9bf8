"""The edits of the model in memory, in order: each can be undone, done again, switched off and on, bit for bit.

An edit that is taken back leaves the very bits it found. To switch one off in the middle, those above it are taken
back, and made again without it. Before weights are touched they are held against what the journal left there, so
that an edit never lands on weights that something else has changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from knowscope_tui.engine.deltas.change import Change, Overwritten, SparseChange, bits, make, take_back
from knowscope_tui.engine.hashes import tensor_sha256
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.errors import EditError


@dataclass(frozen=True)
class Entry:
    """An edit of the journal; `number` counts from 1 and never changes hands."""

    number: int
    changes: tuple[Change, ...]
    on: bool = True
    overwritten: tuple[Overwritten, ...] = field(default=(), compare=False, repr=False)
    """What its changes cannot compute back, while it is on."""


class Journal:
    """Applies edits to `lm`'s weights and takes them back. Truthy while any edit is on."""

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm
        self._entries: list[Entry] = []
        self._undone: list[Entry] = []
        self._left: dict[str, str] = {}
        """Parameter → hash of what the journal left there; the base's, where no edit is on."""
        self._last = 0

    def __len__(self) -> int:
        return sum(entry.on for entry in self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """Every edit that is not undone, in the order of application."""
        return iter(tuple(self._entries))

    @property
    def undone(self) -> tuple[Entry, ...]:
        """What `redo` can bring back, the next one last."""
        return tuple(self._undone)

    def apply(self, changes: Sequence[Change]) -> int:
        """Makes `changes` as one edit after all others; its number. Raises `EditError` and changes nothing when the
        weights are not what the journal left there."""
        self._check(changes)
        self._entries.append(self._made(Entry(self._last + 1, tuple(changes))))
        self._last += 1
        self._remember(changes)
        return self._last

    def forget(self, number: int) -> None:
        """Takes the edit that was applied last back as if it had never been. Raises `EditError` for another one."""
        if number != self._last or not self._entries or self._entries[-1].number != number:
            raise EditError(f"Edit {number} is not the last one.", "Undo it instead.")
        entry = self._entries.pop()
        if entry.on:
            self._check(entry.changes)
            self._taken_back(entry)
        self._last -= 1
        self._remember(entry.changes)

    def undo(self) -> int:
        """Takes the last edit that is on back, and says which one that was. Raises `EditError` when there is none."""
        on = [entry for entry in self._entries if entry.on]
        if not on:
            raise EditError("There is no edit to undo.", "Apply one first.")
        number = on[-1].number
        self.switch(number, on=False)
        place = self._place(number)
        self._undone.append(self._entries.pop(place))
        return number

    def redo(self, number: int | None = None) -> int:
        """Makes an undone edit again, after all others: the one named, or the one undone last."""
        if not self._undone:
            raise EditError("There is no undone edit to bring back.", "Undo one first.")
        found = [entry for entry in self._undone if number in (None, entry.number)]
        if not found:
            raise EditError(f"There is no undone edit {number}.", f"Undone: {_numbers(self._undone)}.")
        entry = found[-1]
        self._check(entry.changes)
        self._entries.append(self._made(entry))
        self._undone.remove(entry)
        self._remember(entry.changes)
        return entry.number

    def switch(self, number: int, *, on: bool) -> None:
        """Switches an edit off or on in its place. Raises `EditError` for one that is not there."""
        place = self._place(number)
        if self._entries[place].on == on:
            return
        above = [entry for entry in self._entries[place:] if entry.on]
        touched = [change for entry in (self._entries[place], *above) for change in entry.changes]
        self._check(touched)
        for entry in reversed(above):
            self._taken_back(entry)
        self._entries[place] = replace(self._entries[place], on=on, overwritten=())
        for index in range(place, len(self._entries)):
            if self._entries[index].on:
                self._entries[index] = self._made(self._entries[index])
        self._remember(touched)

    def total(self) -> list[SparseChange]:
        """All edits that are on as one: for every touched parameter, the entries that differ from the base."""
        names = sorted({change.name for entry in self._entries if entry.on for change in entry.changes})
        return [change for change in map(self._total_of, names) if change.positions]

    @torch.no_grad()
    def _total_of(self, name: str) -> SparseChange:
        edited = self._weight(name).clone()
        base = edited.clone()
        for entry in reversed(self._entries):
            for change, overwritten in reversed(list(zip(entry.changes, entry.overwritten, strict=False))):
                if entry.on and change.name == name:
                    take_back(base, change, overwritten)
        indices = (bits(base) != bits(edited)).flatten().nonzero()[:, 0]
        return SparseChange(name, tuple(edited.shape), indices, edited.flatten()[indices])

    def _place(self, number: int) -> int:
        places = [place for place, entry in enumerate(self._entries) if entry.number == number]
        if not places:
            there = _numbers(self._entries) or "none"
            raise EditError(f"There is no edit {number} in the journal.", f"Edits: {there}.")
        return places[0]

    def _made(self, entry: Entry) -> Entry:
        """`entry`, made; when it cannot be made whole nothing of it stays."""
        done: list[Overwritten] = []
        try:
            for change in entry.changes:
                done.append(make(self._weight(change.name), change))
        except BaseException:
            for change, overwritten in reversed(list(zip(entry.changes, done, strict=False))):
                take_back(self._weight(change.name), change, overwritten)
            raise
        return replace(entry, on=True, overwritten=tuple(done))

    def _taken_back(self, entry: Entry) -> None:
        for change, overwritten in reversed(list(zip(entry.changes, entry.overwritten, strict=True))):
            take_back(self._weight(change.name), change, overwritten)

    def _check(self, changes: Sequence[Change]) -> None:
        for name in dict.fromkeys(change.name for change in changes):
            found = tensor_sha256(self._weight(name))
            if self._left.setdefault(name, found) != found:
                raise EditError(f"{name} was changed by something else since it was opened.", "Open the model again.")
        for change in changes:
            shape = tuple(self._weight(change.name).shape)
            if shape != change.shape:
                raise EditError(
                    f"{change.name} has shape {shape} here and {change.shape} in the edit.", "Open its base."
                )

    def _remember(self, changes: Sequence[Change]) -> None:
        for name in dict.fromkeys(change.name for change in changes):
            self._left[name] = tensor_sha256(self._weight(name))

    def _weight(self, name: str) -> Tensor:
        weight: Tensor = self._lm.model.get_parameter(name).detach()
        return weight


def _numbers(entries: Sequence[Entry]) -> str:
    return ", ".join(str(entry.number) for entry in entries)
