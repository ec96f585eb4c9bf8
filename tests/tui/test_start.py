"""What starting costs: nothing heavy before the first paint."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "transformers", "sae_lens", "numpy", "safetensors", "tokenizers", "knowscope_tui.engine")


def test_importing_the_app_loads_nothing_heavy() -> None:
    code = f"import sys, knowscope_tui.tui.app\nprint([name for name in sys.modules if name.startswith({HEAVY!r})])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_the_first_paint_comes_before_torch() -> None:
    code = """
import asyncio, sys
from knowscope_tui.session.protocol import SourceSpec
from knowscope_tui.tui.app import KnowscopeApp

app = KnowscopeApp(SourceSpec(), theme="knowscope-dark")
app.desk.start = lambda *arguments: None

async def main():
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        strips = app.screen._compositor.render_strips()
        print("Fact" in "".join(strip.text for strip in strips), "torch" in sys.modules)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["True", "False"]
