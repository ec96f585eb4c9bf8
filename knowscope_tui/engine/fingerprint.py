"""Whether a model and its dictionaries are those of before, told from their numbers: a name may come to hold others.

Sums of bits taken as integers are exact, the same on every device and in any order.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from knowscope_tui.engine.dictionary import Dictionary
from knowscope_tui.engine.model import LanguageModel

WORD = 8
"""Bytes that are added up as one integer."""


@torch.no_grad()
def weights_fingerprint(lm: LanguageModel) -> str:
    """Of every parameter as it stands, edits included."""
    return _digest(dict(lm.model.named_parameters()))


def dictionary_fingerprint(dictionary: Dictionary) -> str:
    """Of its biases and thresholds: they are at hand, where its matrices would have to be read from disk."""
    return _digest(dictionary.vectors(torch.device("cpu")))


def _digest(tensors: dict[str, Tensor]) -> str:
    lines = [f"{name} {tuple(tensor.shape)} {tensor.dtype} {_sum_of_bits(tensor)}" for name, tensor in tensors.items()]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


def _sum_of_bits(tensor: Tensor) -> int:
    raw = tensor.detach().contiguous().view(-1).view(torch.uint8)
    whole = len(raw) // WORD * WORD
    words = raw[:whole] if raw.storage_offset() % WORD == 0 else raw[:whole].clone()
    return int(words.view(torch.int64).sum()) + int(raw[whole:].sum())
