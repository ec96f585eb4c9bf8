"""How the tests run the command line: words in, exit code and both streams out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from knowscope_tui.cli.main import main
from knowscope_tui.cli.options import Shared
from knowscope_tui.core.facts import Fact, write_facts
from knowscope_tui.core.memory import MemoryPlan
from knowscope_tui.core.units import SiteKind
from tests.cli.stand_in import StandInScope, StandInShelf

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the configuration of whoever runs it, or writes to their cache."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KNOWSCOPE_DEBUG", raising=False)


@pytest.fixture
def run() -> Run:
    """Runs the command line in this process."""

    def run_words(*words: str) -> Result:
        return CliRunner().invoke(main, list(words))

    return run_words


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandInScope:
    """A scope without a model, which every verb opens instead of one."""
    scope = StandInScope()

    def open_stand_in(options: Shared, _tell: object, on_plan: Callable[[MemoryPlan], None] = lambda plan: None) -> Any:
        scope.source = options.source()
        on_plan(scope.plan)
        return scope

    def plan_stand_in(options: Shared, _tell: object) -> MemoryPlan:
        scope.source = options.source()
        return scope.plan

    monkeypatch.setattr(Shared, "open", open_stand_in)
    monkeypatch.setattr(Shared, "plan", plan_stand_in)
    return scope


@pytest.fixture
def configure(tmp_path: Path) -> Callable[[str], None]:
    """Writes the configuration file."""

    def write(content: str) -> None:
        folder = tmp_path / "configuration" / "knowscope-tui"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.toml").write_text(content)

    return write


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> StandInShelf:
    """Releases and a cache that need no hub and no disk."""
    from knowscope_tui.session import shelf as real

    stand_in = StandInShelf()
    for name in ("releases", "release", "pull", "cached", "verify_cache", "prune_cache"):
        monkeypatch.setattr(real, name, getattr(stand_in, name))
    return stand_in


@pytest.fixture
def process() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command line in a process of its own."""

    def run_process(*words: str, **extra: Any) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONUTF8": "1"} | extra.pop("env", {})
        command = [sys.executable, "-m", "knowscope_tui", *words]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=240, check=False, **extra
        )

    return run_process


@pytest.fixture
def tiny_words(tiny_folder: Path, sources: dict[SiteKind, Path]) -> list[str]:
    """The options that open the tiny model with its dictionaries."""
    words = ["--model", str(tiny_folder), "--device", "cpu"]
    for kind, folder in sources.items():
        words += ["--sae", f"{kind.value}={folder}"]
    return words


@pytest.fixture
def fact_file(tmp_path: Path) -> Callable[[list[Fact]], str]:
    """Writes a fact file; its name."""

    def write(facts: list[Fact]) -> str:
        file = tmp_path / f"facts-{len(list(tmp_path.glob('facts-*')))}.jsonl"
        write_facts(facts, file)
        return str(file)

    return write


def strict_json(text: str) -> Any:
    """What `text` says as JSON that knows no NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def unopened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test that opens a model."""

    def opened(*_rest: object) -> None:
        raise AssertionError("a model was opened")

    monkeypatch.setattr(Shared, "open", opened)
