"""The save: only what changed is written.

A shard without an edit shares its blocks with the base's where that is possible, or is linked. An edited one is copied
byte for byte, and the edited tensors are written over in place: header, metadata, order, dtype and every other tensor
keep their bits, and one tensor at a time is in memory. Beside them lie `knowscope_edit.json`, which says what was done
and measured and how the linked files hash, and `knowscope_delta.safetensors`, the way back.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from knowscope_tui import __version__
from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.record import CARD, DELTA, FORMAT, RECORD
from knowscope_tui.core.saved import Placed, PlannedFile, SavedCheckpoint, SaveOptions, SavePlan
from knowscope_tui.engine.deltas.change import Change
from knowscope_tui.engine.deltas.parts import DeltaPart, part_of
from knowscope_tui.engine.deltas.writer import DeltaWriter
from knowscope_tui.engine.hashes import sha256
from knowscope_tui.engine.loading import base_folder
from knowscope_tui.engine.saving.folder import beside, check_folder
from knowscope_tui.engine.saving.identity import FINGERPRINT, base_fingerprint, hashed_meanwhile
from knowscope_tui.engine.saving.place import copied, placed
from knowscope_tui.engine.saving.room import existing_parent, planned_copy, planned_shard, shortage
from knowscope_tui.engine.saving.stored import StoredTensor, stored_name, tensors_in, weight_files
from knowscope_tui.errors import KnowscopeError, SaveError

OURS = (RECORD, DELTA, CARD)

OTHER_SUFFIXES = {".json", ".txt", ".model", ".jinja"}
"""Of files that belong to a model and are no weights: configuration, tokenizer, chat template."""

LICENCES = ("license", "licence", "notice", "copying", "use_policy")
"""How the names of files begin that have to travel with what is made from a base."""

RECORD_BYTES = 1 << 16
"""What record and model card are taken for before they are written."""

PROGRAM = "knowscope-tui"
PACKAGES = (PROGRAM, "torch", "transformers", "safetensors")
"""Whose versions a checkpoint's record holds."""

Edited = Mapping[Path, Sequence[tuple[StoredTensor, Change]]]
"""Shard → its tensors that change, under the names they are stored by."""


def plan_save(base: str, changes: Sequence[Change], target: Path, options: SaveOptions = SaveOptions()) -> SavePlan:
    """What `save` would write and link. What stands in the way is said in `problem`, not raised."""
    folder = existing_parent(target)
    free = shutil.disk_usage(folder).free
    try:
        source = base_folder(base)
        check_folder(target, source)
        files = _planned_files(source, changes, folder, options)
    except KnowscopeError as error:
        return SavePlan(str(target), (), free, error.what, error.hint)
    short = shortage(files, folder)
    return SavePlan(str(target), files, free, short.what if short else "", short.hint if short else "")


def save(
    base: str,
    changes: Sequence[Change],
    record: Mapping[str, Any],
    card: str,
    target: Path,
    options: SaveOptions,
    on_progress: OnProgress,
) -> SavedCheckpoint:
    """Saves the model `base` (folder or hub name) with `changes` made as the folder `target`.

    `record` is what `knowscope_edit.json` says beside versions and hashes, `card` the model card. Raises `SaveError`:
    the target exists, cannot be written, or the disk is full; nothing half-written stays.
    """
    plan = plan_save(base, changes, target, options)
    if plan.problem:
        raise SaveError(plan.problem, plan.hint)
    source = base_folder(base)
    edited = _by_file(source, changes)
    about = {"base": record.get("base_name", base), FINGERPRINT: base_fingerprint(source), **record.get("delta", {})}
    with beside(target) as partial:
        with (partial / DELTA).open("wb") as out:
            delta = DeltaWriter(out, [change.name for own in edited.values() for _tensor, change in own], about)
            files, linked = _write_weights(source, partial, edited, options, on_progress, delta)
            delta.finish()
        on_progress("Writing the record", 0.95)
        for path in other_files(source):
            shutil.copyfile(path, partial / path.name)
            files.append(file_of(partial / path.name, Placed.COPIED))
        _write_record(partial, record, base, delta.hashes, linked)
        (partial / CARD).write_text(card, encoding="utf-8")
        files += [file_of(partial / name, Placed.WRITTEN) for name in OURS]
    return SavedCheckpoint(
        str(target.absolute()),
        sum(file.bytes for file in files),
        tuple(sorted(change.name for change in changes)),
        tuple(files),
    )


def other_files(source: Path) -> list[Path]:
    """Configuration, tokenizer, licence and whatever else belongs to a model and is no weight."""
    return sorted(
        path
        for path in source.iterdir()
        if (path.suffix in OTHER_SUFFIXES or path.name.lower().startswith(LICENCES))
        and path.name not in OURS
        and path.is_file()
    )


def _write_weights(
    source: Path, partial: Path, edited: Edited, options: SaveOptions, on_progress: OnProgress, delta: DeltaWriter
) -> tuple[list[PlannedFile], dict[str, str]]:
    """The shards as they were placed, and the hashes of those that are linked."""
    files: list[PlannedFile] = []
    shards = weight_files(source)
    for shard in [shard for shard in shards if shard not in edited]:
        on_progress(f"Writing {shard.name}", len(files) / len(shards) * 0.9)
        files.append(file_of(partial / shard.name, placed(shard, partial / shard.name, link=options.link)))
    linked = [source / file.name for file in files if file.placed is Placed.LINKED]
    with hashed_meanwhile(linked) as hashes:
        for shard, own in sorted(edited.items()):
            on_progress(f"Writing {shard.name}", len(files) / len(shards) * 0.9)
            files.append(_write_edited(shard, partial / shard.name, own, options, delta))
        while not_done := wait(hashes.values(), 0.2).not_done:
            on_progress("Hashing what is linked", 0.95 - 0.05 * len(not_done) / len(linked))
        return sorted(files, key=lambda file: file.name), {shard.name: hashes[shard].result() for shard in linked}


def _write_edited(
    shard: Path, target: Path, own: Sequence[tuple[StoredTensor, Change]], options: SaveOptions, delta: DeltaWriter
) -> PlannedFile:
    """`shard` as `target`, its tensors changed one after the other."""
    how = copied(shard.resolve(), target, reflink=options.link)
    for stored, change in own:
        delta.add(_changed(stored, target, change))
    whole = file_of(target, Placed.EDITED)
    shared = how is Placed.REFLINKED
    return replace(whole, written=sum(stored.size for stored, _change in own) if shared else whole.bytes)


def _changed(stored: StoredTensor, target: Path, change: Change) -> DeltaPart:
    """Makes `change` in the copy `target`; what it takes to take it back."""
    part, tensor = part_of(stored.read(), change)
    stored.write(target, tensor)
    return part


def _by_file(source: Path, changes: Sequence[Change]) -> Edited:
    stored = tensors_in(source)
    found: dict[Path, list[tuple[StoredTensor, Change]]] = {}
    for change in changes:
        tensor = stored[stored_name(change.name, stored)]
        if tensor.shape != change.shape:
            raise SaveError(f"{tensor.name} has shape {tensor.shape} in the base.", "Open the base again.")
        found.setdefault(tensor.file, []).append((tensor, replace(change, name=tensor.name)))
    return found


def _write_record(
    partial: Path,
    record: Mapping[str, Any],
    base: str,
    hashes: Mapping[str, tuple[str, str]],
    linked: Mapping[str, str],
) -> None:
    whole = {
        "format": FORMAT,
        "base": {
            "name": record.get("base_name", base),
            "tensors": {name: before for name, (before, _after) in hashes.items()},
        },
        "tensors": {name: after for name, (_before, after) in hashes.items()},
        "linked": linked,
        "delta_sha256": sha256(partial / DELTA),
        "versions": versions(),
        **{key: value for key, value in record.items() if key not in ("base_name", "delta")},
    }
    text = json.dumps(whole, ensure_ascii=False, indent=2, allow_nan=False)
    (partial / RECORD).write_text(text + "\n", encoding="utf-8")


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Of this program and what it computes with."""
    return {name: __version__ if name == PROGRAM else metadata.version(name) for name in packages}


def file_of(path: Path, how: Placed) -> PlannedFile:
    """The file at `path` as it was placed there."""
    size = path.stat().st_size
    return PlannedFile(path.name, how, size, 0 if how in (Placed.LINKED, Placed.REFLINKED) else size)


def _planned_files(
    source: Path, changes: Sequence[Change], folder: Path, options: SaveOptions
) -> tuple[PlannedFile, ...]:
    edited = _by_file(source, changes)
    files = [
        planned_shard(shard, [tensor for tensor, _change in edited.get(shard, ())], folder, link=options.link)
        for shard in weight_files(source)
    ]
    files += map(planned_copy, other_files(source))
    delta = sum(_delta_bytes(change) for own in edited.values() for _tensor, change in own)
    files += [
        PlannedFile(RECORD, Placed.WRITTEN, RECORD_BYTES, RECORD_BYTES),
        PlannedFile(DELTA, Placed.WRITTEN, delta, delta),
        PlannedFile(CARD, Placed.WRITTEN, RECORD_BYTES, RECORD_BYTES),
    ]
    return tuple(files)


def _delta_bytes(change: Change) -> int:
    """About what a change takes in a delta file."""
    tensors = [value for value in vars(change).values() if hasattr(value, "numel")]
    return sum(tensor.numel() * max(tensor.element_size(), 4) for tensor in tensors)
