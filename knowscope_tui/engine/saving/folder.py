"""A folder that is there whole or not at all: filled beside its name, made safe on the disk, and renamed.

While it is filled it is called `.<name>.<random>.partial`, nobody else can look into it, and its maker holds a lock on
the file `.lock` in it. A process that is killed leaves the folder behind and the lock not; the next one that saves
under that name takes it away.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from knowscope_tui.core.written import PARTIAL, cannot_write, make_folder, partials, sync
from knowscope_tui.errors import SaveError

LOCK = ".lock"

AN_HOUR = 3600
"""Seconds after which a folder that never came to have a lock file is taken for what a killed process left."""


def check_folder(target: Path, base: Path | None = None) -> None:
    """Raises `SaveError` for a target that exists, lies inside its base, or cannot be made."""
    try:
        exists = target.exists() or target.is_symlink()
        whole = target.absolute().resolve()
        inside = base is not None and base.resolve() in (whole, *whole.parents)
    except (OSError, ValueError) as error:  # A name with a NUL in it is a ValueError.
        raise cannot_write(target, _as_os(error)) from None
    if exists:
        raise SaveError(f"{str(target)!r} already exists.", "Choose a folder that does not exist.")
    if inside:
        raise SaveError(f"{str(target)!r} lies inside the base.", "Choose a folder beside it.")


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A folder beside `target` that becomes it when the block ends well and vanishes when it does not."""
    check_folder(target)
    try:
        make_folder(target.absolute().parent)
        _sweep(target)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=PARTIAL, dir=target.parent))
    except (OSError, ValueError) as error:
        raise cannot_write(target, _as_os(error)) from None
    try:
        with _locked(partial):
            yield partial
            _settle(partial)
            (partial / LOCK).unlink()  # Who is killed with the lock gone leaves what nobody takes away for an hour.
            os.rename(partial, target)
        sync(target)
        sync(target.parent)
    except (OSError, SafetensorError) as error:
        raise cannot_write(target, _as_os(error)) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _settle(partial: Path) -> None:
    """The permissions of any other folder that is made here, and every byte on the disk."""
    probe = partial / ".probe"
    probe.mkdir()
    mode = probe.stat().st_mode & 0o7777
    probe.rmdir()
    for path in partial.iterdir():
        sync(path)
    partial.chmod(mode)
    sync(partial)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder of one's own: nobody sees its file before it is held.

    Where the file system has no locks nobody can take this one, and the folder is never taken for abandoned.
    """
    hidden = folder / f"{LOCK}.unheld"
    handle = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(hidden, folder / LOCK)
        yield
    finally:
        os.close(handle)


def _sweep(target: Path) -> None:
    """Takes away what killed processes left of earlier saves to `target`."""
    for left in partials(target):
        if left.is_dir() and not left.is_symlink() and _abandoned(left):
            shutil.rmtree(left, ignore_errors=True)


def _abandoned(partial: Path) -> bool:
    """Whether nobody holds the lock of the folder, or it is old and has none."""
    try:
        handle = os.open(partial / LOCK, os.O_RDWR)
    except FileNotFoundError:
        with suppress(OSError):
            return time.time() - partial.stat().st_mtime > AN_HOUR
        return False
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _as_os(error: Exception) -> OSError:
    return error if isinstance(error, OSError) else OSError(None, str(error).splitlines()[0] if str(error) else "")
