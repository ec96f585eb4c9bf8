"""Changes of single parameters that can be made and taken back bit for bit, on any machine.

A sparse change writes values at positions. A low-rank change adds D = left · right · 2^exponent, where the factors are
integers so small that float64 holds every partial sum exactly: D is the same bits whatever adds them up, and so is the
parameter, the float64 sum W + D rounded to its dtype. Subtracting D again does not always give W back (W + D was
rounded); the entries where it does not are part of what `make` returns, and `take_back` puts them in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from knowscope_tui.errors import EditError

FACTOR_BITS = 20
"""Bits of a factor's integers: two of these and a rank up to 4,096 fit the 53 of a float64."""

ROWS_BYTES = 1 << 26
"""What one step may take in float64."""


@dataclass(frozen=True)
class SparseChange:
    """`values` (n,) go to the flat, ascending `indices` (n,) of the parameter `name`.

    `shape` and `indices` are in the parameter's own layout, which is (d_mlp, d_model) in some families.
    """

    name: str
    shape: tuple[int, ...]
    indices: Tensor
    values: Tensor

    @property
    def positions(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class LowRankChange:
    """ΔW = left · right · 2^exponent for the parameter `name`: left (rows, r), right (r, columns), int32.

    `shape` is (rows, columns), in the parameter's own layout.
    """

    name: str
    shape: tuple[int, ...]
    left: Tensor
    right: Tensor
    exponent: int

    @property
    def rank(self) -> int:
        return int(self.left.shape[1])

    @property
    def positions(self) -> int:
        return self.shape[0] * self.shape[1]


Change = SparseChange | LowRankChange


@dataclass(frozen=True)
class Overwritten:
    """What a change cannot compute back: the `values` (n,) that stood at the flat `indices` (n,) before it."""

    indices: Tensor
    values: Tensor


def low_rank(name: str, left: Tensor, right: Tensor) -> LowRankChange:
    """The change left · right as integers: left (rows, r), right (r, columns), any float dtype, r at most 4,096.

    Raises `EditError` for a factor that is not finite.
    """
    if not all(bool(torch.isfinite(factor).all()) for factor in (left, right)):
        raise EditError(
            f"The edit of {name} came out as no finite number.", "Edit fewer facts at once, or use another method."
        )
    scaled_left, exponent_left = _integers(left)
    scaled_right, exponent_right = _integers(right)
    shape = (left.shape[0], right.shape[1])
    return LowRankChange(name, shape, scaled_left, scaled_right, exponent_left + exponent_right)


def _integers(factor: Tensor) -> tuple[Tensor, int]:
    """Integers and the power of two that scales them back."""
    factor = factor.detach().to("cpu", torch.float64)
    largest = float(factor.abs().max()) if factor.numel() else 0.0
    exponent = torch.frexp(torch.tensor(largest, dtype=torch.float64))[1].item() - FACTOR_BITS
    return torch.ldexp(factor, torch.tensor(-exponent)).round().to(torch.int32), int(exponent)


@torch.no_grad()
def make(weight: Tensor, change: Change) -> Overwritten:
    """Writes `change` into `weight`, which has the change's shape and is changed in place."""
    if isinstance(change, SparseChange):
        flat, indices = weight.view(-1), change.indices.to(weight.device)
        before = flat[indices].clone()
        flat[indices] = change.values.to(weight.device, weight.dtype)
        return Overwritten(indices, before)
    places: list[Tensor] = []
    values: list[Tensor] = []
    for start, rows, more in _steps(weight, change):
        before = rows.clone()
        rows.copy_(rows.to(torch.float64) + more)
        back = (rows.to(torch.float64) - more).to(weight.dtype)
        lost = (bits(back) != bits(before)).flatten().nonzero()[:, 0]
        places.append(lost + start * change.shape[1])
        values.append(before.flatten()[lost])
    return Overwritten(torch.cat(places), torch.cat(values))


@torch.no_grad()
def take_back(weight: Tensor, change: Change, overwritten: Overwritten) -> None:
    """Restores `weight`, in place, to what it was when `make` returned `overwritten`."""
    if isinstance(change, LowRankChange):
        for _start, rows, more in _steps(weight, change):
            rows.copy_(rows.to(torch.float64) - more)
    weight.view(-1)[overwritten.indices.to(weight.device)] = overwritten.values.to(weight.device)


def added(change: LowRankChange) -> Tensor:
    """ΔW of a low-rank change, (rows, columns), float64, as it would be in exact arithmetic."""
    return torch.ldexp(change.left.to(torch.float64) @ change.right.to(torch.float64), torch.tensor(change.exponent))


def bits(tensor: Tensor) -> Tensor:
    """The bits of a float tensor as integers of the same shape: 0.0 and −0.0 differ, a NaN equals itself."""
    sizes = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.view(sizes[tensor.element_size()])


def _steps(weight: Tensor, change: LowRankChange) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Some rows of `weight` at a time: the first one's number, a view of them, and what is added, float64."""
    left, right = change.left.to(torch.float64), change.right.to(torch.float64)
    at_once = max(1, ROWS_BYTES // (8 * max(change.shape[1], 1)))
    for start in range(0, change.shape[0], at_once):
        part = torch.ldexp(left[start : start + at_once] @ right, torch.tensor(change.exponent))
        yield start, weight[start : start + at_once], part.to(weight.device)


@contextmanager
def made(model: nn.Module, changes: Sequence[Change]) -> Iterator[None]:
    """`changes` are made to the parameters that they name inside the block, and taken back bit for bit behind it."""
    done: list[tuple[Change, Overwritten]] = []
    try:
        for change in changes:
            done.append((change, make(model.get_parameter(change.name).detach(), change)))
        yield
    finally:
        for change, overwritten in reversed(done):
            take_back(model.get_parameter(change.name).detach(), change, overwritten)
