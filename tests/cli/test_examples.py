"""The examples and the README's commands run on the embedded demo, and the keys of the walk exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _run(command: list[str], place: Path) -> str:
    """stdout of `command` in the folder `place`, with this environment's programs first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONUTF8": "1"}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_walk_on_the_command_line(tmp_path: Path) -> None:
    said = _run(["bash", str(ROOT / "examples" / "cli.sh")], tmp_path)
    assert "→ Paris" in said
    assert "ΔProb" in said
    assert "Saved to " in said
    assert "✓ Every edited entry is as recorded" in said


def test_the_walk_in_python(tmp_path: Path) -> None:
    said = _run([sys.executable, str(ROOT / "examples" / "python_api.py")], tmp_path)
    assert "P(Paris)" in said
    last = said.strip().splitlines()[-1]
    assert last.startswith("plain transformers says: The capital of France is")
    assert "Paris" not in last


def _readme_blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_the_commands_in_the_readme_print_what_it_shows(tmp_path: Path) -> None:
    (block,) = _readme_blocks("console")
    commands = [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
    shown = [line for line in block.splitlines() if not line.startswith("$ ") and "edited" not in line]
    assert len(commands) == 7
    assert len(shown) >= 8
    said = " ".join(_run(["bash", "-euo", "pipefail", "-c", "\n".join(commands)], tmp_path).split())
    for line in shown:
        assert " ".join(line.split()) in said


def test_the_python_in_the_readme(tmp_path: Path) -> None:
    (block,) = _readme_blocks("python")
    _run([sys.executable, "-c", block], tmp_path)
    assert (tmp_path / "edited-in-python" / "config.json").is_file()


@pytest.mark.parametrize(
    "key", re.findall(r"^\| `([^`]+)` \|", (ROOT / "examples" / "tui.md").read_text(), re.MULTILINE)
)
def test_the_keys_of_the_walk_exist(key: str) -> None:
    from textual.binding import Binding

    from knowscope_tui.tui.screens.edit import EditScreen
    from knowscope_tui.tui.screens.main import MainScreen
    from knowscope_tui.tui.widgets.units import UnitsTable

    bindings = [*MainScreen.BINDINGS, *EditScreen.BINDINGS, *UnitsTable.BINDINGS]
    bound = {one for binding in bindings if isinstance(binding, Binding) for one in binding.key.split(",")}
    assert {"/": "slash", "?": "question_mark"}.get(key, key) in bound
