"""The tensors of a model folder as they lie in its safetensors files.

A safetensors file is 8 bytes of length, a JSON header of that length with each tensor's dtype, shape and range, and the
tensors' bytes. Everything here reads headers alone, or one tensor.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from knowscope_tui.core.written import cannot_read
from knowscope_tui.engine.hashes import tensor_bytes
from knowscope_tui.errors import ModelNotLoaded, SaveError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
}
"""Dtypes of weights that can be edited, and of places and factors in delta files, by their names in safetensors."""

MOST_HEADER = 1 << 27

_FROM_LAYER_LIST = re.compile(r"[^.]+\.\d+\..+")
"""The tail of a parameter's name that begins with the list of layers: `layers.0.mlp.down_proj.weight`."""


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies: `start` and `size` are bytes in `file`."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int

    def read(self) -> Tensor:
        """The tensor, on the CPU. Raises `SaveError` for a dtype that is not a weight's, or a file that is gone or cut
        short."""
        if self.dtype not in DTYPES:
            raise SaveError(f"{self.name} is stored as {self.dtype}.", "Save the base as bfloat16 or float32 first.")
        raw = bytearray(self.size)
        try:
            with self.file.open("rb") as file:
                file.seek(self.start)
                if file.readinto(raw) != self.size:
                    raise _broken(self.file)
        except OSError as error:
            raise cannot_read(self.file, error, "Save or fetch it again.") from None
        flat = torch.frombuffer(raw, dtype=torch.uint8) if raw else torch.empty(0, dtype=torch.uint8)
        return flat.view(DTYPES[self.dtype]).view(self.shape)

    def write(self, file: Path, tensor: Tensor) -> None:
        """Puts `tensor` where this one lies, in `file`, which is laid out alike."""
        data = tensor_bytes(tensor)
        with file.open("r+b") as out:
            out.seek(self.start)
            out.write(data)


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers loads weights from: the single one if there is one, else those of the index.

    Raises `ModelNotLoaded` when there are none.
    """
    single, index = folder / SINGLE, folder / INDEX
    if single.is_file():
        return [single]
    try:
        named = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values() if index.is_file() else ()
        files = sorted({folder / Path(name).name for name in named})
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise ModelNotLoaded(f"{str(index)!r} is no index of weights.", "Fetch the model again.") from None
    if not files:
        raise ModelNotLoaded(f"There is no safetensors file in {str(folder)!r}.", "Save the base as safetensors first.")
    return files


def tensors_in(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of a model folder by name. Raises `ModelNotLoaded` or `SaveError`."""
    found: dict[str, StoredTensor] = {}
    for file in weight_files(folder):
        for name, entry in header(file)[0].items():
            found[name] = entry
    return found


def header(file: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """The tensors of a safetensors file, and its metadata. Raises `SaveError` for a broken one."""
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > MOST_HEADER:
                raise ValueError
            content: dict[str, Any] = json.loads(opened.read(length))
        metadata = content.pop("__metadata__", {})
        tensors = {name: _entry(file, name, entry, 8 + length) for name, entry in content.items()}
        if any(tensor.start + tensor.size > file.stat().st_size for tensor in tensors.values()):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        raise _broken(file) from None
    return tensors, metadata


def _entry(file: Path, name: str, entry: dict[str, Any], data: int) -> StoredTensor:
    first, last = entry["data_offsets"]
    if not 0 <= first <= last:
        raise ValueError
    return StoredTensor(name, file, str(entry["dtype"]), tuple(map(int, entry["shape"])), data + first, last - first)


def _broken(file: Path) -> SaveError:
    return SaveError(f"{str(file)!r} is cut short or not valid.", "Save or fetch it again.")


def stored_name(name: str, stored: Collection[str]) -> str:
    """The one of the `stored` names under which a checkpoint keeps the parameter that the model calls `name`.

    They differ where transformers renames what it loads: a model's `model.language_model.layers.0.…` may be stored as
    `language_model.model.layers.0.…`. Raises `SaveError` for none or several.
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
