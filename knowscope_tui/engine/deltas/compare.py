"""Delta files and checkpoints side by side: where they differ, and several as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from knowscope_tui.core.saved import ParameterDiff
from knowscope_tui.engine.deltas.change import Change, Overwritten, SparseChange, bits, make
from knowscope_tui.engine.deltas.parts import UNKNOWN, Delta, DeltaPart, moved
from knowscope_tui.engine.saving.identity import FINGERPRINT
from knowscope_tui.errors import SaveError


def delta_diff(a: Delta, b: Delta) -> list[ParameterDiff]:
    """Every parameter that two delta files change differently."""
    parts_a, parts_b = ({part.name: part for part in delta.parts} for delta in (a, b))
    found = []
    for name in sorted(parts_a.keys() | parts_b.keys()):
        own = [parts.get(name) for parts in (parts_a, parts_b)]
        shape = next(part.shape for part in own if part is not None)
        moves, touched = zip(*(_whole(part, shape) for part in own), strict=True)
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


def _whole(part: DeltaPart | None, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """ΔW of every entry, float64, and which entries are written, both (rows · columns,)."""
    whole = torch.zeros(shape[0] * shape[1], dtype=torch.float64)
    if part is None:
        return whole, torch.zeros_like(whole, dtype=torch.bool)
    change, overwritten = part.content()
    if isinstance(change, SparseChange):
        whole[change.indices] = moved(change, overwritten)
        touched = torch.zeros_like(whole, dtype=torch.bool)
        touched[change.indices] = True
        return whole, touched
    return moved(change, overwritten).flatten(), torch.ones_like(whole, dtype=torch.bool)


def merge(deltas: Sequence[Delta], *, later_wins: bool) -> Delta:
    """Several edits of one base as one, which gives what making them one after the other gives.

    A parameter's changes are merged when its part is read. Raises `SaveError` for edits of different bases, and so does
    reading a part in which, unless `later_wins`, two edits set entries differently.
    """
    _check_one_base(deltas)
    by_name: dict[str, list[DeltaPart]] = {}
    for delta in deltas:
        for part in delta.parts:
            by_name.setdefault(part.name, []).append(part)
    parts = tuple(_merged(own, later_wins) for _name, own in sorted(by_name.items()))
    methods = dict.fromkeys(str(delta.about.get("method", "unknown")) for delta in deltas)
    facts = dict.fromkeys(str(name) for delta in deltas for name in delta.about.get("facts", ()))
    base = {key: value for key, value in deltas[0].about.items() if key in ("base", FINGERPRINT, "license")}
    return Delta(parts, {**base, "method": ", ".join(methods), "facts": list(facts)})


def _check_one_base(deltas: Sequence[Delta]) -> None:
    """Raises `SaveError` for deltas of different bases. Where one of them has no fingerprint the names decide."""
    prints = {delta.about.get(FINGERPRINT) for delta in deltas}
    names = list(dict.fromkeys(delta.base for delta in deltas))
    if len(prints) == 1 and None not in prints:
        return
    if None not in prints or len(names) > 1:
        named = " and ".join(map(repr, names)) if len(names) > 1 else f"other weights under the name {names[0]!r}"
        raise SaveError(f"The edits were made for different bases: {named}.", "Merge edits of one base.")


def _merged(parts: Sequence[DeltaPart], later_wins: bool) -> DeltaPart:
    first = parts[0]
    if len(parts) == 1:
        return first
    if len({(part.before, part.shape, part.dtype) for part in parts}) > 1:
        raise SaveError(f"The edits of {first.name} were made for different bases.", "Merge edits of one base.")
    return replace(first, after=UNKNOWN, content=partial(_content, parts, later_wins))


def _content(parts: Sequence[DeltaPart], later_wins: bool) -> tuple[Change, Overwritten]:
    """The changes of one parameter as one."""
    name, shape = parts[0].name, parts[0].shape
    base = torch.zeros(shape, dtype=getattr(torch, parts[0].dtype))
    written = torch.zeros(base.numel(), dtype=torch.bool)
    edited = base.clone()
    clashes = 0
    for change, overwritten in (part.content() for part in parts):
        if not isinstance(change, SparseChange):
            what = f"Two edits of {name} overlap everywhere: one of them is low-rank."
            raise SaveError(what, "Apply one after the other instead.")
        here = overwritten.indices
        base.view(-1)[here] = overwritten.values
        before = edited.view(-1)[here].clone()
        make(edited, change)
        clashes += int((written[here] & (bits(edited.view(-1)[here]) != bits(before))).sum())
        written[here] = True
    if clashes and not later_wins:
        raise SaveError(
            f"Two edits set {clashes:,} entries of {name} differently.", "Say --later-wins to take the later one's."
        )
    places = written.nonzero()[:, 0]
    change = SparseChange(name, shape, places, edited.view(-1)[places])
    return change, Overwritten(places, base.view(-1)[places])
