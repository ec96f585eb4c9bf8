"""Random numbers that cost little: one block of them is drawn, and repeated without end."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

BLOCK = 16_777_213
"""A prime, so that no two rows of a matrix filled from the block are equal."""


class Noise:
    """A block of numbers repeated without end, taken from the front. `block`: (BLOCK,)."""

    def __init__(self, block: Tensor) -> None:
        self.block = block
        self.at = 0

    def pieces(self, count: int) -> Iterator[Tensor]:
        """The next `count` numbers, as views of the block."""
        while count:
            piece = self.block[self.at : self.at + count]
            self.at = (self.at + len(piece)) % len(self.block)
            count -= len(piece)
            yield piece

    def take(self, *shape: int) -> Tensor:
        """The next numbers as a tensor of its own."""
        return torch.cat(list(self.pieces(math.prod(shape)))).reshape(shape)

    def fill(self, tensor: Tensor) -> None:
        """Puts the next numbers into `tensor`, which lies in one piece of memory."""
        flat, at = tensor.view(-1), 0
        for piece in self.pieces(flat.numel()):
            flat[at : at + len(piece)] = piece
            at += len(piece)


def normals(seed: int, stream: int) -> Tensor:
    """A block of normal numbers, float32; each `stream` of a seed is another one."""
    return torch.from_numpy(np.random.default_rng([seed, stream]).standard_normal(BLOCK, dtype=np.float32))
