"""Files that are there whole or not at all: written beside their name, made safe on the disk, and renamed."""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from knowscope_tui.errors import SaveError

PARTIAL = ".partial"

A_DAY = 86_400
"""Seconds after which an unfinished file that nobody has written to is taken for what a killed process left."""


def check_target(target: Path) -> None:
    """Raises `SaveError` for a file that exists, or whose folder does not or cannot be written to."""
    check_absent(target, "file")
    folder = target.parent
    if not folder.is_dir():
        raise SaveError(f"There is no folder {str(folder)!r}.", "Make it, or choose another.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise cannot_write(target, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def check_absent(target: Path, what: str) -> None:
    """Raises `SaveError` where something is called `target` already, or nothing could be; `what` it was to be."""
    try:
        exists = target.exists() or target.is_symlink()
    except OSError as error:
        raise cannot_write(target, error) from None
    if exists:
        raise SaveError(f"{str(target)!r} already exists.", f"Choose a {what} that does not exist.")


@contextmanager
def written_beside(target: Path) -> Iterator[BinaryIO]:
    """A file that becomes `target` when the block ends well, and vanishes when it does not. Raises `SaveError`.

    Of several writers each has a file of its own, and the last one that ends well stays. Every `OSError` in the block
    is taken for one of writing: what the block reads has to say otherwise by itself.
    """
    _sweep(target)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
        sync(target.parent)
    except OSError as error:
        raise cannot_write(target, error) from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _sweep(target: Path) -> None:
    """Takes away what killed processes left of earlier writes of `target`."""
    with suppress(OSError):
        for left in partials(target):
            if left.is_file() and not left.is_symlink() and time.time() - left.stat().st_mtime > A_DAY:
                left.unlink(missing_ok=True)


def partials(target: Path) -> Iterator[Path]:
    """Unfinished files and folders that were to become `target`."""
    name = "".join(f"[{sign}]" if sign in "*?[" else sign for sign in target.name)
    return target.parent.glob(f".{name}.*{PARTIAL}")


def make_folder(folder: Path) -> None:
    """Makes `folder` and the parents it lacks, and their names safe on the disk. Raises `OSError`."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync(path.parent)


def cannot_write(target: Path, error: OSError) -> SaveError:
    """What a person is told when `target` cannot be written."""
    reason = _reason(error)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in reason
    hint = "Free some space or choose another folder." if full else "Choose a folder that you can write to."
    return SaveError(f"Cannot write {str(target)!r}: {reason}.", hint)


def cannot_read(source: Path, error: Exception, hint: str) -> SaveError:
    """What a person is told when something that was written before cannot be read; `hint` is what to do."""
    return SaveError(f"Cannot read {str(source)!r}: {_reason(error)}.", hint)


def _reason(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) else None
    return said or (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def sync(path: Path) -> None:
    """Makes a file, or the names in a folder, safe on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
