"""Parts of a delta: one parameter's change with all that it takes to make it, take it back and know that it was right.

A part says its name, shape and hashes at once; its tensors may still lie in a file, so that a delta of many dense
changes never is in memory whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from knowscope_tui.core.saved import DeltaParameter
from knowscope_tui.engine.deltas.change import Change, LowRankChange, Overwritten, SparseChange, added, make, take_back
from knowscope_tui.engine.hashes import tensor_sha256
from knowscope_tui.errors import SaveError

UNKNOWN = ""
"""The hash of what merged edits give: without the base nobody knows it, and it is not checked."""


@dataclass(frozen=True)
class DeltaPart:
    """The change of one parameter, and the SHA-256 of the parameter's bytes before and after it.

    `dtype` is the parameter's, as in "bfloat16". `content` gives the change and what it overwrites; of a part in a
    file it reads them each time, and raises `SaveError` for what cannot be.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    before: str
    after: str
    content: Callable[[], tuple[Change, Overwritten]] = field(compare=False, repr=False)

    @property
    def change(self) -> Change:
        return self.content()[0]

    @property
    def overwritten(self) -> Overwritten:
        return self.content()[1]


@dataclass(frozen=True)
class Delta:
    """An edit by itself. `about` says what it is: base, method, facts, and whatever the maker put there."""

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
    content = change, make(edited, change)
    hashes = tensor_sha256(base), tensor_sha256(edited)
    return DeltaPart(change.name, change.shape, dtype_name(base.dtype), *hashes, lambda: content), edited


def applied(part: DeltaPart, base: Tensor) -> Tensor:
    """`base` with the change made, in place. Raises `SaveError` when it is not the recorded base."""
    check(part, base, part.before, "the base that this edit was made for", "Name the base in that dtype with --base.")
    make(base, part.change)
    check(part, base, part.after, "what the edit was recorded to give")
    return base


def reverted(part: DeltaPart, edited: Tensor) -> Tensor:
    """`edited` with the change taken back, in place. Raises `SaveError` when it is not what the edit gave."""
    check(part, edited, part.after, "what this edit gave")
    take_back(edited, *part.content())
    check(part, edited, part.before, "the recorded base")
    return edited


def check(part: DeltaPart, tensor: Tensor, expected: str, what: str, for_dtype: str = "") -> None:
    """Raises `SaveError` unless `tensor` has the hash `expected`; `for_dtype` is what to do about another dtype."""
    own = "Name the model that the edit belongs to."
    here = dtype_name(tensor.dtype)
    if here != part.dtype:
        raise SaveError(f"{part.name} is {here}, and the edit was made for {part.dtype}.", for_dtype or own)
    known = expected == UNKNOWN or tensor_sha256(tensor) == expected
    if tuple(tensor.shape) != part.shape or not known:
        raise SaveError(f"{part.name} is not {what}.", own)


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def moved(change: Change, overwritten: Overwritten) -> Tensor:
    """ΔW at the changed entries, float64: (positions,), or (rows, columns) of a low-rank change."""
    if isinstance(change, LowRankChange):
        return added(change)
    return change.values.to(torch.float64) - overwritten.values.to(torch.float64)


def described(part: DeltaPart) -> DeltaParameter:
    """A part in numbers."""
    change, overwritten = part.content()
    difference = moved(change, overwritten)
    rank = change.rank if isinstance(change, LowRankChange) else None
    return DeltaParameter(
        part.name,
        part.shape,
        change.positions,
        rank,
        float(torch.linalg.vector_norm(difference)),
        float(difference.abs().max()) if difference.numel() else 0.0,
    )
