"""Where converted dictionaries lie, and what lies there, read off the files' headers alone."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from knowscope_tui.core.dictionaries import CachedDictionary
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.hub_errors import disk_full
from knowscope_tui.engine.locks import waited_lock
from knowscope_tui.errors import DictionaryError
from knowscope_tui.paths import cache_folder

HEADER = "knowscope"
"""The key of a file's safetensors metadata under which its JSON header stands."""


def folder() -> Path:
    return cache_folder() / "dictionaries"


def file_for(place: str, name: str, sae_dtype: str) -> Path:
    """Where the conversion of `name` from `place` (a repository, or a folder) to `sae_dtype` lies."""
    return folder() / _slug(place) / f"{_slug(name)}.{sae_dtype}.safetensors"


def _slug(text: str) -> str:
    """`text` as a file name; what is shortened or rewritten gets a hash, so that no two share a name."""
    plain = re.sub(r"[^A-Za-z0-9._=-]+", "--", text.strip("/"))
    reversible = re.fullmatch(r"[\w.=/-]*", text, re.ASCII) and not re.search(r"--|//|-/|/-", text)
    if len(plain) <= 100 and reversible and plain and not plain.startswith("."):
        return plain
    return f"{plain.lstrip('.')[-80:]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@contextmanager
def lock(file: Path, on_progress: OnProgress = silent) -> Iterator[None]:
    """Within the block no other process makes `file`. Raises `DictionaryError` for a cache that cannot be written."""
    locks = folder() / ".locks"
    try:
        locks.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            name = f"{hashlib.sha256(str(file).encode()).hexdigest()[:24]}.lock"
            told = partial(on_progress, "Waiting for another process, which converts it", None)
            stack.enter_context(waited_lock(locks / name, told))
            held = stack.pop_all()
    except OSError as error:
        raise cannot_write(file, error) from None
    with held:
        yield


def entries() -> list[CachedDictionary]:
    """What the cache holds, last used first."""
    described = map(_described, sorted(folder().glob("*/*.safetensors")))
    found = [entry for entry in described if entry is not None]
    return sorted(found, key=lambda entry: (-entry.used, entry.file))


def read_header(file: Path) -> dict[str, Any]:
    """The header of a converted dictionary. Raises what a file that is none makes its readers raise."""
    with safe_open(file, framework="np") as opened:
        header: dict[str, Any] = json.loads((opened.metadata() or {})[HEADER])
    return header


def _described(file: Path) -> CachedDictionary | None:
    """What `file` says of itself; None for one that another process took away meanwhile."""
    try:
        state = file.stat()
    except FileNotFoundError:
        return None
    try:
        header = read_header(file)
        spec = header["spec"]
        layer, kind = spec["site"]
        name, site, width = str(spec["source"]), Site(int(layer), SiteKind(kind)), int(spec["d_sae"])
        dtype, problem = str(header["provenance"].get("sae_dtype", "")), ""
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        name, site, width = file.stem, Site(0, SiteKind.RESID_POST), 0
        dtype, problem = "", "it is cut short or not valid."
    return CachedDictionary(str(file), name, site, width, dtype, state.st_size, state.st_mtime, problem)


def remove(file: Path) -> None:
    """Takes a file out of the cache; who has it mapped keeps it. Empty folders go too."""
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(file, error) from None
    with suppress(OSError):
        file.parent.rmdir()


def leftovers() -> list[Path]:
    """Files that interrupted conversions left behind, of processes that are no more."""
    return [path for path in folder().glob("*/.*.partial") if not _alive(path)]


def _alive(partial: Path) -> bool:
    match = re.search(r"\.(\d+)\.partial$", partial.name)
    if match is None:
        return False
    try:
        os.kill(int(match[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def cannot_write(file: Path, error: Exception) -> Exception:
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
        return disk_full(str(file.parent))
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return DictionaryError(
        f"The cache {str(file.parent)!r} cannot be written: {reason}.",
        "Point XDG_CACHE_HOME at a folder you can write.",
    )
