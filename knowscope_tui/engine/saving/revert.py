"""A saved edit taken back from its folder alone: the base's weights, bit for bit, without the base."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.saved import Placed, PlannedFile, SavedCheckpoint
from knowscope_tui.engine.deltas.parts import Delta, DeltaPart, reverted
from knowscope_tui.engine.saving.folder import beside, check_folder
from knowscope_tui.engine.saving.place import copied, placed
from knowscope_tui.engine.saving.room import existing_parent, planned_copy, planned_shard, shortage
from knowscope_tui.engine.saving.save import file_of, other_files
from knowscope_tui.engine.saving.stored import StoredTensor, stored_name, tensors_in, weight_files

Taken = Sequence[tuple[StoredTensor, DeltaPart]]


def revert(folder: Path, delta: Delta, target: Path, *, link: bool, on_progress: OnProgress) -> SavedCheckpoint:
    """Writes the model in `folder` with `delta` taken back as the folder `target`, without record and delta.

    Raises `SaveError` when the folder does not hold what the delta gave, the disk is full, or it cannot be written.
    """
    check_folder(target, folder)
    stored = tensors_in(folder)
    shards: dict[Path, list[tuple[StoredTensor, DeltaPart]]] = {shard: [] for shard in weight_files(folder)}
    for part in delta.parts:
        tensor = stored[stored_name(part.name, stored)]
        shards[tensor.file].append((tensor, part))
    _check_room(folder, shards, target, link=link)
    files: list[PlannedFile] = []
    with beside(target) as partial:
        for number, (shard, own) in enumerate(shards.items()):
            on_progress(f"Writing {shard.name}", number / len(shards))
            files.append(_write(shard, own, partial / shard.name, link=link))
        for path in other_files(folder):
            shutil.copyfile(path, partial / path.name)
            files.append(file_of(partial / path.name, Placed.COPIED))
    size = sum(file.bytes for file in files)
    return SavedCheckpoint(str(target.absolute()), size, tuple(part.name for part in delta.parts), tuple(files))


def _check_room(
    folder: Path, shards: dict[Path, list[tuple[StoredTensor, DeltaPart]]], target: Path, *, link: bool
) -> None:
    beside_it = existing_parent(target)
    planned = [
        planned_shard(shard, [tensor for tensor, _part in own], beside_it, link=link) for shard, own in shards.items()
    ]
    short = shortage([*planned, *map(planned_copy, other_files(folder))], beside_it)
    if short is not None:
        raise short


def _write(shard: Path, own: Taken, copy: Path, *, link: bool) -> PlannedFile:
    if not own:
        return file_of(copy, placed(shard, copy, link=link))
    how = copied(shard.resolve(), copy, reflink=link)
    for tensor, part in own:
        tensor.write(copy, reverted(part, tensor.read()))
    whole = file_of(copy, Placed.EDITED)
    return replace(whole, written=sum(tensor.size for tensor, _part in own)) if how is Placed.REFLINKED else whole
