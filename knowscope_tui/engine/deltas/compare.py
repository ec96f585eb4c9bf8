"""Delta files and checkpoints side by side: where they differ, and several as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from knowscope_tui.core.saved import ParameterDiff
from knowscope_tui.engine.deltas.change import Overwritten, SparseChange, bits, make
from knowscope_tui.engine.deltas.files import UNKNOWN, Delta, DeltaPart, moved
from knowscope_tui.errors import SaveError


def delta_diff(a: Delta, b: Delta) -> list[ParameterDiff]:
    """Every parameter that two delta files change differently."""
    parts_a, parts_b = ({part.name: part for part in delta.parts} for delta in (a, b))
    found = []
    for name in sorted(parts_a.keys() | parts_b.keys()):
        one, other = parts_a.get(name), parts_b.get(name)
        shape = (one or parts_b[name]).change.shape
        moves = [_whole(part, shape) for part in (one, other)]
        touched = [_touched(part, shape) for part in (one, other)]
        difference = moves[0] - moves[1]
        if not bool((difference != 0).any()) and torch.equal(touched[0], touched[1]):
            continue
        found.append(
            ParameterDiff(
                name,
                shape,
                int((difference != 0).sum()),
                int((touched[0] & ~touched[1]).sum()),
                int((touched[1] & ~touched[0]).sum()),
                float(torch.linalg.vector_norm(difference)),
                float(difference.abs().max()),
            )
        )
    return found


def tensor_diff(name: str, a: Tensor, b: Tensor) -> ParameterDiff | None:
    """How two tensors differ; None where their bits are the same."""
    if a.shape != b.shape or a.dtype != b.dtype:
        raise SaveError(f"{name} has another shape or dtype in each.", "Compare checkpoints of the same base.")
    differs = bits(a) != bits(b)
    if not bool(differs.any()):
        return None
    difference = (a.to(torch.float64) - b.to(torch.float64)).abs()
    norm = float(torch.linalg.vector_norm(difference))
    return ParameterDiff(name, tuple(a.shape), int(differs.sum()), 0, 0, norm, float(difference.max()))


def _whole(part: DeltaPart | None, shape: tuple[int, ...]) -> Tensor:
    """ΔW of every entry, float64."""
    whole = torch.zeros(shape[0] * shape[1], dtype=torch.float64)
    if part is None:
        return whole
    if isinstance(part.change, SparseChange):
        whole[part.change.indices] = moved(part)
        return whole
    return moved(part).flatten()


def _touched(part: DeltaPart | None, shape: tuple[int, ...]) -> Tensor:
    touched = torch.zeros(shape[0] * shape[1], dtype=torch.bool)
    if part is not None and isinstance(part.change, SparseChange):
        touched[part.change.indices] = True
    elif part is not None:
        touched[:] = True
    return touched


def merge(deltas: Sequence[Delta], *, later_wins: bool) -> Delta:
    """Several edits of one base as one, which gives what making them one after the other gives.

    Raises `SaveError` for edits of different bases or, unless `later_wins`, for entries that two of them set
    differently.
    """
    by_name: dict[str, list[DeltaPart]] = {}
    for delta in deltas:
        for part in delta.parts:
            by_name.setdefault(part.name, []).append(part)
    parts = tuple(_merged(name, own, later_wins) for name, own in sorted(by_name.items()))
    methods = dict.fromkeys(str(delta.about.get("method", "unknown")) for delta in deltas)
    facts = dict.fromkeys(str(name) for delta in deltas for name in delta.about.get("facts", ()))
    return Delta(parts, {"base": deltas[0].base, "method": ", ".join(methods), "facts": list(facts)})


def _merged(name: str, parts: Sequence[DeltaPart], later_wins: bool) -> DeltaPart:
    if len(parts) == 1:
        return parts[0]
    if len({part.before for part in parts}) > 1:
        raise SaveError(f"The edits of {name} were made for different bases.", "Merge edits of one base.")
    changes = [part.change for part in parts]
    if not all(isinstance(change, SparseChange) for change in changes):
        raise SaveError(
            f"Two edits of {name} overlap everywhere: one of them is low-rank.", "Apply one after the other instead."
        )
    dtype = parts[0].overwritten.values.dtype
    base = torch.zeros(parts[0].change.shape, dtype=dtype)
    written = torch.zeros(base.numel(), dtype=torch.bool)
    edited = base.clone()
    clashes = 0
    for part in parts:
        base.view(-1)[part.overwritten.indices] = part.overwritten.values
        here = part.overwritten.indices
        before = edited.view(-1)[here].clone()
        make(edited, part.change)
        clashes += int((written[here] & (bits(edited.view(-1)[here]) != bits(before))).sum())
        written[here] = True
    if clashes and not later_wins:
        raise SaveError(
            f"Two edits set {clashes:,} entries of {name} differently.", "Say --later-wins to take the later one's."
        )
    places = written.nonzero()[:, 0]
    change = SparseChange(name, tuple(base.shape), places, edited.view(-1)[places])
    overwritten = Overwritten(places, base.view(-1)[places])
    return DeltaPart(change, overwritten, parts[0].before, UNKNOWN)
