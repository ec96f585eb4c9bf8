"""Saving an edited model as a folder that plain `transformers` loads, and checking such a folder against its base.

The folder is the base's own files, with the edited entries of the edited parameters written over in the base's dtype;
every other tensor keeps its bits. Beside them lie `knowscope_edit.json`, which says what was done and measured, and
`knowscope_delta.safetensors`, the exact changed positions and values. Everything is written to a folder beside the
target and renamed into place when whole.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from knowscope_tui.core.edits import SavedCheckpoint
from knowscope_tui.core.progress import OnProgress
from knowscope_tui.engine.editing import WeightDelta
from knowscope_tui.engine.hashes import sha256
from knowscope_tui.engine.loading import base_folder
from knowscope_tui.errors import ModelNotLoaded, SaveError

RECORD, DELTA = "knowscope_edit.json", "knowscope_delta.safetensors"
FORMAT = 1

_FROM_LAYER_LIST = re.compile(r"[^.]+\.\d+\..+")
"""The tail of a parameter's name that begins with the list of layers: `layers.0.mlp.down_proj.weight`."""


def save(
    base: str, deltas: Sequence[WeightDelta], record: dict[str, Any], target: Path, on_progress: OnProgress
) -> SavedCheckpoint:
    """Saves the model `base` (folder or hub name) with `deltas` written into it as the folder `target`.

    `record` is what `knowscope_edit.json` says beside versions and hashes. Raises `SaveError`: the target exists,
    cannot be written, or the disk is full; nothing half-written stays.
    """
    source = base_folder(base)
    with _beside(target) as partial:
        hashes = _write_weights(source, partial, {delta.name: delta for delta in deltas}, on_progress)
        on_progress("Writing the record", 0.95)
        for path in _other_files(source):
            shutil.copyfile(path, partial / path.name)
        save_file(_as_tensors(deltas), partial / DELTA, metadata={"format": "pt"})
        whole = {
            "format": FORMAT,
            "base": {"name": record.get("base_name", base), "sha256": hashes},
            "delta_sha256": sha256(partial / DELTA),
            "versions": _versions(),
            **{key: value for key, value in record.items() if key != "base_name"},
        }
        text = json.dumps(whole, ensure_ascii=False, indent=2, allow_nan=False)
        (partial / RECORD).write_text(text + "\n", encoding="utf-8")
        size = sum(path.stat().st_size for path in partial.iterdir())
    return SavedCheckpoint(str(target.absolute()), size, tuple(delta.name for delta in deltas))


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A folder beside `target` that becomes it when the block ends well and vanishes when it does not."""
    try:
        if target.exists() or target.is_symlink():
            raise SaveError(f"{str(target)!r} already exists.", "Choose a folder that does not exist.")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    except (OSError, ValueError) as error:  # A name with a NUL in it is a ValueError.
        raise _cannot_write(target, error) from None
    try:
        yield partial
        partial.chmod(0o755)
        for path in partial.iterdir():
            path.chmod(0o644)  # safetensors writes files that only their owner can read.
        partial.rename(target)
    except (OSError, SafetensorError) as error:
        raise _cannot_write(target, error) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _cannot_write(target: Path, error: Exception) -> SaveError:
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in reason
    hint = "Free some space or choose another folder." if full else "Choose a folder that you can write to."
    return SaveError(f"Cannot write {str(target)!r}: {reason}.", hint)


def _weight_files(folder: Path) -> list[Path]:
    """The files that transformers loads weights from: the single one if there is one, else those of the index."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    try:
        named = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values() if index.is_file() else ()
    except (OSError, ValueError, KeyError, AttributeError):
        raise ModelNotLoaded(f"{str(index)!r} is no index of weights.", "Fetch the model again.") from None
    files = sorted({folder / name for name in named})
    if not files:
        raise ModelNotLoaded(f"There is no safetensors file in {str(folder)!r}.", "Save the base as safetensors first.")
    return files


def _write_weights(
    source: Path, partial: Path, deltas: dict[str, WeightDelta], on_progress: OnProgress
) -> dict[str, str]:
    """Copies the weight files, edited where `deltas` say so; the base files' hashes by name."""
    files = _weight_files(source)
    stored = _index(source)
    left = {stored_name(name, stored): delta for name, delta in sorted(deltas.items())}
    hashes: dict[str, str] = {}
    for number, path in enumerate(files):
        on_progress(f"Writing {path.name}", number / len(files) * 0.9)
        hashes[path.name] = sha256(path)
        with safe_open(path, framework="pt") as file:
            info, names = file.metadata(), list(file.keys())
        edited = [name for name in names if name in left]
        if not edited:
            shutil.copyfile(path, partial / path.name)
            continue
        tensors = load_file(path)
        for name in edited:
            tensors[name] = apply_delta(tensors[name], left.pop(name))
        save_file(tensors, partial / path.name, metadata=info)
    return hashes


def stored_name(name: str, stored: Collection[str]) -> str:
    """The one of the `stored` names under which a checkpoint keeps the parameter that the model calls `name`.

    It is `name` itself, or else the only one with the same tail from the list of layers on: transformers renames while
    it loads. The hub's GPT-2 keeps `transformer.h.0.mlp.c_proj.weight` as `h.0.mlp.c_proj.weight`, a multimodal Gemma 3
    `model.language_model.layers.0.…` as `language_model.model.layers.0.…`. Raises `SaveError` for none or several.
    """
    if name in stored:
        return name
    tail = _FROM_LAYER_LIST.search(name)
    alike = sorted(key for key in stored if tail and f".{key}".endswith(f".{tail[0]}"))
    if not alike:
        raise SaveError(f"The base has no parameter {name!r}.", "Open the base again and repeat the edit.")
    if len(alike) > 1:
        raise SaveError(
            f"The base has {len(alike)} parameters that {name!r} may be: {', '.join(map(repr, alike))}.",
            "Save the base with `save_pretrained` and open what that wrote.",
        )
    return alike[0]


def apply_delta(tensor: Tensor, delta: WeightDelta) -> Tensor:
    """`tensor` with `delta` written into it, in the tensor's own dtype."""
    edited = tensor.clone()
    edited.view(-1)[delta.indices.cpu()] = delta.values.cpu().to(tensor.dtype)
    return edited


def _other_files(source: Path) -> list[Path]:
    """Configuration, tokenizer and whatever else belongs to a model and is no weight."""
    suffixes = {".json", ".txt", ".model", ".jinja", ".md"}
    return sorted(path for path in source.iterdir() if path.suffix in suffixes and path.name != RECORD)


def _as_tensors(deltas: Sequence[WeightDelta]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for delta in deltas:
        tensors[f"{delta.name}.indices"] = delta.indices.cpu().contiguous()
        tensors[f"{delta.name}.values"] = delta.values.cpu().contiguous()
        tensors[f"{delta.name}.shape"] = torch.tensor(delta.shape)
    return tensors


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("knowscope-tui", "torch", "transformers", "safetensors")}


# --- reading one back -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Saved:
    """What a checkpoint folder says of itself."""

    folder: Path
    record: dict[str, Any]
    deltas: tuple[WeightDelta, ...]

    @property
    def base_name(self) -> str:
        return str(self.record["base"]["name"])


def read(folder: Path) -> Saved:
    """Reads the record and the delta of a saved checkpoint. Raises `SaveError` when there is none or it is broken."""
    for name in (RECORD, DELTA):
        if not (folder / name).is_file():
            raise SaveError(f"{str(folder)!r} holds no {name}.", "Name a folder that this program saved.")
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        tensors = load_file(folder / DELTA)
        names = sorted(name.removesuffix(".indices") for name in tensors if name.endswith(".indices"))
        deltas = tuple(
            WeightDelta(
                name, tuple(tensors[f"{name}.shape"].tolist()), tensors[f"{name}.indices"], tensors[f"{name}.values"]
            )
            for name in names
        )
        saved = Saved(folder, record, deltas)
        _ = saved.base_name
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        raise SaveError(f"The record of {str(folder)!r} is broken.", "Save the edit again.") from None
    return saved


def problems(saved: Saved, base: str) -> list[str]:
    """What is wrong with a checkpoint, each in a sentence.

    Its tensors must be the base's with the delta applied, its other files the base's, byte for byte.
    """
    source = base_folder(base)
    found: list[str] = []
    if saved.record.get("delta_sha256") != sha256(saved.folder / DELTA):
        found.append(f"{DELTA} is not the one that was recorded.")
    base_tensors, edited_tensors = _index(source), _index(saved.folder)
    deltas: dict[str, WeightDelta] = {}
    for delta in saved.deltas:
        try:
            deltas[stored_name(delta.name, base_tensors)] = delta
        except SaveError as error:
            found.append(error.what)
    for name in sorted(base_tensors.keys() | edited_tensors.keys()):
        if name not in base_tensors or name not in edited_tensors:
            found.append(f"{name} is in only one of base and checkpoint.")
            continue
        expected = _load(base_tensors[name], name)
        fits = name not in deltas or _fits(deltas[name], expected)
        if name in deltas and fits:
            expected = apply_delta(expected, deltas[name])
        if not fits or not _same_bits(expected, _load(edited_tensors[name], name)):
            kind = "does not hold the recorded change" if name in deltas else "differs from the base"
            found.append(f"{name} {kind}.")
    for path in _other_files(source):
        copy = saved.folder / path.name
        if not copy.is_file() or copy.read_bytes() != path.read_bytes():
            found.append(f"{path.name} differs from the base.")
    return found


def _fits(delta: WeightDelta, tensor: Tensor) -> bool:
    """Whether every index of `delta` is a place in `tensor`."""
    inside = (delta.indices >= 0) & (delta.indices < tensor.numel())
    return delta.indices.shape == delta.values.shape and bool(inside.all())


def _index(folder: Path) -> dict[str, Path]:
    where: dict[str, Path] = {}
    for path in _weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                where.update(dict.fromkeys(file.keys(), path))
        except (OSError, SafetensorError):
            raise SaveError(f"{str(path)!r} is cut short or not valid.", "Save or fetch it again.") from None
    return where


def _load(path: Path, name: str) -> Tensor:
    with safe_open(path, framework="pt") as file:
        tensor: Tensor = file.get_tensor(name)
    return tensor


def _same_bits(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one.contiguous().view(-1).view(torch.uint8), other.contiguous().view(-1).view(torch.uint8))
