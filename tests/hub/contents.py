"""What the hub of the tests serves: folders as revisions of repositories, files as git and LFS name them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

LFS_SUFFIXES = frozenset({".safetensors", ".npz", ".bin", ".pt", ".model"})
LFS_NAMES = frozenset({"tokenizer.json"})
LFS_SIZE = 10 * 1024 * 1024


@dataclass(frozen=True)
class Blob:
    """A file of a repository. `oid` is git's name of it, and of the pointer to it when it is in LFS."""

    file: Path
    size: int
    oid: str
    sha256: str
    lfs: bool

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid

    def as_json(self, path: str) -> dict[str, Any]:
        """The entry of a tree."""
        entry = {"type": "file", "oid": self.oid, "size": self.size, "path": path}
        return {**entry, "lfs": {"oid": self.sha256, "size": self.size, "pointerSize": 134}} if self.lfs else entry


@cache
def _digests(file: Path, size: int, _changed: int) -> tuple[str, str]:
    """git's blob name and the sha256 of `file`."""
    git, plain = hashlib.sha1(f"blob {size}\0".encode()), hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            git.update(chunk)
            plain.update(chunk)
    return git.hexdigest(), plain.hexdigest()


def _blob(file: Path) -> Blob:
    stat = file.stat()
    oid, sha256 = _digests(file, stat.st_size, stat.st_mtime_ns)
    lfs = file.suffix in LFS_SUFFIXES or file.name in LFS_NAMES or stat.st_size > LFS_SIZE
    if lfs:
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {stat.st_size}\n".encode()
        oid = hashlib.sha1(f"blob {len(pointer)}\0".encode() + pointer).hexdigest()
    return Blob(file, stat.st_size, oid, sha256, lfs)


@dataclass(frozen=True)
class Revision:
    """The files of a repository at a commit."""

    commit: str
    blobs: Mapping[str, Blob]

    def tree(self, folder: str, recursive: bool) -> list[dict[str, Any]] | None:
        """The entries below `folder` ("" is the root); None if there is no such folder."""
        prefix = f"{folder}/" if folder else ""
        below = {path: blob for path, blob in self.blobs.items() if path.startswith(prefix)}
        if folder and not below:
            return None
        folders = {
            path[: cut.start()] for path in below for cut in re.finditer("/", path) if cut.start() >= len(prefix)
        }
        entries = [blob.as_json(path) for path, blob in below.items()] + [_folder_as_json(path) for path in folders]
        kept = [entry for entry in entries if recursive or "/" not in entry["path"][len(prefix) :]]
        return sorted(kept, key=lambda entry: entry["path"])


def _folder_as_json(path: str) -> dict[str, Any]:
    return {"type": "directory", "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0, "path": path}


def read_revision(folder: Path) -> Revision:
    """What `folder` holds now. The commit is named after the content: it changes when a file does."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    blobs = {path.relative_to(folder).as_posix(): _blob(path) for path in files}
    listing = "\n".join(f"{path} {blob.sha256}" for path, blob in blobs.items())
    return Revision(hashlib.sha1(listing.encode()).hexdigest(), blobs)
