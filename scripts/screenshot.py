"""Takes the pictures of the documentation: runs the terminal program on the demo, unseen, and saves a screen as SVG.

python scripts/screenshot.py                              # the main screen, to docs/screenshot.svg
python scripts/screenshot.py --screen edit --size 80x24 --theme knowscope-light --output edit.svg
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from textual.pilot import Pilot

from knowscope_tui.session.protocol import SourceSpec
from knowscope_tui.tui.app import KnowscopeApp
from knowscope_tui.tui.themes import DEFAULT_THEME

KEYS: dict[str, tuple[str, ...]] = {
    "main": (),
    "library": ("l",),
    "edit": ("e", "p"),
    "save": ("e", "a", "escape", "s"),
    "help": ("question_mark",),
}
PATIENCE = 300.0
"""Seconds to wait for the session: loading torch on a busy machine takes long."""


async def settle(app: KnowscopeApp, pilot: Pilot[None]) -> None:
    """Waits until the session has answered everything and the screen is drawn."""
    for _ in range(round(PATIENCE / 0.05)):
        await pilot.pause(0.05)
        if not app.desk.busy:
            break
    else:
        raise SystemExit("The session did not become idle in time.")
    await pilot.pause(0.2)


async def take(screen: str, units: int, size: tuple[int, int], theme: str, fact: str | None) -> str:
    """The SVG of `screen`, with the `units` strongest units switched off."""
    app = KnowscopeApp(SourceSpec(), theme=theme)
    async with app.run_test(size=size) as pilot:
        await pilot.pause(0.2)
        await settle(app, pilot)
        if app.main.scope.reading is None:
            raise SystemExit("The demo could not be read: " + "; ".join(note.message for note in app._notifications))
        if fact is not None:
            await pilot.press("i", "ctrl+u", *fact, "enter")
            await settle(app, pilot)
        for number in range(units):
            await pilot.press(*(("down",) if number else ()), "space")
            await settle(app, pilot)
        for key in KEYS[screen]:
            await pilot.press(key)
            await settle(app, pilot)
        app.clear_notifications()
        await settle(app, pilot)
        return readable(app.export_screenshot(title="knowscope-tui"))


def readable(svg: str) -> str:
    """`svg` with the blanks in front of texts kept by every viewer."""
    return svg.replace("<text ", '<text xml:space="preserve" ')


def size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--screen", choices=tuple(KEYS), default="main")
    parser.add_argument("--units", type=int, default=1, help="how many of the strongest units to switch off")
    parser.add_argument("--size", type=size, default=(120, 36), metavar="WxH")
    parser.add_argument("--theme", default=DEFAULT_THEME)
    parser.add_argument("--fact", help="a prompt of its own in place of the demo's first fact")
    default = Path(__file__).resolve().parents[1] / "docs" / "screenshot.svg"
    parser.add_argument("--output", type=Path, default=default)
    chosen = parser.parse_args()
    svg = asyncio.run(take(chosen.screen, chosen.units, chosen.size, chosen.theme, chosen.fact))
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    chosen.output.write_text(svg, encoding="utf-8")
    print(f"Saved {chosen.output}")


if __name__ == "__main__":
    main()
