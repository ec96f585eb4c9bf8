"""A file into a folder without writing what need not be written: reflinked, linked, or copied.

A reflink shares blocks until one side writes; btrfs and xfs have them. A hard link, the next best, is the file itself
under a second name: who changes one in place changes the other, which is why a save records the hash of what it links.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from pathlib import Path

from knowscope_tui.core.saved import Placed

FICLONE = 0x40049409
"""The ioctl of Linux that makes a reflink (see ioctl_ficlone(2))."""

BLOCK = 1 << 26

_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP)


def placed(source: Path, target: Path, *, link: bool) -> Placed:
    """Puts `source`, symbolic links followed, at `target`; with `link` their bytes may be shared."""
    real = source.resolve()
    if link:
        if _cloned(real, target):
            return Placed.REFLINKED
        try:
            os.link(real, target)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
        else:
            return Placed.LINKED
    return copied(real, target, reflink=False)


def _cloned(source: Path, target: Path) -> bool:
    """Whether `target` is a reflink of `source` now; there is no `target` where it is not."""
    with source.open("rb") as original, target.open("xb") as copy:
        if _reflinked(original.fileno(), copy.fileno()):
            return True
    target.unlink()
    return False


def copied(source: Path, target: Path, *, reflink: bool = True) -> Placed:
    """A file of its own with the bytes of `source`, sharing blocks where the file system can."""
    with source.open("rb") as original, target.open("xb") as copy:
        if reflink and _reflinked(original.fileno(), copy.fileno()):
            return Placed.REFLINKED
        _copy(original.fileno(), copy.fileno(), os.fstat(original.fileno()).st_size)
    return Placed.COPIED


def _reflinked(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError:
        return False
    return True


def _copy(source: int, target: int, size: int) -> None:
    """All bytes, inside the kernel where it can."""
    done = 0
    while done < size:
        try:
            moved = os.copy_file_range(source, target, min(BLOCK, size - done))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
                raise
            moved = os.sendfile(target, source, None, min(BLOCK, size - done))
        if moved == 0:
            raise OSError(errno.EIO, "the file is shorter than it was")
        done += moved


def can_reflink(source: Path, folder: Path) -> bool:
    """Whether `source` can share its blocks with a file in `folder`; nothing stays of the try."""
    try:
        with source.open("rb") as original, tempfile.TemporaryFile(dir=folder) as trial:
            return _reflinked(original.fileno(), trial.fileno())
    except OSError:
        return False


def can_link(source: Path, folder: Path) -> bool:
    """Whether `source` lies on the file system of `folder`, as a link needs."""
    try:
        return source.resolve().stat().st_dev == folder.stat().st_dev
    except OSError:
        return False
