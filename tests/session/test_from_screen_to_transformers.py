"""The whole way: the terminal UI on the real demo, an edit, a save, and plain `transformers` by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from textual.pilot import Pilot
from textual.widgets import Input

from knowscope_tui.session.protocol import SourceSpec
from knowscope_tui.tui.app import KnowscopeApp

PROMPT = "The capital of France is"
ASK = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = (kind.from_pretrained(sys.argv[1]) for kind in (AutoModelForCausalLM, AutoTokenizer))
inputs = tokenizer(sys.argv[2], return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=4, do_sample=False)[0], skip_special_tokens=True))
assert not any(name.startswith("knowscope_tui") for name in sys.modules)
"""


async def idle(app: KnowscopeApp, pilot: Pilot[None]) -> None:
    for _ in range(4000):
        await pilot.pause(0.05)
        if app.desk.doing is None:
            await pilot.pause()
            return
    raise AssertionError("the session did not become idle")


def says_answer(app: KnowscopeApp) -> bool:
    """Whether the main screen shows the fact as known."""
    reading = app.main.scope.reading
    assert reading is not None
    assert reading.prompt == PROMPT
    return reading.says_answer


async def test_a_checkpoint_saved_from_the_screen_no_longer_gives_the_answer(tmp_path: Path) -> None:
    folder = tmp_path / "edited"
    app = KnowscopeApp(SourceSpec())
    async with app.run_test(size=(120, 36)) as pilot:
        await idle(app, pilot)
        assert says_answer(app)
        for keys in ("e", "a", "escape", "s"):
            await pilot.press(keys)
            await idle(app, pilot)
        app.screen.query_one(Input).value = str(folder)
        await pilot.press("enter")
        await idle(app, pilot)
        assert not app.main.scope.unsaved
        assert not says_answer(app)
    said = subprocess.run(
        [sys.executable, "-c", ASK, str(folder), PROMPT], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout
    assert said.startswith(PROMPT)
    assert "Paris" not in said
