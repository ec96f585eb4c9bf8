"""Files are there whole or not at all, each writer for itself, and safe on the disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from knowscope_tui.core.written import A_DAY, check_target, make_folder, written_beside
from knowscope_tui.errors import SaveError
from tests.disk import Disk


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    target = tmp_path / "x"
    with written_beside(target) as one:
        one.write(b"one" * 100)
        with written_beside(target) as other:
            other.write(b"other")
        assert target.read_bytes() == b"other"
        one.write(b"!")
    assert target.read_bytes() == b"one" * 100 + b"!"
    assert os.listdir(tmp_path) == ["x"]


def test_bytes_are_safe_before_the_name_and_the_name_after(tmp_path: Path, disk: Disk) -> None:
    with written_beside(tmp_path / "x") as file:
        file.write(b"content")
    synced = disk.calls[0][1]
    assert synced.name.endswith(".partial")
    assert disk.calls == [("fsync", synced), ("rename", tmp_path / "x"), ("fsync", tmp_path)]


def test_what_a_killed_writer_left_is_taken_away_a_day_later(tmp_path: Path) -> None:
    for name, age in ((".x.1.partial", A_DAY + 60), (".x.2.partial", 60), (".y.1.partial", A_DAY + 60)):
        (tmp_path / name).write_bytes(b"half")
        then = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (then, then))
    with written_beside(tmp_path / "x") as file:
        file.write(b"whole")
    assert sorted(os.listdir(tmp_path)) == [".x.2.partial", ".y.1.partial", "x"]


def test_a_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with written_beside(tmp_path / "x") as file:
            file.write(b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_the_parents_that_are_made_are_safe_on_the_disk(tmp_path: Path, disk: Disk) -> None:
    make_folder(tmp_path / "a" / "b")
    assert disk.synced == [tmp_path, tmp_path / "a"]
    make_folder(tmp_path / "a" / "b")
    assert len(disk.synced) == 2


def test_a_target_that_is_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(SaveError, match="already exists"):
        check_target(tmp_path / "x")
