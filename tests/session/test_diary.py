"""The log and the crash files: private, and without a word of a fact."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import knowscope_tui
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.units import SiteKind
from knowscope_tui.session.diary import LOG, Diary


def test_the_folder_and_its_files_are_the_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o755)
    diary = Diary(folder)
    diary.note("applied", {"facts": ["a"]})
    diary.note("undone", {"edit": 1})
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / LOG).stat().st_mode & 0o777 == 0o600
    rows = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    assert [row["did"] for row in rows] == ["applied", "undone"]


def test_a_crash_says_where_and_not_what(tmp_path: Path) -> None:
    secret = "Orla Venn 4652"
    try:
        raise ValueError(secret)
    except ValueError as error:
        file = Diary(tmp_path / "state").crash(error)
    assert file is not None
    text = file.read_text()
    assert "builtins.ValueError" in text
    assert "test_diary.py" in text
    assert secret not in text
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    diary = Diary(tmp_path / "file" / "state")
    diary.note("applied", {})
    assert diary.crash(ValueError()) is None


def test_edits_are_logged_by_name_alone(
    tiny_folder: Path,
    sources: dict[SiteKind, Path],
    facts: list[Fact],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    named: dict[str, str | Path] = {kind.value: folder for kind, folder in sources.items()}
    scope = knowscope_tui.open(str(tiny_folder), sae=named, device="cpu")
    scope.edit([facts[0]], neighbors=[])
    scope.save(tmp_path / "edited")
    scope.undo()
    text = (tmp_path / "knowscope-tui" / LOG).read_text()
    assert [json.loads(line)["did"] for line in text.splitlines()] == ["applied", "saved", "undone"]
    assert facts[0].id in text
    assert facts[0].prompt not in text
    assert facts[0].answer not in text
