"""What each room loads when it is imported. The import contracts in pyproject.toml say what it may name."""

from __future__ import annotations

import subprocess
import sys

import pytest

TENSORS = ("torch", "transformers", "sae_lens", "tokenizers", "safetensors", "numpy", "huggingface_hub")
SCREENS = ("textual", "rich", "click")


def _loaded(module: str, heavy: tuple[str, ...]) -> list[str]:
    """Which of `heavy` an interpreter holds after importing `module` and nothing else."""
    code = f"import sys, {module}; print(*(name for name in {heavy!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("knowscope_tui", TENSORS + SCREENS),
        ("knowscope_tui.config", TENSORS + SCREENS),
        ("knowscope_tui.session.protocol", TENSORS + SCREENS),
        ("knowscope_tui.session.runner", TENSORS + SCREENS),
        ("knowscope_tui.demo.corpus", TENSORS + SCREENS),
        ("knowscope_tui.demo.bundle", TENSORS + SCREENS),
        ("knowscope_tui.bench.result", TENSORS + SCREENS),
        ("knowscope_tui.bench.threads", TENSORS + SCREENS),
        ("knowscope_tui.cli.main", (*TENSORS, "textual", "rich.console")),
        ("knowscope_tui.cli.render", (*TENSORS, "textual")),
        ("knowscope_tui.cli.render_edit", (*TENSORS, "textual")),
        ("knowscope_tui.cli.render_bench", (*TENSORS, "textual")),
        ("knowscope_tui.cli.render_study", (*TENSORS, "textual")),
        ("knowscope_tui.cli.card", (*TENSORS, "textual")),
        ("knowscope_tui.tui.app", TENSORS),
        ("knowscope_tui.engine.model", SCREENS),
    ],
)
def test_a_room_loads_only_what_it_needs(module: str, heavy: tuple[str, ...]) -> None:
    assert _loaded(module, heavy) == []
