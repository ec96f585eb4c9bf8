"""A folder is there whole or not at all: who may take it away, what is safe on the disk, and its permissions."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from knowscope_tui.engine.saving import folder as folders
from knowscope_tui.engine.saving.folder import AN_HOUR, LOCK, beside
from tests.disk import Disk


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def aged(folder: Path, seconds: float) -> Path:
    """`folder`, as if it had been touched last so long ago."""
    then = folder.stat().st_mtime - seconds
    os.utime(folder, (then, then))
    return folder


@pytest.mark.parametrize("how", [fcntl.LOCK_EX, fcntl.LOCK_SH], ids=["exclusive", "shared"])
def test_nobody_else_can_take_the_lock_of_a_folder_that_is_filled(tmp_path: Path, how: int) -> None:
    with beside(tmp_path / "x") as partial:
        other = os.open(partial / LOCK, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, how | fcntl.LOCK_NB)
        os.close(other)


def test_a_second_save_leaves_the_first_ones_folder_alone(tmp_path: Path) -> None:
    with beside(tmp_path / "x") as first:
        (first / "a").write_text("first")
        with beside(tmp_path / "x") as second:
            assert second != first
        assert (first / "a").read_text() == "first"
        os.rename(tmp_path / "x", tmp_path / "y")
    assert sorted(os.listdir(tmp_path)) == ["x", "y"]


def test_a_folder_is_seen_with_a_lock_that_is_held_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between making it and locking it another save looks."""
    flock = fcntl.flock
    seen: list[bool] = []

    def looked_at(handle: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        (partial,) = tmp_path.iterdir()
        seen.append(folders._abandoned(partial))
        flock(handle, how)
        seen.append(folders._abandoned(partial))

    monkeypatch.setattr(fcntl, "flock", looked_at)
    with beside(tmp_path / "x") as partial:
        seen.append(folders._abandoned(partial))
    assert seen == [False, False, False]


@pytest.mark.parametrize(
    ("locked", "age", "stays"), [(True, 0, False), (False, 60, True), (False, AN_HOUR + 60, False)]
)
def test_what_a_killed_process_left_is_taken_away(tmp_path: Path, locked: bool, age: float, stays: bool) -> None:
    left = tmp_path / ".x.abc.partial"
    left.mkdir()
    (left / "half").write_bytes(b"half")
    if locked:
        (left / LOCK).touch()
    aged(left, age)
    with beside(tmp_path / "x"):
        assert left.exists() == stays


def test_where_there_are_no_locks_nothing_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(_handle: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with beside(tmp_path / "x") as first:
        aged(first, 2 * AN_HOUR)
        with beside(tmp_path / "x"):
            assert first.exists()
        os.rmdir(tmp_path / "x")
    assert os.listdir(tmp_path) == ["x"]
    assert list((tmp_path / "x").iterdir()) == []


def test_every_file_is_safe_before_the_folder_has_its_name(tmp_path: Path, disk: Disk) -> None:
    base = tmp_path / "base"
    base.write_bytes(b"linked")
    target = tmp_path / "made" / "here" / "x"
    with beside(target) as partial:
        (partial / "own").write_bytes(b"own")
        os.link(base, partial / "linked")
    renamed = disk.place("rename", target)
    for path in (tmp_path, tmp_path / "made", partial / "own", partial / "linked", partial):
        assert disk.place("fsync", path) < renamed
    assert disk.place("fsync", partial) > disk.place("fsync", partial / "own")
    assert disk.calls[renamed + 1 :] == [("fsync", target), ("fsync", target.parent)]


def test_the_lock_is_there_until_everything_is_safe_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed meanwhile leaves a folder that the next one knows for abandoned."""
    fsync = os.fsync
    seen: list[bool] = []

    def killed_here(handle: int) -> None:
        seen.extend((left / LOCK).exists() for left in tmp_path.glob(".x.*"))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", killed_here)
    with beside(tmp_path / "x") as partial:
        (partial / "own").write_bytes(b"own")
    assert len(seen) >= 2
    assert all(seen)


@pytest.mark.usefixtures("umask")
def test_a_finished_folder_has_the_permissions_of_any_other_and_an_unfinished_one_is_private(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with beside(tmp_path / "x") as partial:
        (partial / "own").write_bytes(b"own")
        assert stat.S_IMODE(partial.stat().st_mode) == 0o700
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert stat.S_IMODE((tmp_path / "x" / "own").stat().st_mode) == 0o640
    assert os.listdir(tmp_path / "x") == ["own"]
