"""A run's folder: what is measured is kept at once, what an earlier run measured is found, one process writes."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from knowscope_tui.core.configuration import Json
from knowscope_tui.core.studies import Row
from knowscope_tui.core.written import PARTIAL, cannot_read, cannot_write, written_beside
from knowscope_tui.engine.locks import alone_in
from knowscope_tui.errors import SaveError
from knowscope_tui.studies.run_folder.configuration import CONFIG, check_same, noted_in
from knowscope_tui.studies.run_folder.rows import Items, read_rows, storable, write_rows

LOCK, PARTS, ROWS, DAMAGED, CACHE = ".lock", "parts", "rows.parquet", "damaged", "cache"
TABLES, PLOTS, FINDINGS, HTML, MARKDOWN = "tables", "plots", "findings.json", "report.html", "REPORT.md"
"""What is written of a finished run, beside its rows."""


class RunFolder:
    """The run in `folder`, to which no other process writes meanwhile (see `open_run`)."""

    def __init__(self, folder: Path, asked: Json, made_with: Json) -> None:
        self.folder = folder
        self.asked = asked
        self.made_with = made_with
        """The command that makes it again, versions, and under `remarks` what was found wrong, a sentence each."""
        self.items: dict[str, Sequence[Row]] = {}
        """Key → rows of what is measured, in no order."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was found wrong, each in a sentence."""
        return tuple(self.made_with.get("remarks") or ())

    @property
    def cache(self) -> Path:
        return self.folder / CACHE

    def has(self, key: str) -> bool:
        """Whether the item is measured."""
        return storable(key) in self.items

    def rows(self, keys: Sequence[str]) -> list[Row]:
        """The rows of what is measured of `keys`, in their order."""
        return [row for key in keys for row in self.items.get(storable(key), ())]

    def add(self, items: Items, number: int) -> None:
        """Keeps some items more in a part of this `number`. Raises `SaveError`."""
        told: dict[str, Sequence[Row]] = {}
        for name, rows in items.items():
            key = {"key": storable(name)}
            told[key["key"]] = [key | dict(row) | key for row in rows]
        with written_beside(self.folder / PARTS / f"part-{number:06}.parquet") as file:
            write_rows(file, told, self.asked)
        self.items |= told

    def finish(self, keys: Sequence[str]) -> None:
        """Makes one file of the parts, in the order of `keys`, all of which are measured. Raises `SaveError`."""
        target = self.folder / ROWS
        parts = sorted((self.folder / PARTS).glob("part-*.parquet"))
        if parts or not target.exists():
            with written_beside(target) as file:
                write_rows(file, {key: self.items[key] for key in map(storable, keys)}, self.asked)
        self.items = _whole(target, self.asked)
        for part in parts:
            _remove(part)
        with suppress(OSError):
            (self.folder / PARTS).rmdir()

    def took(self, items: int, seconds: float) -> None:
        """Notes that so many items more were measured in `seconds`, the time to prepare for them included."""
        before = self.made_with.get("measured") or {}
        self.made_with["measured"] = {
            "items": before.get("items", 0) + items,
            "seconds": round(before.get("seconds", 0.0) + seconds, 1),
        }
        self.note()

    def note(self, *remarks: str) -> None:
        """Writes the configuration, with `remarks` more. Raises `SaveError`."""
        if remarks:
            self.made_with["remarks"] = list(dict.fromkeys([*self.remarks, *remarks]))
        with written_beside(self.folder / CONFIG) as file:
            file.write(json.dumps({"asked": self.asked, "made_with": self.made_with}, indent=2).encode())

    def read(self) -> None:
        """Finds what is measured. A file that is cut short, damaged or another run's is set aside, to be measured
        again; what was being written when a run was killed goes."""
        for folder in (self.folder, self.folder / PARTS):
            for partial in folder.glob(f".*{PARTIAL}"):
                _remove(partial)
        for path in [self.folder / ROWS, *sorted((self.folder / PARTS).glob("part-*.parquet"))]:
            if not path.exists():
                continue
            items = read_rows(path, self.asked)
            if items is None:
                self._set_aside(path)
            else:
                self.items |= items

    def _set_aside(self, path: Path) -> None:
        aside = self.folder / DAMAGED / path.name
        number = 1
        while aside.exists():
            number += 1
            aside = aside.with_name(f"{path.stem}-{number}{path.suffix}")
        try:
            aside.parent.mkdir(exist_ok=True)
            path.replace(aside)
        except OSError as error:
            raise cannot_write(path, error) from None
        self.note(
            f"The file {path.name!r} was damaged; it was set aside as {f'{DAMAGED}/{aside.name}'!r}, and what it held "
            "was measured again."
        )

    def clear(self) -> None:
        """Removes the run: its rows, cache and pages, and at last its configuration, so that what is left of a run
        whose removal was cut short is still known for one. Files that are not the run's stay. Raises `SaveError`."""
        self.items = {}
        for name in (PARTS, DAMAGED, CACHE, TABLES, PLOTS):
            try:
                shutil.rmtree(self.folder / name)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise cannot_write(self.folder / name, error) from None
        for name in (ROWS, FINDINGS, HTML, MARKDOWN, CONFIG):
            _remove(self.folder / name)


@contextmanager
def open_run(
    folder: Path, asked: Json, made_with: Mapping[str, object] = {}, *, restart: bool = False
) -> Iterator[RunFolder]:
    """The run of what is `asked` in `folder`, which is made if need be, with what earlier runs measured.

    Raises `SaveError`: the folder cannot be written, another process is at it, it holds something else than such a
    run, and that is not to be thrown away.
    """
    _make(folder)
    _check_empty(folder)
    run = RunFolder(folder, asked, dict(made_with))
    with alone_in(folder, LOCK):
        if restart and noted_in(folder) is not None:
            run.clear()
        before = noted_in(folder)
        if before is None:
            run.note()
        else:
            check_same(folder, before["asked"], asked)
            run.made_with = before["made_with"]
        _make(folder / PARTS)
        _make(run.cache)
        run.read()
        yield run


def check_place(folder: Path, *, several: bool) -> None:
    """Raises `SaveError` for what can be no folder of a study's run, or of the runs of `several` studies below it."""
    if folder.exists() and not folder.is_dir():
        raise cannot_write(folder, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    if not folder.is_dir():
        return
    if not several:
        _check_empty(folder)
    elif noted_in(folder) is not None:
        raise SaveError(f"{str(folder)!r} holds the run of one study.", "Choose another folder for several.")


def read_run(folder: Path) -> RunFolder:
    """The finished run in `folder`, to be reported again; nothing is written. Raises `SaveError`."""
    noted = noted_in(folder)
    if noted is None:
        raise SaveError(f"There is no run of a study in {str(folder)!r}.", "Name a folder that `study` wrote.")
    run = RunFolder(folder, noted["asked"], noted["made_with"])
    if not (folder / ROWS).exists():
        raise SaveError(f"The run in {str(folder)!r} is not finished.", "Give the command that began it again.")
    run.items = _whole(folder / ROWS, run.asked)
    return run


def _whole(path: Path, asked: Json) -> dict[str, Sequence[Row]]:
    items = read_rows(path, asked)
    if items is None:
        raise cannot_read(path, ValueError("it is damaged, or another run's"), "Give the command that made it again.")
    return dict(items)


def _check_empty(folder: Path) -> None:
    """Raises `SaveError` for a folder without a run that holds other things."""
    if (folder / CONFIG).exists():
        return
    others = [path.name for path in folder.iterdir() if path.name not in (LOCK, PARTS, CACHE, DAMAGED)]
    others = [name for name in others if not name.endswith(PARTIAL)]
    if others:
        raise SaveError(
            f"{str(folder)!r} is not empty, and holds no run of a study.",
            "Choose an empty one, or a new name.",
        )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from None


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None
