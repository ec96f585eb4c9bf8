"""A folder that is there whole or not at all: filled beside its name, made safe on the disk, and renamed.

While it is filled it is called `.<name>.<random>.partial`, and its maker holds a lock on it. A process that is killed
leaves the folder behind and the lock not; the next one that saves under that name takes it away.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from knowscope_tui.core.written import PARTIAL, cannot_write, sync
from knowscope_tui.errors import SaveError


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
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=PARTIAL, dir=target.parent))
    except (OSError, ValueError) as error:
        raise cannot_write(target, _as_os(error)) from None
    try:
        with _locked(partial):
            yield partial
            _settle(partial)
            os.rename(partial, target)
        sync(target.parent)
    except (OSError, SafetensorError) as error:
        raise cannot_write(target, _as_os(error)) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _settle(partial: Path) -> None:
    """Usual permissions for files of our own, and every byte on the disk."""
    partial.chmod(0o755)
    for path in partial.iterdir():
        if path.stat().st_nlink == 1:
            path.chmod(0o644)
            sync(path)
    sync(partial)


def _sweep(target: Path) -> None:
    """Takes away what killed processes left of earlier saves to `target`."""
    for left in target.parent.glob(f".{_escaped(target.name)}.*{PARTIAL}"):
        if left.is_dir() and not left.is_symlink() and _abandoned(left):
            shutil.rmtree(left, ignore_errors=True)


def _escaped(name: str) -> str:
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)


def _abandoned(partial: Path) -> bool:
    """Whether nobody holds the folder's lock."""
    try:
        with _locked(partial):
            return True
    except OSError:
        return False


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the lock of `folder`; raises `BlockingIOError` at once where another process does."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _as_os(error: Exception) -> OSError:
    return error if isinstance(error, OSError) else OSError(None, str(error).splitlines()[0] if str(error) else "")
