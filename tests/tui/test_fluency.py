"""The real app on the demo, with the real session: nothing that the model does stands in the way of a person."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import Any

from textual import events
from textual.widgets import Input

from knowscope_tui.session.protocol import Probe, Request, SourceSpec, SweepUnits
from knowscope_tui.tui.app import KnowscopeApp
from knowscope_tui.tui.widgets.units import UnitsTable

LONGEST_GAP = 0.5
"""Generous, because tests run beside one another; `benchmarks/toggle.py` measures what it really is."""
TEXT = "The capital of Poland is a city on a river that rises in"


def endless(stop: threading.Event) -> Any:
    """A real session whose sweeps start over and over until `stop`."""
    from knowscope_tui.session.session import Session

    class Endless(Session):
        def handle(self, request: Request, post: Any, check: Any) -> None:
            super().handle(request, post, check)
            while isinstance(request, SweepUnits) and not stop.is_set():
                # Another look makes the session forget what it measured at this one.
                super().handle(Probe(0, "The capital of Peru is", "Lima"), lambda event: None, check)
                super().handle(request, post, check)

    return Endless()


async def until(holds: Any, what: str) -> None:
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.01)


async def longest_gap(done: asyncio.Event) -> float:
    """How late at most a task was that wants to run every five milliseconds."""
    longest = 0.0
    while not done.is_set():
        due = time.perf_counter() + 0.005
        await asyncio.sleep(0.005)
        longest = max(longest, time.perf_counter() - due)
    return longest


async def test_typing_is_never_blocked_while_a_sweep_runs() -> None:
    stop = threading.Event()
    app = KnowscopeApp(SourceSpec(), lambda: endless(stop), theme="knowscope-dark")
    async with app.run_test(size=(120, 36)) as pilot:
        try:
            scope = app.main.scope
            await until(lambda: scope.sweeper.exact is not None and scope.sweeper.exact.measured, "the sweep")
            await pilot.press("i", "ctrl+u")
            prompt = app.main.query_one("#prompt", Input)
            await until(lambda: not prompt.value, "an empty prompt")
            done = asyncio.Event()
            watch = asyncio.create_task(longest_gap(done))
            assert gc.get_freeze_count() > 100_000, "torch in the garbage collector's sight stops the screen"
            during = 0
            for character in TEXT:
                app.post_message(events.Key("space" if character == " " else character, character))
                during += app.desk.asking("sweep")
                await asyncio.sleep(0.03)
            await until(lambda: prompt.value == TEXT, f"every key; {prompt.value!r} came")
            done.set()
            assert during == len(TEXT)
            assert await watch < LONGEST_GAP
        finally:
            stop.set()


async def test_toggling_the_demo_gives_way_goes_on_and_finds_a_set() -> None:
    app = KnowscopeApp(SourceSpec(), theme="knowscope-dark")
    async with app.run_test(size=(80, 24)) as pilot:
        scope = app.main.scope
        await until(lambda: scope.reading is not None, "a reading")
        app.main.query_one(UnitsTable).focus()
        for _ in range(3):
            await pilot.press("space", "down")
        await until(lambda: scope.effect is not None and scope.effect.ablation == scope.switches.ablation, "the effect")
        await until(lambda: scope.sweeper.exact is not None and scope.sweeper.exact.whole, "all exact values")
        exact = scope.sweeper.exact
        assert exact is not None
        assert exact.measured > 2000
        listed = {row.unit for row in scope.reading.units} if scope.reading is not None else set()
        assert listed <= set(exact.deltas)
        await pilot.press("x", "g", "b")
        await until(lambda: scope.off and not app.desk.busy and not scope.sweeper.wanted, "the smallest set")
        assert scope.effect is not None
        assert scope.effect.ablation == scope.switches.ablation
        assert scope.effect.p_after <= 0.05
        assert scope.sweeper.exact is not None
        assert scope.sweeper.exact.given.units == scope.off
