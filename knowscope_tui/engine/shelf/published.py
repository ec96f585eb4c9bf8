"""A published dictionary, from the hub to a converted copy in the cache.

The first time its files are downloaded and read by sae-lens's own loader for their layout; what comes out is converted
and kept. From then on the copy is mapped, and neither the hub nor sae-lens is asked.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from knowscope_tui.core.dictionaries import Entry
from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.units import SiteKind
from knowscope_tui.engine import hub
from knowscope_tui.engine.hashes import sha256
from knowscope_tui.engine.hub_errors import hub_error, is_outside_trouble
from knowscope_tui.engine.shelf import cache, converted, folders
from knowscope_tui.engine.shelf.availability import copy_of_folder, file_of, name_of, patterns
from knowscope_tui.engine.shelf.interpret import Parts, Published, interpret
from knowscope_tui.errors import DictionaryError, KnowscopeError


def obtain(entry: Entry, sae_dtype: str, *, offline: bool = False, on_progress: OnProgress) -> Path:
    """The converted copy of `entry`, made first where there is none. Raises `HubError` or `DictionaryError`."""
    file = file_of(entry, sae_dtype)
    if file.is_file():
        return file
    with cache.lock(file, on_progress):
        if not file.is_file():
            _make(entry, sae_dtype, file, offline, on_progress)
    return file


def _make(entry: Entry, sae_dtype: str, file: Path, offline: bool, on_progress: OnProgress) -> None:
    folder = hub.fetch(entry.repo, patterns(entry), offline=offline, on_progress=on_progress)
    on_progress(f"Converting {entry.id}", None)
    if entry.loader == "gemma_3" and entry.site and (offline or hub.is_offline()):
        # sae-lens's loader for this layout asks the hub for shapes, whatever is cached.
        parts = interpret(replace(folders.read(folder / entry.path, entry.site.kind), source=name_of(entry)))
    else:
        parts = _through_sae_lens(entry)
    source = _published_files(folder, entry)
    provenance = {
        "release": entry.release,
        "id": entry.id,
        "repo": entry.repo,
        "path": entry.path,
        "commit": hub.commit_of(folder),
        "sha256": {str(path.relative_to(folder)): sha256(path) for path in source},
        "sae_dtype": sae_dtype,
    }
    converted.write(file, parts, sae_dtype, provenance)


def _through_sae_lens(entry: Entry) -> Parts:
    """What sae-lens makes of the downloaded files. Nothing pickled runs: its loaders read with `weights_only`."""
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    # sae_lens takes seconds to import, and is needed the first time only.
    from sae_lens import SAE

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sae, config, _sparsity = SAE.from_pretrained_with_cfg_and_sparsity(entry.release, entry.id, device="cpu")
    except KnowscopeError:
        raise
    except Exception as error:
        if is_outside_trouble(error):
            raise hub_error(error, entry.repo, wanted=patterns(entry)) from error
        reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
        raise DictionaryError(
            f"sae-lens cannot read {entry.id} of {entry.release}: {reason}.",
            "Choose another one, or report this to sae-lens.",
        ) from error
    whole = {**config, **sae.cfg.to_dict()}
    published = Published(whole, sae.state_dict(), name_of(entry), entry.site, entry.l0)
    return interpret(published)


def obtain_folder(path: Path, main: Path, kind: SiteKind, make: Callable[[], Parts], sae_dtype: str) -> Path:
    """The converted copy of a dictionary in a person's folder `path`, made by `make` whenever `main` has changed."""
    file = copy_of_folder(path, main, kind, sae_dtype)
    if not file.is_file():
        with cache.lock(file):
            if not file.is_file():
                hashes = {main.name: sha256(main)}
                provenance = {"folder": str(path.absolute()), "sha256": hashes, "sae_dtype": sae_dtype}
                converted.write(file, make(), sae_dtype, provenance)
    return file


def _published_files(folder: Path, entry: Entry) -> list[Path]:
    place = folder / entry.path
    return sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
