"""Files that a checkpoint shares with its base: what was in them is recorded, and a change in place is found."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from pathlib import Path

import pytest
import torch

from knowscope_tui.core.record import RECORD
from knowscope_tui.core.saved import Placed, SavedCheckpoint, SaveOptions
from knowscope_tui.engine.deltas.change import SparseChange
from knowscope_tui.engine.loading import load_model
from knowscope_tui.engine.saving import identity, place
from knowscope_tui.engine.saving.identity import base_fingerprint, hashed_meanwhile
from knowscope_tui.engine.saving.revert import revert
from knowscope_tui.engine.saving.save import plan_save, save
from knowscope_tui.engine.saving.saved import problems, read, shared_problems
from knowscope_tui.engine.saving.stored import tensors_in
from knowscope_tui.errors import Cancelled, SaveError

EDITED = "model.layers.1.mlp.down_proj.weight"


def quiet(doing: str, fraction: float | None) -> None:
    """Progress that nobody watches."""


@pytest.fixture
def base(tiny_folder: Path, tmp_path: Path) -> Path:
    """The tiny model in shards, with a licence."""
    lm = load_model(str(tiny_folder), device="cpu", dtype="bfloat16")
    lm.model.save_pretrained(tmp_path / "base", max_shard_size="40KB")
    lm.tokenizer.save_pretrained(tmp_path / "base")
    for name in ("LICENSE", "Notice.md", "USE_POLICY.md"):
        (tmp_path / "base" / name).write_text(f"{name} of the base")
    return tmp_path / "base"


def saved(base: Path, target: Path, *, link: bool = True) -> SavedCheckpoint:
    tensor = tensors_in(base)[EDITED]
    change = SparseChange(EDITED, tensor.shape, torch.arange(9), torch.zeros(9))
    return save(str(base), [change], {"edits": []}, "", target, SaveOptions(link=link), quiet)


def linked_in(checkpoint: SavedCheckpoint) -> list[str]:
    return [file.name for file in checkpoint.files if file.placed is Placed.LINKED]


def flip_first_bit(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        (last,) = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))


def test_every_linked_file_is_recorded_with_its_hash_and_no_other(base: Path, tmp_path: Path) -> None:
    names = linked_in(saved(base, tmp_path / "x"))
    assert names
    recorded = json.loads((tmp_path / "x" / RECORD).read_text())["linked"]
    assert recorded == {name: hashlib.sha256((base / name).read_bytes()).hexdigest() for name in names}
    saved(base, tmp_path / "copied", link=False)
    assert json.loads((tmp_path / "copied" / RECORD).read_text())["linked"] == {}


@pytest.mark.parametrize("side", ["base", "x"])
def test_a_linked_shard_that_is_changed_in_place_is_found(base: Path, tmp_path: Path, side: str) -> None:
    """Base and checkpoint are the same file then, so that comparing them shows nothing."""
    name = linked_in(saved(base, tmp_path / "x"))[0]
    assert problems(read(tmp_path / "x"), str(base)) == []
    flip_first_bit(tmp_path / side / name)
    assert os.path.samefile(base / name, tmp_path / "x" / name)
    said = [f"{name} was changed in place after it was saved."]
    assert problems(read(tmp_path / "x"), str(base)) == said
    assert shared_problems(read(tmp_path / "x")) == said


def test_a_link_of_which_no_hash_is_recorded_is_not_called_intact(base: Path, tmp_path: Path) -> None:
    names = linked_in(saved(base, tmp_path / "x"))
    record = json.loads((tmp_path / "x" / RECORD).read_text())
    del record["linked"][names[0]]
    (tmp_path / "x" / RECORD).write_text(json.dumps(record))
    said = [f"{names[0]} is the base's own file, and what it held was not recorded."]
    assert problems(read(tmp_path / "x"), str(base)) == said


def test_a_checkpoint_that_shares_nothing_any_more_is_still_intact(base: Path, tmp_path: Path) -> None:
    saved(base, tmp_path / "x")
    shutil.copytree(tmp_path / "x", tmp_path / "moved")
    assert problems(read(tmp_path / "moved"), str(base)) == []


def test_the_hash_in_the_name_of_a_file_of_the_hub_is_taken(tmp_path: Path) -> None:
    name = "ab" * 32
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / name).write_bytes(b"whatever")
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blobs" / name)
    (tmp_path / name).write_bytes(b"elsewhere")
    with hashed_meanwhile([tmp_path / "model.safetensors", tmp_path / name]) as hashes:
        found = [hashes[path].result() for path in (tmp_path / "model.safetensors", tmp_path / name)]
    assert found == [name, hashlib.sha256(b"elsewhere").hexdigest()]


def test_a_save_that_is_stopped_does_not_wait_for_hashes(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = threading.Event()

    def endless(_path: Path, stopped: object) -> str:
        began.set()
        while not stopped():  # type: ignore[operator]
            pass
        return ""

    def stop(doing: str, _fraction: float | None) -> None:
        if doing.startswith("Hashing"):
            raise Cancelled

    monkeypatch.setattr(identity, "sha256", endless)
    change = SparseChange(EDITED, tensors_in(base)[EDITED].shape, torch.arange(9), torch.zeros(9))
    with pytest.raises(Cancelled):
        save(str(base), [change], {"edits": []}, "", tmp_path / "x", SaveOptions(), stop)
    assert began.is_set()
    assert sorted(os.listdir(tmp_path)) == ["base"]


def test_where_blocks_can_be_shared_nothing_is_linked(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reflinked(source: int, target: int) -> bool:
        """What the ioctl does, on a file system without it: the bytes, in a file of their own."""
        os.sendfile(target, source, 0, os.fstat(source).st_size)
        return True

    monkeypatch.setattr(place, "_reflinked", reflinked)
    change = SparseChange(EDITED, tensors_in(base)[EDITED].shape, torch.arange(9), torch.zeros(9))
    planned = plan_save(str(base), [change], tmp_path / "x")
    done = saved(base, tmp_path / "x")
    shards = [file for file in done.files if file.name.startswith("model-")]
    assert {file.placed for file in shards} == {Placed.EDITED, Placed.REFLINKED}
    assert shards == [file for file in planned.files if file.name.startswith("model-")]
    assert sum(file.written for file in shards) == tensors_in(base)[EDITED].size
    assert not any(os.path.samefile(base / file.name, tmp_path / "x" / file.name) for file in shards)
    assert problems(read(tmp_path / "x"), str(base)) == []


def test_a_base_is_known_again_wherever_it_lies_and_told_from_what_was_made_of_it(base: Path, tmp_path: Path) -> None:
    saved(base, tmp_path / "x")
    shutil.copytree(base, tmp_path / "moved")
    assert base_fingerprint(tmp_path / "moved") == base_fingerprint(base) != base_fingerprint(tmp_path / "x")
    assert read(tmp_path / "x").delta.about[identity.FINGERPRINT] == base_fingerprint(base)
    revert(tmp_path / "x", read(tmp_path / "x").delta, tmp_path / "back", link=False, on_progress=quiet)
    assert base_fingerprint(tmp_path / "back") == base_fingerprint(base)


def test_the_licence_of_the_base_travels(base: Path, tmp_path: Path) -> None:
    saved(base, tmp_path / "x")
    revert(tmp_path / "x", read(tmp_path / "x").delta, tmp_path / "back", link=True, on_progress=quiet)
    for name in ("LICENSE", "Notice.md", "USE_POLICY.md"):
        assert (tmp_path / "x" / name).read_text() == (tmp_path / "back" / name).read_text() == f"{name} of the base"


def test_a_way_back_that_the_disk_cannot_hold_is_refused_before_anything_is_written(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(base, tmp_path / "x")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage._replace(free=1000))
    with pytest.raises(SaveError, match=r"needs .* and 1.0 kB are free"):
        revert(tmp_path / "x", read(tmp_path / "x").delta, tmp_path / "back", link=True, on_progress=quiet)
    assert sorted(os.listdir(tmp_path)) == ["base", "x"]
