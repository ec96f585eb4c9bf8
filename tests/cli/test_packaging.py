"""What the wheel carries, and what the project's files say about one another."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tomli

from knowscope_tui import __version__
from knowscope_tui.demo import bundle

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in the wheel."""
    place = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (file,) = place.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        return set(archive.namelist())


def test_the_wheel_carries_what_the_program_reads(wheel: set[str]) -> None:
    for file in (ROOT / "themes").glob("*.toml"):
        assert f"knowscope_tui/themes/{file.name}" in wheel
    for name in ("public", "private", "general"):
        assert f"knowscope_tui/demo/data/{name}.toml" in wheel
    assert "knowscope_tui/tui/app.tcss" in wheel
    assert "knowscope_tui/py.typed" in wheel
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def test_the_wheel_carries_the_whole_demo(wheel: set[str]) -> None:
    folder = bundle.folder()
    names = {f"knowscope_tui/demo/bundle/{file.relative_to(folder)}" for file in folder.rglob("*") if file.is_file()}
    assert len(names) > 10
    assert names <= wheel


def test_the_wheel_carries_nothing_else(wheel: set[str]) -> None:
    assert {name.split("/")[0] for name in wheel} == {"knowscope_tui", f"knowscope_tui-{__version__}.dist-info"}


def _pinned() -> dict[str, list[str]]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins: dict[str, list[str]] = {}
    for line in lines:
        if line and not line.startswith("#"):
            name, equals, version = line.partition("==")
            assert equals, line
            pins.setdefault(name, []).append(version)
    return pins


def test_everything_declared_is_pinned() -> None:
    project = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    declared = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["dev"],
        *project["build-system"]["requires"],
    ]
    names = {re.split(r"[<>=!\[ ;]", requirement)[0] for requirement in declared}
    assert names <= set(_pinned())


def test_torch_is_the_version_that_was_asked_for() -> None:
    assert _pinned()["torch"] == ["2.13.0"]


def test_continuous_integration_runs_the_developers_command() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").splitlines()[-1] == "make test"


def test_make_says_what_python_it_needs(tmp_path: Path) -> None:
    old = tmp_path / "python-old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text(encoding="utf-8"))
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    done = subprocess.run(["make", "demo", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "needs Python 3.10 or later" in done.stderr
    assert "Traceback" not in done.stderr
