"""Hashes of files, read in blocks, and of tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_BLOCK = 1 << 22


def sha256(path: Path, stopped: Callable[[], bool] = lambda: False) -> str:
    """The SHA-256 of a file, in hexadecimal; of what was read of it where `stopped` says so between two blocks."""
    return _read_into(hashlib.sha256(), path, stopped)


def git_hash(path: Path) -> str:
    """What git calls a file of this content, in hexadecimal: the SHA-1 of its size and bytes."""
    return _read_into(hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False), path)


def tensor_sha256(tensor: Tensor) -> str:
    """The SHA-256 of a tensor's bytes as safetensors keeps them, row by row, in hexadecimal."""
    return hashlib.sha256(tensor_bytes(tensor)).hexdigest()


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, row by row."""
    whole = tensor.detach().cpu().contiguous().view(-1)
    data: Any = whole.view(torch.uint8).numpy()
    return memoryview(data)


def _read_into(digest: Any, path: Path, stopped: Callable[[], bool] = lambda: False) -> str:
    with path.open("rb") as file:
        while not stopped() and (block := file.read(_BLOCK)):
            digest.update(block)
    return str(digest.hexdigest())
