"""Hashes of files, read in blocks."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

_BLOCK = 1 << 22


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return _read_into(hashlib.sha256(), path)


def git_hash(path: Path) -> str:
    """What git calls a file of this content, in hexadecimal: the SHA-1 of its size and bytes."""
    return _read_into(hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False), path)


def _read_into(digest: Any, path: Path) -> str:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return str(digest.hexdigest())
