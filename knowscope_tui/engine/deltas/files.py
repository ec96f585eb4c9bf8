"""Delta files, `*.delta.safetensors`: an edit by itself, to be applied, taken back, compared and merged.

For every parameter, under the name a checkpoint stores it by: of a sparse change `indices`, `values` and the values
`before`; of a low-rank one `left` and `right` (the exponent is in the metadata) and the entries it cannot compute back,
`kept_indices` and `kept_values`. The metadata, one JSON text, name the base, the method, the facts (by id or salted
hash), and hold the SHA-256 of each parameter's bytes before and after. With these a file is never applied to another
base, nor taken back from something it did not make; both ways end at the recorded bits.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from knowscope_tui.core.saved import DeltaInfo
from knowscope_tui.core.written import check_target, written_beside
from knowscope_tui.engine.deltas.change import Change, LowRankChange, Overwritten, SparseChange
from knowscope_tui.engine.deltas.parts import Delta, DeltaPart, check, described, dtype_name
from knowscope_tui.engine.deltas.writer import FORMAT, KEY, LOW_RANK, SPARSE, DeltaWriter
from knowscope_tui.engine.saving.stored import DTYPES, StoredTensor, header, stored_name
from knowscope_tui.errors import SaveError

SUFFIX = ".delta.safetensors"

_IMPOSSIBLE = (ValueError, KeyError, TypeError, AttributeError, RuntimeError)
"""What reading raises for a file that says what cannot be."""


def write(file: Path, names: Sequence[str], parts: Iterable[DeltaPart], about: Mapping[str, Any]) -> None:
    """Writes `parts`, the changes of the parameters `names`, to `file`, whole or not at all.

    One part is in memory at a time. Raises `SaveError`.
    """
    if not file.name.endswith(SUFFIX):
        raise SaveError(f"{str(file)!r} is no name of an edit by itself.", f"Choose one that ends in {SUFFIX}.")
    check_target(file)
    with written_beside(file) as out:
        _write_to(out, names, parts, about)


def as_bytes(delta: Delta) -> bytes:
    """The content of a delta file."""
    out = BytesIO()
    _write_to(out, [part.name for part in delta.parts], delta.parts, delta.about)
    return out.getvalue()


def _write_to(out: BinaryIO, names: Sequence[str], parts: Iterable[DeltaPart], about: Mapping[str, Any]) -> None:
    writer = DeltaWriter(out, names, about)
    for part in parts:
        writer.add(part)
        del part  # While the next one is made this one would stay in memory.
    writer.finish()


def read(file: Path) -> Delta:
    """Looks at all of a delta file; its tensors stay where they are until they are asked for.

    Raises `SaveError` for one that is missing, broken, something else, or says impossible things.
    """
    if not file.is_file():
        raise SaveError(f"There is no delta file {str(file)!r}.", f"Name a file that ends in {SUFFIX}.")
    try:
        tensors, metadata = header(file)
    except SaveError:
        raise _broken(file) from None
    if KEY not in metadata:
        raise SaveError(f"{str(file)!r} holds {_kind(tensors)}, not an edit.", f"Name a file that ends in {SUFFIX}.")
    try:
        about = json.loads(metadata[KEY])
        if about.pop("format") != FORMAT:
            raise SaveError(f"{str(file)!r} is of a format that this version does not know.", "Update knowscope-tui.")
        parameters = about.pop("parameters")
        parts = tuple(_part(file, name, own, tensors) for name, own in sorted(parameters.items()))
    except _IMPOSSIBLE:
        raise _broken(file) from None
    for part in parts:
        part.content()
    return Delta(parts, about)


def _broken(file: Path) -> SaveError:
    return SaveError(f"{str(file)!r} is no delta file, or a broken one.", "Make it again.")


def _kind(names: Collection[str]) -> str:
    """What a safetensors file holds that is no delta."""
    if {"w_enc", "w_dec"} <= {name.lower() for name in names}:
        return "a dictionary"
    if any(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in names):
        return "a LoRA adapter"
    return "a model's weights" if any(name.endswith(".weight") for name in names) else "other tensors"


def _part(file: Path, name: str, own: Mapping[str, Any], tensors: Mapping[str, StoredTensor]) -> DeltaPart:
    """One parameter's part. Raises `ValueError` or `KeyError` for what cannot be."""
    shape = tuple(int(size) for size in own["shape"])
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(name)
    keys = SPARSE if f"{name}.{SPARSE[0]}" in tensors else LOW_RANK
    stored = {key: tensors[f"{name}.{key}"] for key in keys}
    exponent = int(own["exponent"]) if keys == LOW_RANK else 0
    dtype = dtype_name(DTYPES[stored[keys[-1]].dtype])
    content = partial(_content, file, name, shape, exponent, stored)
    return DeltaPart(name, shape, dtype, str(own["before"]), str(own["after"]), content)


def _content(
    file: Path, name: str, shape: tuple[int, ...], exponent: int, stored: Mapping[str, StoredTensor]
) -> tuple[Change, Overwritten]:
    """The tensors of a part. Raises `SaveError` for what cannot be."""
    try:
        tensors = {key: tensor.read() for key, tensor in stored.items()}
        return _sparse(name, shape, tensors) if SPARSE[0] in tensors else _low_rank(name, shape, exponent, tensors)
    except (*_IMPOSSIBLE, SaveError):
        raise _broken(file) from None


def _sparse(name: str, shape: tuple[int, ...], tensors: Mapping[str, Tensor]) -> tuple[Change, Overwritten]:
    indices, values, before = (tensors[key] for key in SPARSE)
    indices = _places(indices, values, shape)
    if before.shape != values.shape or before.dtype != values.dtype:
        raise ValueError(name)
    return SparseChange(name, shape, indices, values), Overwritten(indices, before)


def _low_rank(
    name: str, shape: tuple[int, ...], exponent: int, tensors: Mapping[str, Tensor]
) -> tuple[Change, Overwritten]:
    left, right, kept, values = (tensors[key] for key in LOW_RANK)
    kept = _places(kept, values, shape)
    fits = left.shape == (shape[0], right.shape[0]) and right.shape == (left.shape[1], shape[1])
    if not fits or not left.dtype == right.dtype == torch.int32:
        raise ValueError(name)
    return LowRankChange(name, shape, left, right, exponent), Overwritten(kept, values)


def _places(indices: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`indices` as int64. Raises `ValueError` unless they are distinct, ascending places in `shape`, one for each of
    `values`."""
    places = indices.long()
    inside = not len(places) or (int(places[0]) >= 0 and int(places[-1]) < shape[0] * shape[1])
    if indices.ndim != 1 or indices.shape != values.shape or not inside or not bool((places.diff() > 0).all()):
        raise ValueError(shape)
    if not values.dtype.is_floating_point or indices.dtype.is_floating_point:
        raise ValueError(values.dtype)
    return places


def info(file: Path, delta: Delta) -> DeltaInfo:
    """What a delta file holds, in numbers."""
    return DeltaInfo(
        file=str(file),
        size_bytes=file.stat().st_size,
        base=delta.base,
        method=str(delta.about.get("method", "unknown")),
        facts=tuple(map(str, delta.about.get("facts", ()))),
        parameters=tuple(map(described, delta.parts)),
    )


def for_model(model: Any, delta: Delta) -> list[Change]:
    """The changes of `delta` under the names of an open model's parameters.

    Raises `SaveError` when a parameter is missing or is not the recorded base.
    """
    changes: list[Change] = []
    names = [name for name, _parameter in model.named_parameters()]
    for part in delta.parts:
        name = stored_name(part.name, names)
        weight = model.get_parameter(name).detach()
        hint = f"Open the model with --dtype {part.dtype}."
        check(part, weight, part.before, "the base that this edit was made for", hint)
        changes.append(replace(part.change, name=name))
    return changes
