"""What the files of a folder would take on the disk, and whether there is room for them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from knowscope_tui.core.saved import Placed, PlannedFile
from knowscope_tui.engine.saving.place import can_link, can_reflink
from knowscope_tui.engine.saving.stored import StoredTensor
from knowscope_tui.errors import SaveError
from knowscope_tui.text import file_size


def planned_shard(shard: Path, edited: Sequence[StoredTensor], folder: Path, *, link: bool) -> PlannedFile:
    """A shard whose tensors `edited` change, as it would be placed in `folder`."""
    size = shard.stat().st_size
    shares = link and can_reflink(shard, folder)
    if edited:
        return PlannedFile(shard.name, Placed.EDITED, size, sum(tensor.size for tensor in edited) if shares else size)
    if shares:
        return PlannedFile(shard.name, Placed.REFLINKED, size, 0)
    if link and can_link(shard, folder):
        return PlannedFile(shard.name, Placed.LINKED, size, 0)
    return PlannedFile(shard.name, Placed.COPIED, size, size)


def planned_copy(path: Path) -> PlannedFile:
    """A file that is copied whatever can be shared."""
    size = path.stat().st_size
    return PlannedFile(path.name, Placed.COPIED, size, size)


def shortage(files: Sequence[PlannedFile], folder: Path) -> SaveError | None:
    """What a person is told when `files` do not fit into what is free around `folder`; None when they do."""
    needed, free = sum(file.written for file in files), shutil.disk_usage(folder).free
    if needed <= free:
        return None
    what = f"Saving there needs {file_size(needed)}, and {file_size(free)} are free."
    return SaveError(what, "Free some space or choose another folder.")


def existing_parent(target: Path) -> Path:
    """The folder that is there already, in or below which `target` will be."""
    folder = target.absolute().parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder
