"""A saved folder read back: what it says of itself, and what is wrong with it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from knowscope_tui.core.record import DELTA, RECORD, Row, read_record
from knowscope_tui.engine.deltas.change import bits
from knowscope_tui.engine.deltas.files import read as read_delta
from knowscope_tui.engine.deltas.parts import Delta, DeltaPart, applied
from knowscope_tui.engine.hashes import sha256
from knowscope_tui.engine.loading import base_folder
from knowscope_tui.engine.saving.save import OURS, other_files
from knowscope_tui.engine.saving.stored import StoredTensor, tensors_in, weight_files
from knowscope_tui.errors import KnowscopeError, SaveError


@dataclass(frozen=True)
class Saved:
    """What a checkpoint folder says of itself."""

    folder: Path
    record: Row
    delta: Delta

    @property
    def base_name(self) -> str:
        return str(self.record["base"]["name"])


def read(folder: Path) -> Saved:
    """Reads the record and the delta of a saved checkpoint. Raises `SaveError` when there is none or it is broken."""
    record = read_record(folder)
    if not (folder / DELTA).is_file():
        raise SaveError(f"{str(folder)!r} holds no {DELTA}.", "Name a folder that this program saved.")
    return Saved(folder, record, read_delta(folder / DELTA))


def problems(saved: Saved, base: str) -> list[str]:
    """What is wrong with a checkpoint, each in a sentence.

    Its tensors must be the base's with the delta applied, its other files the base's, byte for byte, and nothing else
    may lie there but hidden files. A shard that is the very file of the base is held against the hash that was
    recorded. The model card may say anything.
    """
    source = base_folder(base)
    found: list[str] = []
    if saved.record.get("delta_sha256") != sha256(saved.folder / DELTA):
        found.append(f"{DELTA} is not the one that was recorded.")
    found += shared_problems(saved, source)
    parts = {part.name: part for part in saved.delta.parts}
    if {name: part.before for name, part in parts.items()} != saved.record["base"].get("tensors"):
        found.append(f"{DELTA} and {RECORD} name different hashes of the base.")
    before, after = tensors_in(source), tensors_in(saved.folder)
    for name in sorted(before.keys() | after.keys() | parts.keys()):
        if name not in before or name not in after:
            found.append(f"{name} is in only one of base and checkpoint.")
        else:
            found += _wrong(before[name], after[name], parts.get(name))
    for path in other_files(source):
        copy = saved.folder / path.name
        if not copy.is_file() or copy.read_bytes() != path.read_bytes():
            found.append(f"{path.name} differs from the base.")
    known = {path.name for path in (*weight_files(source), *other_files(source))} | set(OURS)
    for path in sorted(saved.folder.iterdir()):
        if path.name not in known and not path.name.startswith("."):
            found.append(f"{path.name} is neither the base's nor of this program's making.")
    if saved.record.get("tensors") != {name: part.after for name, part in parts.items()}:
        found.append(f"{DELTA} and {RECORD} name different hashes of the edited tensors.")
    return found


def shared_problems(saved: Saved, source: Path | None = None) -> list[str]:
    """What is wrong with the shards that were saved as links, and with those that are files of the base in `source`."""
    recorded = saved.record.get("linked") or {}
    found: list[str] = []
    for shard in weight_files(saved.folder):
        theirs = None if source is None else source / shard.name
        if shard.name in recorded:
            if sha256(shard) != recorded[shard.name]:
                found.append(f"{shard.name} was changed in place after it was saved.")
        elif theirs is not None and theirs.is_file() and os.path.samefile(shard, theirs):
            found.append(f"{shard.name} is the base's own file, and what it held was not recorded.")
    return found


def _wrong(before: StoredTensor, after: StoredTensor, part: DeltaPart | None) -> list[str]:
    """What is wrong with one tensor: nothing, or one sentence."""
    if part is None:
        if os.path.samefile(before.file, after.file) or _same(before.read(), after.read()):
            return []
        return [f"{before.name} differs from the base."]
    try:
        expected = applied(part, before.read())
    except KnowscopeError as error:
        return [error.what]
    return [] if _same(expected, after.read()) else [f"{before.name} does not hold the recorded change."]


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(bits(one), bits(other))
