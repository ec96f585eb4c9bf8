"""A study run: what its folder does not have is measured, item by item, and reported out of all rows.

Where the items are measured is the affair of a `Loop`: `serial` does it here, one after the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager

from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.studies import Findings, Row
from knowscope_tui.errors import UsageError
from knowscope_tui.studies.pace import Pace
from knowscope_tui.studies.run_folder import RunFolder
from knowscope_tui.studies.study import Study, Subject

SECONDS_A_PART = 2.0
"""Items that are finished within this time are kept together: what a power cut may cost."""

SECONDS_BETWEEN_FINDINGS = 5.0
SHARE_OF_FINDINGS = 0.1
"""Of the time, at most, for findings while it runs."""

Measured = tuple[str, Sequence[Row]]
"""An item's key and its rows."""

Loop = Callable[[Study, Subject, Sequence[str], OnProgress], Generator[Measured, None, None]]
"""Measures the items named, in any order, and gives each as soon as it is measured."""

OnFindings = Callable[[Findings], None]
"""Hears what the rows come to so far, on the thread that measures."""


def unwatched(_findings: Findings) -> None:
    """Findings that nobody watches while they grow."""


def serial(
    study: Study, subject: Subject, keys: Sequence[str], on_progress: OnProgress
) -> Generator[Measured, None, None]:
    """Measures the items in this process, one after the other."""
    measure = study.prepare(subject, lambda doing, _fraction: on_progress(doing, None))
    for key in keys:
        yield key, measure(key, on_progress)


def keys_of(study: Study, subject: Subject) -> list[str]:
    """The items of `study`. Raises `UsageError` where there is nothing to measure."""
    keys = list(study.keys(subject))
    if not keys:
        raise UsageError(
            f"There is nothing to measure for the study {study.name.value!r}.",
            f"Name {study.needs} with --facts, or allow more --layers.",
        )
    return keys


def run_study(
    study: Study,
    subject: Subject,
    run: RunFolder,
    on_progress: OnProgress = silent,
    on_findings: OnFindings = unwatched,
    loop: Loop = serial,
) -> Findings:
    """Measures what `run` does not have, keeps it, and says what all rows come to.

    What is finished when it is stopped is kept. Raises `UsageError` where there is nothing to measure, `SaveError`,
    and whatever the study raises.
    """
    keys = keys_of(study, subject)
    left = [key for key in keys if not run.has(key)]
    if left:
        pace = Pace(study.name.value, len(keys), len(keys) - len(left), on_progress)
        pace("preparing", None)
        growing = _Growing(study, keys, run, on_findings)
        measured = loop(study, subject, left, pace)
        with _timed(run, pace), closing(_Kept(keys, run)) as kept, closing(measured):
            for key, rows in measured:
                kept.add(key, rows)
                pace.finished()
                growing.tell()
    run.finish(keys)
    findings = study.findings(run.rows(keys))
    on_findings(findings)
    return findings


@contextmanager
def _timed(run: RunFolder, pace: Pace) -> Iterator[None]:
    """Notes how long the block took for the items that it finished, however it ends."""
    began = time.monotonic()
    try:
        yield
    finally:
        if pace.measured:
            run.took(pace.measured, time.monotonic() - began)


class _Kept:
    """Keeps finished items in parts, several together where they come fast."""

    def __init__(self, keys: Sequence[str], run: RunFolder) -> None:
        self._numbers = {key: number for number, key in enumerate(keys)}
        self._run = run
        self._waiting: dict[str, Sequence[Row]] = {}
        self._since = time.monotonic()

    def add(self, key: str, rows: Sequence[Row]) -> None:
        self._waiting[key] = rows
        if time.monotonic() - self._since >= SECONDS_A_PART:
            self.close()

    def close(self) -> None:
        """Keeps what waits."""
        if self._waiting:
            self._run.add(self._waiting, min(self._numbers[key] for key in self._waiting))
        self._waiting, self._since = {}, time.monotonic()


class _Growing:
    """Says now and then what the kept rows come to."""

    def __init__(self, study: Study, keys: Sequence[str], run: RunFolder, on_findings: OnFindings) -> None:
        self._study, self._keys, self._run = study, keys, run
        self._on_findings = on_findings
        self._next = time.monotonic() + SECONDS_BETWEEN_FINDINGS

    def tell(self) -> None:
        began = time.monotonic()
        if self._on_findings is unwatched or began < self._next or not (rows := self._run.rows(self._keys)):
            return
        self._on_findings(self._study.findings(rows))
        took = time.monotonic() - began
        self._next = began + max(SECONDS_BETWEEN_FINDINGS, took / SHARE_OF_FINDINGS)
