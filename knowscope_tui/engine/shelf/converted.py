"""The cache of converted dictionaries: one safetensors file each, mapped rather than read.

A file holds the two matrices as rows (see `dictionary.Dictionary`), bfloat16 unless float32 was asked for, and the
vectors in float32. Its header says what it is, what it was made from, with the hash of that, and the hash of its own
numbers. It is written beside its place and renamed, under a lock, so that two processes never make one twice and
nobody ever sees half of one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from knowscope_tui import __version__
from knowscope_tui.core.dictionaries import CachedDictionary
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.dictionary import Spec, not_finite
from knowscope_tui.engine.shelf.cache import HEADER, cannot_write
from knowscope_tui.engine.shelf.interpret import Parts
from knowscope_tui.errors import DictionaryError

FORMAT = 1
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
_MATRICES = ("encoder", "decoder", "W_dec", "W_enc")


def write(file: Path, parts: Parts, sae_dtype: str, provenance: Mapping[str, Any]) -> None:
    """Writes a dictionary to its place in the cache. Raises `DictionaryError` for numbers that are not finite."""
    dtype = DTYPES[sae_dtype]
    tensors = {
        name: tensor.detach().to(dtype if name in _MATRICES else torch.float32).contiguous()
        for name, tensor in parts.tensors.items()
    }
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise not_finite(parts.spec.source)
    header = {
        "format": FORMAT,
        "spec": _spec_json(parts.spec),
        "provenance": dict(provenance),
        "content_sha256": content_hash(tensors),
        "versions": {"knowscope-tui": __version__, "sae-lens": metadata.version("sae-lens")},
    }
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, partial, metadata={HEADER: json.dumps(header)})
        partial.replace(file)
    except (OSError, SafetensorError) as error:
        raise cannot_write(file, error) from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def open_(file: Path) -> Parts:
    """A dictionary mapped from the cache. Raises `DictionaryError` for a file that is not whole."""
    header, tensors = _read(file)
    try:
        spec = _spec(header["spec"])
    except (KeyError, TypeError, ValueError):
        raise _broken(file) from None
    _mark_used(file)
    return Parts(spec, tensors)


def verify(entry: CachedDictionary) -> CachedDictionary:
    """`entry` after every byte of it was held against the hash in its header."""
    if entry.problem:
        return entry
    try:
        header, tensors = _read(Path(entry.file))
        problem = "" if content_hash(tensors) == header["content_sha256"] else "its numbers are not those written."
    except DictionaryError:
        problem = "another version of this program wrote it."
    return replace(entry, problem=problem)


def content_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


# --- files and headers ----------------------------------------------------------------------------------------------


def _read(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            header = json.loads((opened.metadata() or {})[HEADER])
            if header["format"] != FORMAT:
                raise ValueError("another version of this program wrote it")
            return header, {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        raise _broken(file) from None


def _mark_used(file: Path) -> None:
    """Sets the time of last use. It is the file's modification time: merely looking at a header leaves that alone."""
    with suppress(OSError):
        os.utime(file)


def _spec_json(spec: Spec) -> dict[str, Any]:
    values = {name: value for name, value in vars(spec).items() if name not in ("site", "checked")}
    return {**values, "site": [spec.site.layer, spec.site.kind.value], "config": _plain(spec.config)}


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dict(config), default=str))
    return plain


def _spec(values: Mapping[str, Any]) -> Spec:
    layer, kind = values["site"]
    return Spec(**{**values, "site": Site(int(layer), SiteKind(kind)), "checked": True})


def _broken(file: Path) -> DictionaryError:
    return DictionaryError(
        f"The converted dictionary {str(file)!r} is broken.", "Run `knowscope-tui cache prune --broken`, then again."
    )
