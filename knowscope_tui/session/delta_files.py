"""Delta files and saved folders without an open model: applied, taken back, compared, merged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.record import DELTA, RECORD
from knowscope_tui.core.saved import DeltaInfo, Diff, ParameterDiff, SavedCheckpoint, SaveOptions
from knowscope_tui.demo import bundle
from knowscope_tui.engine.deltas import files
from knowscope_tui.engine.deltas.compare import delta_diff, merge, tensor_diff
from knowscope_tui.engine.deltas.parts import Delta, applied
from knowscope_tui.engine.loading import base_folder
from knowscope_tui.engine.saving.identity import FINGERPRINT
from knowscope_tui.engine.saving.revert import revert
from knowscope_tui.engine.saving.save import save, versions
from knowscope_tui.engine.saving.saved import read, shared_problems
from knowscope_tui.engine.saving.stored import stored_name, tensors_in
from knowscope_tui.errors import SaveError, UsageError
from knowscope_tui.session.model_card import card_in, model_card
from knowscope_tui.session.opening import DEMO


def apply_file(
    file: Path, target: Path, base: str | None = None, *, link: bool = True, on_progress: OnProgress = silent
) -> SavedCheckpoint:
    """Saves the base of a delta file with the edit made as the folder `target`. Raises `SaveError`."""
    delta = files.read(file)
    named = base or delta.base
    source = _source(named)
    stored = tensors_in(base_folder(source))
    for part in delta.parts:
        applied(part, stored[stored_name(part.name, stored)].read())
    edit = {"method": delta.about.get("method", "unknown"), "edited": delta.about.get("facts", [])}
    edit |= {"parameters": [], "units": [], "positions": sum(part.change.positions for part in delta.parts)}
    about = {key: value for key, value in delta.about.items() if key not in ("base", FINGERPRINT)}
    record = {"base_name": named, "delta": about, "include_facts": False, "edits": [edit]}
    changes = [part.change for part in delta.parts]
    card = model_card({**record, "versions": versions()}, card_in(base_folder(source)))
    return save(source, changes, record, card, target, SaveOptions(link=link), on_progress)


def revert_folder(
    folder: Path, target: Path, delta: Path | None = None, *, link: bool = True, on_progress: OnProgress = silent
) -> SavedCheckpoint:
    """Takes the edit of a saved folder back, its own or `delta`: the base's weights, bit for bit, as `target`."""
    saved = read(folder) if delta is None or (folder / RECORD).is_file() else None
    if saved is not None and (wrong := shared_problems(saved)):
        raise SaveError(wrong[0], "Save the edit again from an intact base.")
    taken = files.read(delta) if delta is not None else read(folder).delta
    return revert(folder, taken, target, link=link, on_progress=on_progress)


def compare(a: Path, b: Path) -> Diff:
    """How two delta files, or two model folders, differ. Raises `SaveError`, `ModelNotLoaded` or `UsageError`."""
    if a.is_dir() and b.is_dir():
        parameters, compared = _folders(a, b)
        return Diff(str(a), str(b), tuple(parameters), compared)
    one, other = _delta_of(a), _delta_of(b)
    named = {part.name for delta in (one, other) for part in delta.parts}
    return Diff(str(a), str(b), tuple(delta_diff(one, other)), len(named))


def merge_files(paths: Sequence[Path], target: Path, *, later_wins: bool = False) -> DeltaInfo:
    """Writes several delta files of one base as one. Raises `SaveError` or `UsageError`."""
    if len(paths) < 2:
        raise UsageError("One file cannot be merged.", "Name two delta files or more.")
    merged = merge([files.read(path) for path in paths], later_wins=later_wins)
    files.write(target, [part.name for part in merged.parts], merged.parts, merged.about)
    return files.info(target, files.read(target))


def _source(name: str) -> str:
    return str(bundle.model_folder()) if name == DEMO else name


def _delta_of(path: Path) -> Delta:
    """The delta of a file, or of a saved folder."""
    return files.read(path / DELTA) if path.is_dir() else files.read(path)


def _folders(a: Path, b: Path) -> tuple[list[ParameterDiff], int]:
    one, other = tensors_in(a), tensors_in(b)
    if one.keys() != other.keys():
        raise SaveError(f"{str(a)!r} and {str(b)!r} hold different tensors.", "Compare checkpoints of the same base.")
    found = [tensor_diff(name, one[name].read(), other[name].read()) for name in sorted(one)]
    return [diff for diff in found if diff is not None], len(found)
