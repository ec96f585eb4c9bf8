"""Long work shown on stderr: a bar in a terminal, a line a step where a log is written, nothing beside JSON errors."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OnProgress = Callable[[str, float | None], None]

SECONDS_BETWEEN_LINES = 15.0


@contextmanager
def progress(*, as_json: bool = False, lines: bool = False) -> Iterator[OnProgress]:
    """Gives a function to tell progress with. `lines` says each new step on a line where stderr is no terminal."""
    if sys.stderr.isatty():
        with _bar() as tell:
            yield tell
    elif lines and not as_json:
        yield _line_teller()
    else:
        yield lambda _doing, _fraction: None


@contextmanager
def _bar() -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

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

        yield tell


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
