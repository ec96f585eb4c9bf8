"""The edits of the model in memory, in order: each can be undone, done again, switched off and on, bit for bit.

An edit that is taken back leaves the very bits it found. To switch one off in the middle, those above it are taken
back, and made again without it. Every operation looks first, then changes, and where it cannot come to its end leaves
every bit as it was. Before weights are touched they are held against what the journal left there, and the first time
against the files of the model, so that an edit never lands on weights that something else has changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from knowscope_tui.engine.deltas.change import Change, Overwritten, SparseChange, bits, take_back
from knowscope_tui.engine.deltas.steps import Steps
from knowscope_tui.engine.hashes import tensor_sha256
from knowscope_tui.engine.loading import base_folder
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.saving.stored import StoredTensor, stored_name, tensors_in
from knowscope_tui.errors import EditError, KnowscopeError


@dataclass(frozen=True)
class Entry:
    """An edit of the journal; `number` counts from 1 and never changes hands."""

    number: int
    changes: tuple[Change, ...]
    on: bool = True
    overwritten: tuple[Overwritten, ...] = field(default=(), compare=False, repr=False)
    """What its changes cannot compute back, while it is on."""


@dataclass(frozen=True)
class _State:
    """What a journal knows. It is replaced whole, so that an operation took place or did not."""

    entries: tuple[Entry, ...] = ()
    undone: tuple[Entry, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)
    """Parameter → hash of what the journal left there; the base's, where no edit is on."""
    last: int = 0


class Journal:
    """Applies edits to `lm`'s weights and takes them back. Truthy while any edit is on."""

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm
        self._state = _State()

    def __len__(self) -> int:
        return sum(entry.on for entry in self._state.entries)

    def __iter__(self) -> Iterator[Entry]:
        """Every edit that is not undone, in the order of application."""
        return iter(self._state.entries)

    @property
    def undone(self) -> tuple[Entry, ...]:
        """What `redo` can bring back, the next one last."""
        return self._state.undone

    def apply(self, changes: Sequence[Change]) -> int:
        """Makes `changes` as one edit after all others; its number. Raises `EditError` and changes nothing when the
        weights are not what the journal left there."""
        number = self._state.last + 1
        self._replace(len(self._state.entries), [Entry(number, tuple(changes))], last=number)
        return number

    def forget(self, number: int) -> None:
        """Takes the edit that was applied last back as if it had never been. Raises `EditError` for another one."""
        state = self._state
        if not state.entries or not number == state.last == state.entries[-1].number:
            raise EditError(f"Edit {number} is not the last one.", "Undo it instead.")
        self._replace(len(state.entries) - 1, [], last=number - 1)

    def undo(self) -> int:
        """Takes the last edit that is on back, and says which one that was. Raises `EditError` when there is none."""
        entries = self._state.entries
        on = [place for place, entry in enumerate(entries) if entry.on]
        if not on:
            raise EditError("There is no edit to undo.", "Apply one first.")
        entry = replace(entries[on[-1]], on=False, overwritten=())
        self._replace(on[-1], entries[on[-1] + 1 :], undone=(*self._state.undone, entry))
        return entry.number

    def redo(self, number: int | None = None) -> int:
        """Makes an undone edit again, after all others: the one named, or the one undone last."""
        undone = self._state.undone
        if not undone:
            raise EditError("There is no undone edit to bring back.", "Undo one first.")
        found = [entry for entry in undone if number in (None, entry.number)]
        if not found:
            raise EditError(f"There is no undone edit {number}.", f"Undone: {_numbers(undone)}.")
        entry = found[-1]
        others = tuple(other for other in undone if other.number != entry.number)
        self._replace(len(self._state.entries), [replace(entry, on=True)], undone=others)
        return entry.number

    def switch(self, number: int, *, on: bool) -> None:
        """Switches an edit off or on in its place. Raises `EditError` for one that is not there."""
        place = self._place(number)
        entry, *above = self._state.entries[place:]
        if entry.on != on:
            self._replace(place, [replace(entry, on=on, overwritten=()), *above])

    def _replace(
        self, place: int, wanted: Sequence[Entry], *, undone: tuple[Entry, ...] | None = None, last: int | None = None
    ) -> None:
        """Puts the edits `wanted` where those from `place` on are. Raises `EditError` before anything is changed;
        whatever else ends it early leaves the bits and the journal as they were."""
        before = self._state
        taken = [entry for entry in before.entries[place:] if entry.on]
        touched = [change for entry in (*taken, *wanted) if entry.on for change in entry.changes]
        left = self._checked(touched)
        steps = Steps(self._weight)
        try:
            for entry in reversed(taken):
                for change, overwritten in reversed(list(zip(entry.changes, entry.overwritten, strict=True))):
                    steps.take_back(change, overwritten)
            made = [
                replace(entry, overwritten=tuple(steps.make(change) for change in entry.changes)) if entry.on else entry
                for entry in wanted
            ]
            left |= {name: tensor_sha256(self._weight(name)) for name in {change.name for change in touched}}
            self._state = _State(
                (*before.entries[:place], *made),
                before.undone if undone is None else undone,
                left,
                before.last if last is None else last,
            )
        except BaseException:
            if self._state is before:
                steps.reverse()
            raise

    def total(self) -> list[SparseChange]:
        """All edits that are on as one: for every touched parameter, the entries that differ from the base."""
        names = sorted({change.name for entry in self._state.entries if entry.on for change in entry.changes})
        return [change for change in map(self._total_of, names) if change.positions]

    @torch.no_grad()
    def _total_of(self, name: str) -> SparseChange:
        edited = self._weight(name).clone()
        base = edited.clone()
        for entry in reversed(self._state.entries):
            for change, overwritten in reversed(list(zip(entry.changes, entry.overwritten, strict=False))):
                if entry.on and change.name == name:
                    take_back(base, change, overwritten)
        indices = (bits(base) != bits(edited)).flatten().nonzero()[:, 0]
        return SparseChange(name, tuple(edited.shape), indices, edited.flatten()[indices])

    def _place(self, number: int) -> int:
        places = [place for place, entry in enumerate(self._state.entries) if entry.number == number]
        if not places:
            there = _numbers(self._state.entries) or "none"
            raise EditError(f"There is no edit {number} in the journal.", f"Edits: {there}.")
        return places[0]

    def _checked(self, changes: Sequence[Change]) -> dict[str, str]:
        """What the journal left where it ever wrote, and what stands where `changes` will. Raises `EditError`."""
        for change in changes:
            shape = tuple(self._weight(change.name).shape)
            if shape != change.shape:
                raise EditError(
                    f"{change.name} has shape {shape} here and {change.shape} in the edit.", "Open its base."
                )
        left = dict(self._state.left)
        for name in dict.fromkeys(change.name for change in changes):
            found = tensor_sha256(self._weight(name))
            if left.get(name, found) != found or (name not in left and self._differs_from_file(name)):
                raise EditError(f"{name} was changed by something else since it was opened.", "Open the model again.")
            left[name] = found
        return left

    def _differs_from_file(self, name: str) -> bool:
        """Whether a parameter is not what its file says; False where the files do not hold it under a known name."""
        weight = self._weight(name)
        try:
            stored = self._files[stored_name(name, self._files)].read()
        except KnowscopeError:
            return False
        if stored.shape != weight.shape:
            return False
        return not torch.equal(bits(stored.to(weight.dtype)), bits(weight.cpu()))

    @cached_property
    def _files(self) -> dict[str, StoredTensor]:
        """The stored tensors of the model; none of one that was not opened from files."""
        try:
            return tensors_in(base_folder(self._lm.source))
        except KnowscopeError:
            return {}

    def _weight(self, name: str) -> Tensor:
        weight: Tensor = self._lm.model.get_parameter(name).detach()
        return weight


def _numbers(entries: Sequence[Entry]) -> str:
    return ", ".join(str(entry.number) for entry in entries)
