"""Delta files, `*.delta.safetensors`: an edit by itself, to be applied, taken back, compared and merged.

For every parameter, under the name a checkpoint stores it by: of a sparse change `indices`, `values` and the values
`before`; of a low-rank one `left` and `right` (the exponent is in the metadata) and the entries it cannot compute back,
`kept_indices` and `kept_values`. The metadata, one JSON text, name the base, the method, the facts (by id or salted
hash), and hold the SHA-256 of each parameter's bytes before and after. With these a file is never applied to another
base, nor taken back from something it did not make; both ways end at the recorded bits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_bytes
from torch import Tensor

from knowscope_tui.core.saved import DeltaInfo, DeltaParameter
from knowscope_tui.core.written import check_target, written_beside
from knowscope_tui.engine.deltas.change import Change, LowRankChange, Overwritten, SparseChange, added, make, take_back
from knowscope_tui.engine.hashes import tensor_sha256
from knowscope_tui.engine.saving.stored import stored_name
from knowscope_tui.errors import SaveError

SUFFIX = ".delta.safetensors"
FORMAT = 1
UNKNOWN = ""
"""The hash of what merged edits give: without the base nobody knows it, and it is not checked."""

KEY = "knowscope_delta"
"""Where the metadata are in the file's header."""


@dataclass(frozen=True)
class DeltaPart:
    """The change of one parameter, what it overwrites, and the hashes of the parameter around it."""

    change: Change
    overwritten: Overwritten
    before: str
    after: str

    @property
    def name(self) -> str:
        return self.change.name


@dataclass(frozen=True)
class Delta:
    """A delta file's content. `about` says what it is: base, method, facts, and whatever the maker put there."""

    parts: tuple[DeltaPart, ...]
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def base(self) -> str:
        return str(self.about.get("base", "unknown"))


def part_of(base: Tensor, change: Change) -> tuple[DeltaPart, Tensor]:
    """`change` in the dtype of `base` with everything a file needs, and the edited tensor; `base` is left as it is."""
    if isinstance(change, SparseChange):
        change = replace(change, values=change.values.to(base.dtype))
    edited = base.clone()
    overwritten = make(edited, change)
    return DeltaPart(change, overwritten, tensor_sha256(base), tensor_sha256(edited)), edited


def applied(part: DeltaPart, base: Tensor) -> Tensor:
    """`base` with the change made, in place. Raises `SaveError` when it is not the recorded base."""
    _check(part, base, part.before, "the base that this edit was made for")
    make(base, part.change)
    _check(part, base, part.after, "what the edit was recorded to give")
    return base


def reverted(part: DeltaPart, edited: Tensor) -> Tensor:
    """`edited` with the change taken back, in place. Raises `SaveError` when it is not what the edit gave."""
    _check(part, edited, part.after, "what this edit gave")
    take_back(edited, part.change, part.overwritten)
    _check(part, edited, part.before, "the recorded base")
    return edited


def _check(part: DeltaPart, tensor: Tensor, expected: str, what: str) -> None:
    known = expected == UNKNOWN or tensor_sha256(tensor) == expected
    if tuple(tensor.shape) != part.change.shape or not known:
        raise SaveError(f"{part.name} is not {what}.", "Name the model that the edit belongs to.")


# --- writing --------------------------------------------------------------------------------------------------------


def write(file: Path, delta: Delta) -> None:
    """Writes `delta` to `file`, whole or not at all. Raises `SaveError`."""
    check_target(file)
    with written_beside(file) as out:
        out.write(as_bytes(delta))


def as_bytes(delta: Delta) -> bytes:
    """The content of a delta file."""
    tensors: dict[str, Tensor] = {}
    parameters: dict[str, Any] = {}
    for part in delta.parts:
        change = part.change
        about: dict[str, Any] = {"shape": list(change.shape), "before": part.before, "after": part.after}
        if isinstance(change, SparseChange):
            own = {"indices": change.indices, "values": change.values, "before": part.overwritten.values}
        else:
            about["exponent"] = change.exponent
            kept = part.overwritten
            own = {
                "left": change.left,
                "right": change.right,
                "kept_indices": kept.indices,
                "kept_values": kept.values,
            }
        tensors |= {f"{change.name}.{key}": _packed(key, value) for key, value in own.items()}
        parameters[change.name] = about
    text = json.dumps({"format": FORMAT, "parameters": parameters, **delta.about}, ensure_ascii=False)
    return save_bytes(tensors, metadata={"format": "pt", KEY: text})


def _packed(key: str, value: Tensor) -> Tensor:
    """As small as it goes: places fit 32 bits in all but the largest parameters."""
    value = value.detach().cpu().contiguous()
    small = key.endswith("indices") and (not value.numel() or int(value.max()) < 2**31)
    return value.to(torch.int32) if small else value


# --- reading --------------------------------------------------------------------------------------------------------


def read(file: Path) -> Delta:
    """Reads a delta file. Raises `SaveError` for one that is missing, broken, or says impossible things."""
    if not file.is_file():
        raise SaveError(f"There is no delta file {str(file)!r}.", f"Name a file that ends in {SUFFIX}.")
    try:
        with safe_open(file, framework="pt") as opened:
            about = json.loads((opened.metadata() or {})[KEY])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        if about.pop("format") != FORMAT:
            raise SaveError(f"{str(file)!r} is of a format that this version does not know.", "Update knowscope-tui.")
        parameters = about.pop("parameters")
        parts = tuple(_part(name, own, tensors) for name, own in sorted(parameters.items()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError):
        raise SaveError(f"{str(file)!r} is no delta file, or a broken one.", "Make it again.") from None
    return Delta(parts, about)


def _part(name: str, own: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> DeltaPart:
    """One parameter's part. Raises `ValueError` for what cannot be."""
    shape = tuple(int(size) for size in own["shape"])
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(name)
    change: Change
    if f"{name}.indices" in tensors:
        indices, values, before = (tensors[f"{name}.{key}"] for key in ("indices", "values", "before"))
        _check_places(indices, values, shape)
        if before.shape != values.shape or before.dtype != values.dtype:
            raise ValueError(name)
        change = SparseChange(name, shape, indices.long(), values)
        overwritten = Overwritten(indices.long(), before)
    else:
        left, right = tensors[f"{name}.left"], tensors[f"{name}.right"]
        kept, values = tensors[f"{name}.kept_indices"], tensors[f"{name}.kept_values"]
        _check_places(kept, values, shape)
        fits = left.shape == (shape[0], right.shape[0]) and right.shape == (left.shape[1], shape[1])
        if not fits or left.dtype != torch.int32 or right.dtype != torch.int32:
            raise ValueError(name)
        change = LowRankChange(name, shape, left, right, int(own["exponent"]))
        overwritten = Overwritten(kept.long(), values)
    return DeltaPart(change, overwritten, str(own["before"]), str(own["after"]))


def _check_places(indices: Tensor, values: Tensor, shape: tuple[int, ...]) -> None:
    """Raises `ValueError` unless `indices` are distinct, ascending places in `shape`, one for each of `values`."""
    places = indices.long()
    inside = not len(places) or (int(places[0]) >= 0 and int(places[-1]) < shape[0] * shape[1])
    if indices.ndim != 1 or indices.shape != values.shape or not inside or not bool((places.diff() > 0).all()):
        raise ValueError(shape)
    if not values.dtype.is_floating_point:
        raise ValueError(values.dtype)


def info(file: Path, delta: Delta) -> DeltaInfo:
    """What a delta file holds, in numbers."""
    return DeltaInfo(
        file=str(file),
        size_bytes=file.stat().st_size,
        base=delta.base,
        method=str(delta.about.get("method", "unknown")),
        facts=tuple(map(str, delta.about.get("facts", ()))),
        parameters=tuple(_described(part) for part in delta.parts),
    )


def moved(part: DeltaPart) -> Tensor:
    """ΔW at the changed entries, float64: (positions,), or (rows, columns) of a low-rank change."""
    if isinstance(part.change, LowRankChange):
        return added(part.change)
    return part.change.values.to(torch.float64) - part.overwritten.values.to(torch.float64)


def _described(part: DeltaPart) -> DeltaParameter:
    difference = moved(part)
    rank = part.change.rank if isinstance(part.change, LowRankChange) else None
    return DeltaParameter(
        part.name,
        part.change.shape,
        part.change.positions,
        rank,
        float(torch.linalg.vector_norm(difference)),
        float(difference.abs().max()) if difference.numel() else 0.0,
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
        _check(part, weight, part.before, "the base that this edit was made for")
        changes.append(replace(part.change, name=name))
    return changes
