"""The save: only what changed is written.

A shard without an edit is linked where that is possible. An edited one is copied byte for byte, and the edited tensors
are written over in place: header, metadata, order, dtype and every other tensor keep their bits, and one tensor at a
time is in memory. Beside them lie `knowscope_edit.json`, which says what was done and measured, and
`knowscope_delta.safetensors`, the way back.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.record import CARD, DELTA, FORMAT, RECORD
from knowscope_tui.core.saved import Placed, PlannedFile, SavedCheckpoint, SaveOptions, SavePlan
from knowscope_tui.engine.deltas.change import Change
from knowscope_tui.engine.deltas.files import Delta, DeltaPart, as_bytes, part_of
from knowscope_tui.engine.hashes import sha256
from knowscope_tui.engine.loading import base_folder
from knowscope_tui.engine.saving.folder import beside, check_folder
from knowscope_tui.engine.saving.place import can_link, copied, placed
from knowscope_tui.engine.saving.stored import StoredTensor, stored_name, tensors_in, weight_files
from knowscope_tui.errors import KnowscopeError, SaveError
from knowscope_tui.text import file_size

OURS = (RECORD, DELTA, CARD)

OTHER_SUFFIXES = {".json", ".txt", ".model", ".jinja"}
"""Of files that belong to a model and are no weights: configuration, tokenizer, chat template."""

RECORD_BYTES = 1 << 16
"""What record and model card are taken for before they are written."""

PACKAGES = ("knowscope-tui", "torch", "transformers", "safetensors")
"""Whose versions a checkpoint's record holds."""


def plan_save(base: str, changes: Sequence[Change], target: Path, options: SaveOptions = SaveOptions()) -> SavePlan:
    """What `save` would write and link. What stands in the way is said in `problem`, not raised."""
    folder = _existing_parent(target)
    free = shutil.disk_usage(folder).free
    try:
        source = base_folder(base)
        check_folder(target, source)
        files = _planned_files(source, changes, folder, options)
    except KnowscopeError as error:
        return SavePlan(str(target), (), free, error.what, error.hint)
    needed = sum(file.written for file in files)
    if needed > free:
        problem = f"Saving there needs {file_size(needed)}, and {file_size(free)} are free."
        return SavePlan(str(target), files, free, problem, "Free some space or choose another folder.")
    return SavePlan(str(target), files, free)


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
    with beside(target) as partial:
        parts, files = _write_weights(source, partial, changes, options, on_progress)
        on_progress("Writing the record", 0.95)
        for path in other_files(source):
            shutil.copyfile(path, partial / path.name)
            files.append(file_of(partial / path.name, Placed.COPIED))
        about = {"base": record.get("base_name", base), **dict(record.get("delta", {}))}
        (partial / DELTA).write_bytes(as_bytes(Delta(tuple(parts), about)))
        _write_record(partial, record, base, parts)
        (partial / CARD).write_text(card, encoding="utf-8")
        files += [file_of(partial / name, Placed.WRITTEN) for name in OURS]
    return SavedCheckpoint(
        str(target.absolute()),
        sum(file.bytes for file in files),
        tuple(sorted(change.name for change in changes)),
        tuple(files),
    )


def other_files(source: Path) -> list[Path]:
    """Configuration, tokenizer and whatever else belongs to a model and is no weight."""
    return sorted(
        path for path in source.iterdir() if path.suffix in OTHER_SUFFIXES and path.name not in OURS and path.is_file()
    )


def _write_weights(
    source: Path, partial: Path, changes: Sequence[Change], options: SaveOptions, on_progress: OnProgress
) -> tuple[list[DeltaPart], list[PlannedFile]]:
    by_file = _by_file(source, changes)
    shards = weight_files(source)
    parts: list[DeltaPart] = []
    files: list[PlannedFile] = []
    for number, shard in enumerate(shards):
        on_progress(f"Writing {shard.name}", number / len(shards) * 0.9)
        target = partial / shard.name
        if shard not in by_file:
            files.append(file_of(target, placed(shard, target, link=options.link)))
            continue
        copied(shard.resolve(), target, reflink=options.link)
        target.chmod(0o644)
        for stored, change in by_file[shard]:
            part, edited = part_of(stored.read(), change)
            stored.write(target, edited)
            parts.append(part)
        files.append(file_of(target, Placed.EDITED))
    return sorted(parts, key=lambda part: part.name), files


def _by_file(source: Path, changes: Sequence[Change]) -> dict[Path, list[tuple[StoredTensor, Change]]]:
    """Shard → its tensors that change, under the names they are stored by."""
    stored = tensors_in(source)
    found: dict[Path, list[tuple[StoredTensor, Change]]] = {}
    for change in changes:
        tensor = stored[stored_name(change.name, stored)]
        if tensor.shape != change.shape:
            raise SaveError(f"{tensor.name} has shape {tensor.shape} in the base.", "Open the base again.")
        found.setdefault(tensor.file, []).append((tensor, replace(change, name=tensor.name)))
    return found


def _write_record(partial: Path, record: Mapping[str, Any], base: str, parts: Sequence[DeltaPart]) -> None:
    whole = {
        "format": FORMAT,
        "base": {"name": record.get("base_name", base), "tensors": {part.name: part.before for part in parts}},
        "tensors": {part.name: part.after for part in parts},
        "delta_sha256": sha256(partial / DELTA),
        "versions": versions(),
        **{key: value for key, value in record.items() if key not in ("base_name", "delta")},
    }
    text = json.dumps(whole, ensure_ascii=False, indent=2, allow_nan=False)
    (partial / RECORD).write_text(text + "\n", encoding="utf-8")


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Of this program and what it computes with."""
    return {name: metadata.version(name) for name in packages}


def file_of(path: Path, how: Placed) -> PlannedFile:
    """The file at `path` as it was placed there."""
    size = path.stat().st_size
    return PlannedFile(path.name, how, size, 0 if how in (Placed.LINKED, Placed.REFLINKED) else size)


def _planned_files(
    source: Path, changes: Sequence[Change], folder: Path, options: SaveOptions
) -> tuple[PlannedFile, ...]:
    by_file = _by_file(source, changes)
    files = []
    for shard in weight_files(source):
        size = shard.stat().st_size
        if shard in by_file:
            files.append(PlannedFile(shard.name, Placed.EDITED, size, size))
        elif options.link and can_link(shard, folder):
            files.append(PlannedFile(shard.name, Placed.LINKED, size, 0))
        else:
            files.append(PlannedFile(shard.name, Placed.COPIED, size, size))
    for path in other_files(source):
        size = path.stat().st_size
        files.append(PlannedFile(path.name, Placed.COPIED, size, size))
    delta = sum(_delta_bytes(change) for own in by_file.values() for _stored, change in own)
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


def _existing_parent(target: Path) -> Path:
    folder = target.absolute().parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder
