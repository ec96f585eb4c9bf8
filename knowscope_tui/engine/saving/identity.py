"""Whether two bases are one, told without reading all of their weights, and hashes of files that two folders share."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from knowscope_tui.core.record import RECORD
from knowscope_tui.engine.hashes import sha256
from knowscope_tui.engine.saving.stored import tensors_in

FINGERPRINT = "base_fingerprint"
"""Where a delta file's metadata say which base it was made for."""

SAMPLE = 1 << 16
"""Bytes that are looked at in the middle of each tensor."""

AT_ONCE = 4
"""Files that are hashed side by side."""


def base_fingerprint(folder: Path) -> str:
    """A hash of every tensor's name, dtype, shape and middle, and of the record of an edit, where there is one.

    It tells models apart, and a model from what was trained or edited with this program from it. An edit of few entries
    by something else may escape it; the hashes of the parameters that an edit touches do not let that pass.
    Raises `ModelNotLoaded` or `SaveError`.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors_in(folder).items()):
        digest.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
        with tensor.file.open("rb") as file:
            file.seek(tensor.start + max(0, tensor.size - SAMPLE) // 2)
            digest.update(file.read(min(SAMPLE, tensor.size)))
    if (folder / RECORD).is_file():
        digest.update((folder / RECORD).read_bytes())
    return digest.hexdigest()


@contextmanager
def hashed_meanwhile(files: Sequence[Path]) -> Iterator[Mapping[Path, Future[str]]]:
    """File → its SHA-256 to come, found while the block runs; who leaves the block early waits for no file's end.

    The hub's cache calls a large file by its hash, which is then not computed.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            yield {file: pool.submit(_hash_of, file, stop) for file in files}
        except BaseException:
            stop.set()
            raise


def _hash_of(file: Path, stop: threading.Event) -> str:
    blob = file.resolve()
    if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return blob.name
    return sha256(blob, stop.is_set)
