"""Long work shown on stderr: a bar in a terminal, a line a step where a log is written, nothing beside JSON errors."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from knowscope_tui.core.progress import OnProgress
from knowscope_tui.errors import Cancelled

SECONDS_BETWEEN_LINES = 15.0


class Teller:
    """Is called with progress, as an `OnProgress`; `note` says a sentence that stays, above the bar if there is one.

    After Ctrl-C each call raises `Cancelled`: a download goes on in threads of its own, and ends when it tells of its
    next bytes.
    """

    def __init__(self, tell: OnProgress, note: Callable[[str], None]) -> None:
        self._tell = tell
        self.note = note
        self.stopped = False

    def __call__(self, doing: str, fraction: float | None) -> None:
        if self.stopped:
            raise Cancelled
        self._tell(doing, fraction)


@contextmanager
def progress(*, as_json: bool = False, lines: bool = False) -> Iterator[Teller]:
    """Gives what progress is told to. `lines` says each new step on a line where stderr is no terminal; with JSON
    nothing stays on stderr but an error."""
    from knowscope_tui.cli.output import note

    say = _unsaid if as_json else note
    if sys.stderr.isatty():
        with _bar(as_json) as tell, _stoppable(tell):
            yield tell
        return
    quiet = as_json or not lines
    teller = Teller((lambda _doing, _fraction: None) if quiet else _line_teller(), say)
    with _stoppable(teller):
        yield teller


@contextmanager
def _stoppable(teller: Teller) -> Iterator[None]:
    """Within the block Ctrl-C stops `teller` too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: object) -> None:
        teller.stopped = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _unsaid(_sentence: str) -> None:
    """A note beside JSON."""


@contextmanager
def _bar(as_json: bool) -> Iterator[Teller]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text

    from knowscope_tui.text import visible

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("Starting", total=None)

        def tell(doing: str, fraction: float | None) -> None:
            shown.update(task, description=doing, total=None if fraction is None else 1.0, completed=fraction or 0.0)

        def note(sentence: str) -> None:
            shown.console.print(Text(visible(sentence)))

        yield Teller(tell, _unsaid if as_json else note)


def _line_teller() -> OnProgress:
    """Says each step once, and again every 15 seconds with what has become of it; details follow a colon."""
    step, said_at = "", 0.0

    def tell(doing: str, fraction: float | None) -> None:
        nonlocal step, said_at
        name, now = doing.partition(":")[0], time.monotonic()
        if name == step and now - said_at < SECONDS_BETWEEN_LINES:
            return
        step, said_at = name, now
        share = "     " if fraction is None else f"{fraction:4.0%} "
        print(f"{share}{doing}", file=sys.stderr, flush=True)  # noqa: T201

    return tell
