"""How fluent the terminal program is on the demo: the real app, unseen, with the real session behind it.

    python benchmarks/toggle.py [--toggles 60] [--size 120x36]

- toggle: from a key press (space on a unit) to the answer panel redrawn with what the model answers, while nothing else
  goes on and while a sweep is running. The bar: median below 60 ms, never above 150 ms.
- typing: a fact is typed while sweeps run; every key must arrive.
- longest gap: how late the event loop was for a task that wants to run every 5 ms. The bar: 150 ms.

What a terminal takes to draw what it is sent is not in it. While toggling beside a running sweep, ΔProb is measured
beside what is switched off, so that each toggle asks for a new sweep.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Callable

from textual import events
from textual.widgets import Input

from knowscope_tui.session.protocol import SourceSpec
from knowscope_tui.tui.app import KnowscopeApp
from knowscope_tui.tui.widgets.answer import AnswerPanel
from knowscope_tui.tui.widgets.units import UnitsTable

TICK = 0.005
TEXT = "The capital of Poland is a city on a river that "


class Ticker:
    """Wants to run every `TICK` seconds and writes down how late it was."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self._task = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            due = time.perf_counter() + TICK
            await asyncio.sleep(TICK)
            self.late.append(time.perf_counter() - due)

    def gap(self) -> float:
        """The longest delay since the last call."""
        longest, self.late = max(self.late, default=0.0), []
        return longest


class Watched:
    """The app, with the moments at which the answer panel was drawn."""

    def __init__(self, app: KnowscopeApp) -> None:
        self.app = app
        self.drawn = asyncio.Event()
        self._panel = app.main.query_one(AnswerPanel)
        self._render = self._panel.render
        self._panel.render = self._rendered  # type: ignore[method-assign]

    def _rendered(self):  # type: ignore[no-untyped-def]
        effect = self.app.main.scope.effect
        if effect is not None and effect.ablation == self.app.main.scope.switches.ablation:
            self.drawn.set()
        return self._render()

    @property
    def sweeping(self) -> bool:
        return self.app.main.scope.sweeper.wanted

    async def until(self, holds: Callable[[], object], patience: float = 120.0) -> None:
        end = time.perf_counter() + patience
        while not holds():
            if time.perf_counter() > end:
                raise SystemExit("The program did not get there in time.")
            await asyncio.sleep(0.005)

    def press(self, key: str, character: str | None = None) -> None:
        """What a terminal's driver does with a key."""
        self.app.post_message(events.Key(key, character))

    async def toggle(self) -> float:
        """Seconds from the key press until the answer panel is drawn with the new answer."""
        self.drawn.clear()
        before = self.app.main.scope.switches
        started = time.perf_counter()
        self.press("space", " ")
        await self.until(lambda: self.app.main.scope.switches != before, 10)
        self.drawn.clear()
        await asyncio.wait_for(self.drawn.wait(), 10)
        return time.perf_counter() - started


async def toggles(it: Watched, number: int, sweeping: bool) -> tuple[list[float], int]:
    """How long each of `number` toggles took, and during how many of them a sweep was running."""
    took, during = [], 0
    for at in range(number):
        if sweeping:
            await it.until(lambda: it.app.desk.asking("sweep") and it.app.desk.doing is None)
            await asyncio.sleep(0.01 * (at % 6))  # Not always at the same moment of a sweep.
            during += it.app.desk.asking("sweep")
        else:
            await it.until(lambda: not it.app.desk.busy)
            await asyncio.sleep(0.02)
        took.append(await it.toggle())
        if sweeping or at % 2:
            it.press("down")  # Another unit, so that the next sweep is not one that is known.
    return took, during


async def typing(it: Watched) -> tuple[int, int]:
    """Types `TEXT` while the model sweeps; how many keys arrived, and during how many of them it did."""
    field = it.app.main.query_one("#prompt", Input)
    during = 0
    it.press("i")
    await it.until(lambda: field.has_focus)
    it.press("ctrl+u")
    await it.until(lambda: not field.value)
    for character in TEXT:
        it.press("space" if character == " " else character, character)
        during += it.app.desk.asking("sweep")
        await asyncio.sleep(0.03)
    await asyncio.sleep(0.2)
    arrived = field.value
    return sum(one == other for one, other in zip(arrived, TEXT, strict=False)), during


async def measure(number: int, size: tuple[int, int]) -> None:
    app = KnowscopeApp(SourceSpec())
    async with app.run_test(size=size):
        it, scope = Watched(app), app.main.scope
        await it.until(
            lambda: scope.effect is not None and scope.sweeper.exact is not None and scope.sweeper.exact.ended
        )
        await it.until(lambda: not app.desk.busy)
        app.main.query_one(UnitsTable).focus()
        ticker = Ticker()
        took, _ = await toggles(it, number, sweeping=False)
        print(report("toggle, idle", took, ticker.gap()))
        it.press("g")
        await it.until(lambda: scope.beside)
        await it.toggle()
        it.press("down")
        took, during = await toggles(it, number, sweeping=True)
        print(report("toggle, sweep running", took, ticker.gap()), f"  {during} of {number} during a sweep")
        arrived, during = await typing(it)
        print(f"typing                   {arrived} of {len(TEXT)} keys arrived, {during} during a sweep", end="")
        print(f"   longest gap {ticker.gap() * 1000:.0f} ms")


def report(what: str, took: list[float], gap: float) -> str:
    median, most = statistics.median(took) * 1000, max(took) * 1000
    return f"{what:<24} median {median:.0f} ms   longest {most:.0f} ms   longest gap {gap * 1000:.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toggles", type=int, default=60)
    parser.add_argument("--size", default="120x36")
    chosen = parser.parse_args()
    width, _, height = chosen.size.partition("x")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}")
    asyncio.run(measure(chosen.toggles, (int(width), int(height))))


if __name__ == "__main__":
    main()
