"""Locks between processes that can be waited for without hanging."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS_BETWEEN_TRIES = 0.3


@contextmanager
def waited_lock(file: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Within the block no other process holds the lock `file`.

    `waiting` is called between tries for as long as another one does, and may raise to give up.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(file)
    while True:
        try:
            lock.acquire(timeout=SECONDS_BETWEEN_TRIES)
            break
        except Timeout:
            waiting()
    try:
        yield
    finally:
        lock.release()
