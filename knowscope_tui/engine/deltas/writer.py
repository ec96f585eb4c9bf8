"""A delta file written part by part, so that one parameter's change is in memory and not all of them.

A safetensors file begins with a header that says where everything lies, and that is known last: hashes, and how much a
low-rank change overwrites. Room for the longest header there can be is left in front, and blanks, which the format
allows at a header's end, fill what it does not take.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

import torch
from torch import Tensor

from knowscope_tui.engine.deltas.change import SparseChange
from knowscope_tui.engine.deltas.parts import DeltaPart
from knowscope_tui.engine.hashes import tensor_bytes
from knowscope_tui.engine.saving.stored import DTYPES

FORMAT = 1

KEY = "knowscope_delta"
"""Where the metadata are in the file's header."""

SPARSE, LOW_RANK = ("indices", "values", "before"), ("left", "right", "kept_indices", "kept_values")
"""What a file holds of a change; the last of each is what stood there before."""

_LENGTH = struct.Struct("<Q")
_DTYPES = {dtype: name for name, dtype in DTYPES.items()}
_LARGEST = 2**63


class DeltaWriter:
    """Writes the changes of the parameters `names` to `out`, which is empty and can be sought; then `finish`."""

    def __init__(self, out: BinaryIO, names: Iterable[str], about: Mapping[str, Any]) -> None:
        self._out = out
        self._about = dict(about)
        self._tensors: dict[str, Any] = {}
        self._parameters: dict[str, dict[str, Any]] = {}
        self._size = 0
        self._room = self._longest(list(names))
        out.seek(_LENGTH.size + self._room)

    @property
    def hashes(self) -> dict[str, tuple[str, str]]:
        """Parameter → its hashes before and after, of what was added so far."""
        return {name: (own["before"], own["after"]) for name, own in sorted(self._parameters.items())}

    def add(self, part: DeltaPart) -> None:
        """Writes one part, which is read once."""
        change, overwritten = part.content()
        about: dict[str, Any] = {"shape": list(part.shape), "before": part.before, "after": part.after}
        if isinstance(change, SparseChange):
            own = zip(SPARSE, (change.indices, change.values, overwritten.values), strict=True)
        else:
            about["exponent"] = change.exponent
            kept = (overwritten.indices, overwritten.values)
            own = zip(LOW_RANK, (change.left, change.right, *kept), strict=True)
        for key, tensor in own:
            self._write(f"{part.name}.{key}", _packed(key, tensor))
        self._parameters[part.name] = about

    def finish(self) -> None:
        """Puts the header in front. Raises `ValueError` when a part was not among the names."""
        header = self._header(self._tensors, self._parameters)
        if len(header) > self._room:
            raise ValueError("a part was not announced")
        self._out.seek(0)
        self._out.write(_LENGTH.pack(self._room))
        self._out.write(header.ljust(self._room))
        self._out.seek(0, 2)

    def _write(self, name: str, tensor: Tensor) -> None:
        data = tensor_bytes(tensor)
        self._out.write(data)
        self._tensors[name] = _entry(_DTYPES[tensor.dtype], list(tensor.shape), self._size, self._size + len(data))
        self._size += len(data)

    def _header(self, tensors: Mapping[str, Any], parameters: Mapping[str, Any]) -> bytes:
        text = json.dumps({"format": FORMAT, "parameters": parameters, **self._about}, ensure_ascii=False)
        whole = {"__metadata__": {"format": "pt", KEY: text}, **tensors}
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()

    def _longest(self, names: list[str]) -> int:
        """Bytes of the longest header there can be, rounded up to where a tensor may begin."""
        largest = [_LARGEST, _LARGEST]
        entry = _entry(max(DTYPES, key=len), largest, _LARGEST, _LARGEST)
        tensors = {f"{name}.{key}": entry for name in names for key in (*SPARSE, *LOW_RANK)}
        about = {"shape": largest, "before": "0" * 64, "after": "0" * 64, "exponent": -_LARGEST}
        length = len(self._header(tensors, dict.fromkeys(names, about)))
        return -(-length // _LENGTH.size) * _LENGTH.size


def _entry(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def _packed(key: str, value: Tensor) -> Tensor:
    """As small as it goes: places fit 32 bits in all but the largest parameters."""
    value = value.detach().cpu().contiguous()
    small = key.endswith("indices") and (not value.numel() or int(value.max()) < 2**31)
    return value.to(torch.int32) if small else value
