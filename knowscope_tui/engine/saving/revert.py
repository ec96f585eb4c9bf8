"""A saved edit taken back from its folder alone: the base's weights, bit for bit, without the base."""

from __future__ import annotations

import shutil
from pathlib import Path

from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.saved import Placed, PlannedFile, SavedCheckpoint
from knowscope_tui.engine.deltas.files import Delta, DeltaPart, reverted
from knowscope_tui.engine.saving.folder import beside, check_folder
from knowscope_tui.engine.saving.place import copied, placed
from knowscope_tui.engine.saving.save import file_of, other_files
from knowscope_tui.engine.saving.stored import StoredTensor, stored_name, tensors_in, weight_files


def revert(folder: Path, delta: Delta, target: Path, *, link: bool, on_progress: OnProgress) -> SavedCheckpoint:
    """Writes the model in `folder` with `delta` taken back as the folder `target`, without record and delta.

    Raises `SaveError` when the folder does not hold what the delta gave, or cannot be written.
    """
    check_folder(target, folder)
    stored = tensors_in(folder)
    tensors = [(stored[stored_name(part.name, stored)], part) for part in delta.parts]
    shards = weight_files(folder)
    files: list[PlannedFile] = []
    with beside(target) as partial:
        for number, shard in enumerate(shards):
            on_progress(f"Writing {shard.name}", number / len(shards))
            own = [(tensor, part) for tensor, part in tensors if tensor.file == shard]
            copy = partial / shard.name
            if not own:
                files.append(file_of(copy, placed(shard, copy, link=link)))
                continue
            copied(shard.resolve(), copy, reflink=link)
            copy.chmod(0o644)
            for tensor, part in own:
                _put_back(tensor, copy, part)
            files.append(file_of(copy, Placed.EDITED))
        for path in other_files(folder):
            shutil.copyfile(path, partial / path.name)
            files.append(file_of(partial / path.name, Placed.COPIED))
    size = sum(file.bytes for file in files)
    return SavedCheckpoint(str(target.absolute()), size, tuple(part.name for part in delta.parts), tuple(files))


def _put_back(tensor: StoredTensor, copy: Path, part: DeltaPart) -> None:
    tensor.write(copy, reverted(part, tensor.read()))
