"""The folder beside a ranking's target that holds what is finished of it, so that a run that was stopped goes on.

    ranks.parquet.parts/
        asked.json            what was asked: model, dictionaries, facts, options, program
        part-000012.parquet   some facts, named by the first of them

Each file is there whole or not at all (see `written`). The folder goes when the target is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from knowscope_tui.core.configuration import WORDS, Json, differences, read_configuration
from knowscope_tui.core.ranks import FactRanks
from knowscope_tui.core.written import PARTIAL, cannot_write, written_beside
from knowscope_tui.engine.locks import alone_in
from knowscope_tui.errors import SaveError
from knowscope_tui.session.rank_table import Part, read_part, write_part

ASKED, LOCK = "asked.json", "lock"


def parts_folder(target: Path) -> Path:
    return target.with_name(f"{target.name}.parts")


class RankParts:
    """The parts in `folder`, which no other process touches meanwhile (see `open_parts`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts: list[Part] = []
        self.remarks: list[str] = []
        """What was found wrong, each in a sentence."""

    @property
    def facts(self) -> set[int]:
        """Those that are finished."""
        return {number for part in self.parts for number in part.facts}

    def add(self, facts: Sequence[FactRanks]) -> None:
        """Keeps some facts more. Raises `SaveError`."""
        path = self.folder / f"part-{min(ranks.number for ranks in facts):06}.parquet"
        with written_beside(path) as file:
            groups = write_part(file, facts)
        self.parts.append(Part(path, groups))

    def clear(self) -> None:
        """Removes every part and what was asked; files that are not this program's stay."""
        self.parts.clear()
        for path in [*self._files(), *self.folder.glob(f".*{PARTIAL}"), self.folder / ASKED]:
            _remove(path)

    def agree(self, asked: Json) -> None:
        """Raises `SaveError` where finished parts are of something else than `asked`; without any it is noted."""
        note = self.folder / ASKED
        if self._files():
            before = read_configuration(note)
            if before != asked:
                raise SaveError(
                    f"{str(self.folder)!r} holds parts of another ranking, {_difference(before, asked)}.",
                    "Give the command that began it, or --restart to begin anew.",
                )
            return
        with written_beside(note) as file:
            file.write(json.dumps(asked, indent=2).encode())

    def read(self) -> None:
        """Finds what is finished. A part that is cut short or damaged is removed, to be measured again."""
        for path in self._files():
            part = read_part(path)
            if part is not None:
                self.parts.append(part)
                continue
            _remove(path)
            self.remarks.append(f"The part {path.name!r} was damaged, and its facts were measured again.")

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))


@contextmanager
def open_parts(target: Path, asked: Json, *, restart: bool = False) -> Iterator[RankParts]:
    """The parts of `target` that earlier runs finished.

    Raises `SaveError`: the folder cannot be written, another process is at it, or it holds parts of something else
    than `asked` and is not to be begun anew.
    """
    folder = parts_folder(target)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from None
    parts = RankParts(folder)
    with _alone(folder):
        if restart:
            parts.clear()
        parts.agree(asked)
        parts.read()
        yield parts


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Within the block no other process works in `folder`. Afterwards it goes, if nothing is left in it."""
    with alone_in(folder, LOCK):
        try:
            yield
        finally:
            if not (folder / ASKED).exists():
                with suppress(OSError):
                    (folder / LOCK).unlink(missing_ok=True)
                    folder.rmdir()


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None


_WORDS = {**WORDS, "neurons": "--neurons"}


def _difference(before: Json | None, asked: Json) -> str:
    """What is not as it was, in words."""
    if not before:
        return "and what it was cannot be read"
    return f"which differs in {', '.join(differences(before, asked, _WORDS))}"
