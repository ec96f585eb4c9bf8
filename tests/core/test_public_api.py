"""The package's front door: light to import, and every public name is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import knowscope_tui

HEAVY = ("torch", "transformers", "numpy", "sae_lens", "tokenizers", "safetensors", "textual", "rich", "click")


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import sys, knowscope_tui; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_core_loads_the_standard_library_only() -> None:
    code = (
        "import sys, knowscope_tui.core.as_json, knowscope_tui.session.protocol;"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", knowscope_tui.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(knowscope_tui, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = knowscope_tui.nonsense
