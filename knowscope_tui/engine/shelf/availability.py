"""What a published dictionary takes, and what of it is on this machine: told from names, listings and files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from knowscope_tui.core.dictionaries import Entry, EntryState
from knowscope_tui.core.units import SiteKind
from knowscope_tui.engine import hub
from knowscope_tui.engine.shelf import cache
from knowscope_tui.errors import HubError

MAIN_FILES = {"gemma_2": "params.npz", "gemma_3": "params.safetensors", "sae_lens": "sae_weights.safetensors"}
"""sae-lens's name of a published layout → the file in an entry's folder that holds its numbers."""

D_IN = {
    "gemma-scope-2b": (2304, 2048),
    "gemma-scope-9b": (3584, 4096),
    "gemma-scope-27b": (4608, 4096),
    "gemma-scope-2-270m": (640, 1024),
    "gemma-scope-2-1b": (1152, 1024),
    "gemma-scope-2-4b": (2560, 2048),
    "gemma-scope-2-12b": (3840, 4096),
    "gemma-scope-2-27b": (5376, 4096),
}
"""How a repository's name begins → what its dictionaries read: d_model, and at `attn_z` heads × head_dim."""


def file_of(entry: Entry, sae_dtype: str) -> Path:
    """Where the converted copy of `entry` lies, or would."""
    return cache.file_for(entry.repo, entry.path, sae_dtype)


def is_here(entry: Entry, sae_dtype: str) -> bool:
    """Whether `entry` can be opened without the hub: converted, or downloaded and yet to be."""
    return file_of(entry, sae_dtype).is_file() or _is_downloaded(entry)


def copy_of_folder(path: Path, main: Path, kind: SiteKind, sae_dtype: str) -> Path:
    """Where the converted copy of the dictionary in a person's folder `path`, read at `kind`, lies; `main` holds it.

    It is another one whenever `main` has changed.
    """
    state = main.stat()
    return cache.file_for(str(path.absolute()), f"{kind.value}.{state.st_size:x}.{state.st_mtime_ns:x}", sae_dtype)


def name_of(entry: Entry) -> str:
    return f"{entry.release} {entry.id}"


def patterns(entry: Entry) -> tuple[str, ...]:
    """The files of `entry` in its repository, as patterns."""
    beside = (f"{entry.path.removesuffix('.pt')}_cfg.json",) if entry.loader == "connor_rob_hook_z" else ()
    return (entry.path, f"{entry.path}/*", *beside)


def state_of(entry: Entry, sae_dtype: str, sizes: dict[str, int] | None = None) -> EntryState:
    """What `entry` takes and what of it is here; `sizes` are the hub's, by file name, where it was asked."""
    file = file_of(entry, sae_dtype)
    published = None if sizes is None else sum(size for name, size in sizes.items() if _belongs(name, entry))
    return EntryState(
        entry=entry,
        download_bytes=published or estimated_bytes(entry),
        downloaded=_is_downloaded(entry),
        cached_bytes=file.stat().st_size if file.is_file() else 0,
    )


def _belongs(name: str, entry: Entry) -> bool:
    return name == entry.path or name.startswith(f"{entry.path}/")


def estimated_bytes(entry: Entry) -> int | None:
    """What the published files take, where width and model are known: two float32 matrices."""
    name = entry.repo.rpartition("/")[2]
    sizes = next((sizes for start, sizes in D_IN.items() if name.startswith(f"{start}-")), None)
    if sizes is None or entry.width is None:
        return None
    d_model, d_z = sizes
    d_in = d_z if entry.site is not None and entry.site.kind is SiteKind.ATTN_Z else d_model
    return 2 * 4 * d_in * entry.width + 3 * 4 * entry.width


def _is_downloaded(entry: Entry) -> bool:
    from huggingface_hub import try_to_load_from_cache

    main = MAIN_FILES.get(entry.loader)
    name = f"{entry.path}/{main}" if main else entry.path
    return isinstance(try_to_load_from_cache(entry.repo, name), str)


def sizes_from_hub(repo: str, entries: Iterable[Entry]) -> dict[str, int] | None:
    """File sizes in `repo` by name, or None where the hub cannot be asked."""
    wanted = [pattern for entry in entries for pattern in patterns(entry)]
    try:
        return {file.name: file.size or 0 for file in hub.listing(repo, wanted)}
    except HubError:
        return None
