"""How the tests drive the app: with a stand-in for the session, waiting for what they need and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Static

from knowscope_tui.core.units import Unit
from knowscope_tui.session.protocol import Request, SourceSpec
from knowscope_tui.tui.app import KnowscopeApp
from knowscope_tui.tui.effects import Exact
from knowscope_tui.tui.microscope import Microscope
from knowscope_tui.tui.widgets.units import UnitsTable
from tests.tui.shelf import ShelfStandIn
from tests.tui.stand_in import StandIn

Open = Callable[..., object]


@dataclass
class Driven:
    """An app that runs, with the session and the shelf that stand behind it."""

    app: KnowscopeApp
    pilot: Pilot[None]
    session: StandIn
    shelf: ShelfStandIn

    @property
    def scope(self) -> Microscope:
        return self.app.main.scope

    @property
    def table(self) -> UnitsTable:
        return self.app.main.query_one(UnitsTable)

    @property
    def units(self) -> list[Unit]:
        return [row.unit for row in self.table._rows]

    @property
    def exact(self) -> Exact:
        """What is known of single units, beside what is in view."""
        assert self.scope.sweeper.exact is not None
        return self.scope.sweeper.exact

    @property
    def title(self) -> str:
        """The title of the units' panel, which says how much is measured."""
        return str(self.app.main.query_one("#units-panel").border_title)

    async def until(self, holds: Callable[[], object], what: str = "") -> None:
        """Waits until `holds` does; fails after ten seconds."""
        for _ in range(1000):
            if holds():
                await self.pilot.pause()
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"never came: {what or holds}")

    async def idle(self) -> None:
        """Waits until the session has answered everything and the screen is drawn."""
        await self.pilot.pause()
        await self.until(lambda: not self.app.desk.busy, "an idle session")
        await self.until(lambda: self.app.main._panels.units._redraw is None, "the last redraw of the table")
        await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        """Presses keys and waits for what they cause; `=text` pastes a text."""
        for key in keys:
            if key.startswith("="):
                assert self.app.screen.focused is not None
                self.app.screen.focused.post_message(events.Paste(key[1:]))
                await self.pilot.pause()
            else:
                await self.pilot.press(key)
        await self.idle()

    def asked(self, kind: type[Request]) -> list[Request]:
        return [request for request in self.session.requests + self.shelf.requests if isinstance(request, kind)]

    def text(self, selector: str) -> str:
        """What a widget of the screen in front shows, as plain text."""
        widget = self.app.screen.query_one(selector)
        if isinstance(widget, Static):
            return str(widget.content)
        region = widget.region
        return "\n".join(line[region.x : region.right] for line in self.screen().split("\n")[region.y : region.bottom])

    def screen(self) -> str:
        """Every cell of the screen in front, line by line."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join(strip.text for strip in strips)

    def notifications(self) -> list[str]:
        return [notification.message for notification in self.app._notifications]


@pytest.fixture(autouse=True)
def own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration folder of the test's own, so that a person's themes do not matter."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def drive() -> Open:
    """Opens the app on a stand-in: `async with drive(size=(80, 24)) as driven`."""

    @asynccontextmanager
    async def opened(
        size: tuple[int, int] = (120, 36),
        session: StandIn | None = None,
        shelf: ShelfStandIn | None = None,
        theme: str | None = "knowscope-dark",
        model: str | None = None,
        settle: bool = True,
        keymap: dict[str, str] | None = None,
    ) -> AsyncIterator[Driven]:
        stand_in, stood_in = session or StandIn(), shelf or ShelfStandIn()
        app = KnowscopeApp(SourceSpec(model), lambda: stand_in, theme, keymap, lambda: stood_in)
        async with app.run_test(size=size) as pilot:
            driven = Driven(app, pilot, stand_in, stood_in)
            if settle:
                await driven.until(lambda: stand_in.requests, "the first request")
                await driven.idle()
            yield driven

    return opened
