"""Locks between processes: waited for without hanging, or not waited for at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from knowscope_tui.core.written import cannot_write
from knowscope_tui.errors import SaveError

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


@contextmanager
def alone_in(folder: Path, lock: str = "lock") -> Iterator[None]:
    """Within the block no other process that asks the same writes to `folder`; the lock is its file `lock`.

    Raises `SaveError` at once where another one does, or where the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    held = FileLock(folder / lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise SaveError(
            f"Another process is writing to {str(folder)!r}.", "Wait for it, or choose another place."
        ) from None
    except OSError as error:
        raise cannot_write(folder, error) from None
    try:
        yield
    finally:
        held.release()
