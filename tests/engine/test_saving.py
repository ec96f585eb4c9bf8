"""Saved checkpoints: plain `transformers` loads them, only the edit differs, and nothing half-written stays."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from knowscope_tui.core.edits import EditSpec
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.record import CARD, DELTA, FORMAT, RECORD
from knowscope_tui.core.saved import Placed, SaveOptions
from knowscope_tui.core.units import SiteKind
from knowscope_tui.engine.deltas.change import Change, SparseChange
from knowscope_tui.engine.hashes import tensor_sha256
from knowscope_tui.engine.journal import Journal
from knowscope_tui.engine.library import Library, load_library
from knowscope_tui.engine.loading import load_model
from knowscope_tui.engine.methods.plan import plan_edit
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.saving import save as saving
from knowscope_tui.engine.saving.folder import LOCK
from knowscope_tui.engine.saving.save import plan_save, save
from knowscope_tui.engine.saving.saved import problems, read
from knowscope_tui.errors import SaveError
from tests.tiny import sparse

EDITED = "model.layers.1.mlp.down_proj.weight"
LOAD_PLAINLY = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, prompt, out, dtype = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), attn_implementation="eager")
ids = AutoTokenizer.from_pretrained(folder)(prompt, return_tensors="pt")["input_ids"]
with torch.no_grad():
    torch.save(model(input_ids=ids).logits, out)
assert not [name for name in sys.modules if name.startswith("knowscope_tui")]
"""


def quiet(doing: str, fraction: float | None) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Bench:
    """A base on disk, the model opened from it and an edit for it."""

    base: Path
    lm: LanguageModel
    deltas: list[Change]
    prompt: str

    def save(self, target: Path, record: dict[str, Any] | None = None) -> Any:
        named = record or {"base_name": str(self.base), "edits": []}
        return save(str(self.base), self.deltas, named, "# A card\n", target, SaveOptions(), quiet)


def open_bench(base: Path, sources: dict[SiteKind, Path], fact: Fact) -> Bench:
    lm = load_model(str(base), device="cpu", dtype="float32")
    library: Library = load_library(lm, sources.items())
    _plan, deltas = plan_edit(lm, library, EditSpec((fact,), site=SiteKind.RESID_POST, top=3))
    assert EDITED in {delta.name for delta in deltas}
    return Bench(base, lm, deltas, fact.prompt)


@pytest.fixture(scope="module")
def bench(tiny_folder: Path, sources: dict[SiteKind, Path], facts: list[Fact]) -> Bench:
    return open_bench(tiny_folder, sources, facts[0])


def half_base(tiny_folder: Path, folder: Path, **options: Any) -> Path:
    """The tiny model saved anew as bfloat16, in shards when asked."""
    lm = load_model(str(tiny_folder), device="cpu", dtype="bfloat16")
    lm.model.save_pretrained(folder, **options)
    lm.tokenizer.save_pretrained(folder)
    return folder


def tensors_of(folder: Path) -> dict[str, Tensor]:
    files = [path for path in sorted(folder.glob("*.safetensors")) if path.name != DELTA]
    return {name: tensor for path in files for name, tensor in load_file(path).items()}


def same_bits(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.view(-1).view(torch.uint8), other.view(-1).view(torch.uint8))


def assert_only_the_edit_differs(bench: Bench, saved: Path) -> None:
    base, edited = tensors_of(bench.base), tensors_of(saved)
    assert base.keys() == edited.keys()
    deltas = {delta.name: delta for delta in bench.deltas}
    for name, tensor in base.items():
        if name not in deltas:
            assert same_bits(tensor, edited[name]), name
            continue
        expected = tensor.clone()
        expected.view(-1)[sparse(deltas[name]).indices] = sparse(deltas[name]).values.to(tensor.dtype)
        assert same_bits(expected, edited[name])
        assert int((expected != tensor).sum()) == len(sparse(deltas[name]).indices)


# --- what is saved --------------------------------------------------------------------------------------------------


def test_plain_transformers_loads_it_and_computes_the_edited_models_logits(bench: Bench, tmp_path: Path) -> None:
    saved = bench.save(tmp_path / "edited")
    journal = Journal(bench.lm)
    ids = torch.tensor([bench.lm.encode(bench.prompt)])
    with torch.no_grad():
        plain = bench.lm.model(input_ids=ids).logits
        journal.apply(bench.deltas)
        expected = bench.lm.model(input_ids=ids).logits
    journal.undo()
    out = tmp_path / "logits.pt"
    command = [sys.executable, "-c", LOAD_PLAINLY, saved.folder, bench.prompt, str(out), "float32"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    assert torch.equal(torch.load(out), expected)
    assert not torch.equal(expected, plain)
    assert saved.load_command == f"AutoModelForCausalLM.from_pretrained({saved.folder!r})"


def test_every_tensor_that_was_not_edited_keeps_its_bits(bench: Bench, tmp_path: Path) -> None:
    saved = bench.save(tmp_path / "edited")
    assert_only_the_edit_differs(bench, tmp_path / "edited")
    assert saved.parameters == tuple(delta.name for delta in bench.deltas)
    assert saved.size_bytes == sum(path.stat().st_size for path in (tmp_path / "edited").iterdir())


def test_config_and_tokenizer_are_copied_as_they_are(bench: Bench, tmp_path: Path) -> None:
    bench.save(tmp_path / "edited")
    copied = [path for path in bench.base.iterdir() if path.suffix == ".json"]
    assert {path.name for path in copied} >= {"config.json", "tokenizer.json", "tokenizer_config.json"}
    for path in copied:
        assert (tmp_path / "edited" / path.name).read_bytes() == path.read_bytes()


def test_the_record_says_what_was_done(bench: Bench, tmp_path: Path) -> None:
    bench.save(tmp_path / "edited", {"base_name": "demo", "edits": [{"method": "positions"}]})
    record = json.loads((tmp_path / "edited" / RECORD).read_text(encoding="utf-8"))
    assert record["format"] == FORMAT
    assert record["base"]["name"] == "demo"
    base = tensors_of(bench.base)
    edited = tensors_of(tmp_path / "edited")
    names = {delta.name for delta in bench.deltas}
    assert record["base"]["tensors"] == {name: tensor_sha256(base[name]) for name in names}
    assert record["tensors"] == {name: tensor_sha256(edited[name]) for name in names}
    assert (tmp_path / "edited" / CARD).read_text() == "# A card\n"
    assert record["edits"] == [{"method": "positions"}]
    assert record["versions"].keys() >= {"knowscope-tui", "torch", "transformers"}
    back = read(tmp_path / "edited")
    assert back.base_name == "demo"
    for ours, theirs in zip(sorted(bench.deltas, key=lambda delta: delta.name), back.delta.parts, strict=True):
        assert isinstance(ours, SparseChange)
        assert isinstance(theirs.change, SparseChange)
        assert (ours.name, ours.shape) == (theirs.name, theirs.change.shape)
        assert torch.equal(ours.indices, theirs.change.indices)
        assert torch.equal(ours.values, theirs.change.values)


def test_a_bfloat16_base_opened_in_float32_is_saved_as_bfloat16(
    tiny_folder: Path, sources: dict[SiteKind, Path], facts: list[Fact], tmp_path: Path
) -> None:
    bench = open_bench(half_base(tiny_folder, tmp_path / "base"), sources, facts[0])
    assert bench.lm.dtype is torch.float32
    bench.save(tmp_path / "edited")
    assert {tensor.dtype for tensor in tensors_of(tmp_path / "edited").values()} == {torch.bfloat16}
    assert_only_the_edit_differs(bench, tmp_path / "edited")
    assert problems(read(tmp_path / "edited"), str(bench.base)) == []


def test_a_base_in_shards_is_saved_in_the_same_shards(
    tiny_folder: Path, sources: dict[SiteKind, Path], facts: list[Fact], tmp_path: Path
) -> None:
    base = half_base(tiny_folder, tmp_path / "base", max_shard_size="40KB")
    shards = sorted(path.name for path in base.glob("*.safetensors"))
    assert len(shards) > 2
    bench = open_bench(base, sources, facts[0])
    bench.save(tmp_path / "edited")
    assert sorted(path.name for path in (tmp_path / "edited").glob("model*.safetensors")) == shards
    assert (tmp_path / "edited" / "model.safetensors.index.json").is_file()
    assert_only_the_edit_differs(bench, tmp_path / "edited")
    assert problems(read(tmp_path / "edited"), str(base)) == []
    reopened = load_model(str(tmp_path / "edited"), device="cpu", dtype="float32")
    journal = Journal(bench.lm)
    journal.apply(bench.deltas)
    live = dict(bench.lm.model.named_parameters())
    for name, parameter in reopened.model.named_parameters():
        assert torch.equal(parameter, live[name]), name
    journal.undo()


def test_the_file_that_transformers_loads_is_the_one_that_is_edited(
    tiny_folder: Path, sources: dict[SiteKind, Path], facts: list[Fact], tmp_path: Path
) -> None:
    """A shard that lies beside a whole file is not what is loaded."""
    base = tmp_path / "base"
    shutil.copytree(tiny_folder, base)
    shutil.copyfile(base / "model.safetensors", base / "model-00001-of-00001.safetensors")
    bench = open_bench(base, sources, facts[0])
    bench.save(tmp_path / "edited")
    assert_only_the_edit_differs(bench, tmp_path / "edited")
    assert problems(read(tmp_path / "edited"), str(base)) == []


def test_a_saved_checkpoint_can_itself_be_edited_and_saved(
    bench: Bench, sources: dict[SiteKind, Path], facts: list[Fact], tmp_path: Path
) -> None:
    bench.save(tmp_path / "first")
    second = open_bench(tmp_path / "first", sources, facts[1])
    second.save(tmp_path / "second")
    assert_only_the_edit_differs(second, tmp_path / "second")
    assert problems(read(tmp_path / "second"), str(tmp_path / "first")) == []
    assert problems(read(tmp_path / "second"), str(bench.base)) != []


# --- what cannot be saved -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_a_target_that_exists_is_refused_and_left_alone(bench: Bench, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    if kind == "folder":
        target.mkdir()
    elif kind == "file":
        target.write_text("mine")
    else:
        target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(SaveError, match="already exists"):
        bench.save(target)
    assert os.listdir(tmp_path) == ["target"]


def disk_full(*_args: Any, **_kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "broken",
    [("DeltaWriter", disk_full), ("other_files", disk_full), ("sha256", disk_full), ("copied", disk_full)],
    ids=lambda pair: pair[0],
)
def test_a_full_disk_leaves_nothing_behind(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: tuple[str, Callable[..., None]]
) -> None:
    plan = plan_save(str(bench.base), bench.deltas, tmp_path / "edited")
    monkeypatch.setattr(saving, "plan_save", lambda *_args: plan)
    monkeypatch.setattr(saving, *broken)
    with pytest.raises(SaveError) as failed:
        bench.save(tmp_path / "edited")
    assert failed.value.what == f"Cannot write {str(tmp_path / 'edited')!r}: No space left on device."
    assert failed.value.hint
    assert os.listdir(tmp_path) == []


def test_a_save_that_is_cancelled_leaves_nothing_behind(bench: Bench, tmp_path: Path) -> None:
    def cancel(doing: str, fraction: float | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(str(bench.base), bench.deltas, {}, "", tmp_path / "edited", SaveOptions(), cancel)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["file/edited", "x" * 300, "nul\0here"])
def test_a_folder_that_cannot_be_made_is_one_sentence(bench: Bench, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SaveError, match="Cannot write"):
        bench.save(tmp_path / name)
    assert os.listdir(tmp_path) == ["file"]


def test_a_parameter_that_the_base_does_not_have_is_refused(bench: Bench, tmp_path: Path) -> None:
    alien = SparseChange("model.layers.99.mlp.down_proj.weight", (1, 1), torch.tensor([0]), torch.tensor([0.0]))
    with pytest.raises(SaveError, match=r"no parameter 'model\.layers\.99"):
        save(str(bench.base), [alien], {}, "", tmp_path / "edited", SaveOptions(), quiet)
    assert os.listdir(tmp_path) == []


def test_a_base_without_safetensors_is_refused(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    with pytest.raises(SaveError, match="no safetensors file"):
        save(str(tmp_path / "base"), bench.deltas, {}, "", tmp_path / "edited", SaveOptions(), quiet)
    assert os.listdir(tmp_path) == ["base"]


# --- what is found wrong --------------------------------------------------------------------------------------------


@pytest.fixture
def saved(bench: Bench, tmp_path: Path) -> Path:
    bench.save(tmp_path / "edited")
    return tmp_path / "edited"


def test_an_intact_checkpoint_has_no_problems(bench: Bench, saved: Path) -> None:
    assert problems(read(saved), str(bench.base)) == []


@pytest.mark.parametrize("name", [EDITED, "model.embed_tokens.weight"])
def test_one_changed_bit_in_any_tensor_is_found(bench: Bench, saved: Path, name: str) -> None:
    tensors = load_file(saved / "model.safetensors")
    tensors[name].view(-1).view(torch.uint8)[5] ^= 1
    save_file(tensors, saved / "model.safetensors", metadata={"format": "pt"})
    (problem,) = problems(read(saved), str(bench.base))
    kind = "does not hold the recorded change" if name == EDITED else "differs from the base"
    assert problem == f"{name} {kind}."


def test_a_tensor_that_is_missing_is_found(bench: Bench, saved: Path) -> None:
    tensors = load_file(saved / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, saved / "model.safetensors", metadata={"format": "pt"})
    assert problems(read(saved), str(bench.base)) == ["model.norm.weight is in only one of base and checkpoint."]


def tampered(saved: Path, name: str, change: Callable[[Tensor], object]) -> None:
    """The delta with one of its tensors changed, its metadata as they were."""
    with safe_open(saved / DELTA, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(saved / DELTA)
    change(tensors[f"{EDITED}.{name}"])
    save_file(tensors, saved / DELTA, metadata=metadata)


def test_a_tampered_delta_is_found(bench: Bench, saved: Path) -> None:
    tampered(saved, "values", lambda values: values[:1].fill_(0.5))
    found = problems(read(saved), str(bench.base))
    assert f"{DELTA} is not the one that was recorded." in found
    assert f"{EDITED} is not what the edit was recorded to give." in found


@pytest.mark.parametrize("place", [0, 10**9])
def test_a_delta_with_an_impossible_place_is_refused(saved: Path, place: int) -> None:
    tampered(saved, "indices", lambda indices: indices[-1:].fill_(place))
    with pytest.raises(SaveError, match="no delta file, or a broken one"):
        read(saved)


def test_another_base_is_found(bench: Bench, saved: Path, tiny_folder: Path, tmp_path: Path) -> None:
    assert len(problems(read(saved), str(half_base(tiny_folder, tmp_path / "other")))) > 10


def test_a_missing_record_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match=f"holds no {RECORD}"):
        read(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"base": 3}', '{"base": {}}'])
def test_a_broken_record_is_one_sentence(saved: Path, content: str) -> None:
    (saved / RECORD).write_text(content, encoding="utf-8")
    with pytest.raises(SaveError, match=r"record .* is broken"):
        read(saved)


@pytest.mark.parametrize("kept", [0, 100])
def test_a_truncated_or_missing_delta_is_one_sentence(saved: Path, kept: int) -> None:
    content = (saved / DELTA).read_bytes()
    (saved / DELTA).write_bytes(content[:kept])
    with pytest.raises(SaveError, match=r"no delta file, or a broken one"):
        read(saved)
    (saved / DELTA).unlink()
    with pytest.raises(SaveError, match=r"holds no knowscope_delta\.safetensors"):
        read(saved)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_changed_or_missing_file_beside_the_weights_is_found(bench: Bench, saved: Path, name: str) -> None:
    base = str(bench.base)
    assert problems(read(saved), base) == []
    content = (saved / name).read_text(encoding="utf-8")
    (saved / name).write_text(content.replace("0", "1", 1), encoding="utf-8")
    assert problems(read(saved), base) == [f"{name} differs from the base."]
    (saved / name).unlink()
    assert problems(read(saved), base) == [f"{name} differs from the base."]


def test_truncated_weights_are_one_sentence(bench: Bench, saved: Path) -> None:
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(SaveError, match=r"model\.safetensors.* cut short or not valid"):
        problems(read(saved), str(bench.base))


# --- what is written ------------------------------------------------------------------------------------------------


def test_a_shard_without_an_edit_is_the_very_file_of_the_base(
    tiny_folder: Path, sources: dict[SiteKind, Path], facts: list[Fact], tmp_path: Path
) -> None:
    base = half_base(tiny_folder, tmp_path / "base", max_shard_size="40KB")
    bench = open_bench(base, sources, facts[0])
    planned = plan_save(str(base), bench.deltas, tmp_path / "edited")
    saved = bench.save(tmp_path / "edited")
    placed = {file.name: file.placed for file in saved.files if file.name.startswith("model-")}
    assert placed == {file.name: file.placed for file in planned.files if file.name.startswith("model-")}
    assert set(placed.values()) == {Placed.LINKED, Placed.EDITED}
    for name, how in placed.items():
        assert os.path.samefile(base / name, tmp_path / "edited" / name) is (how is Placed.LINKED)
    copied = save(str(base), bench.deltas, {"edits": []}, "", tmp_path / "copied", SaveOptions(link=False), quiet)
    assert not any(os.path.samefile(base / name, tmp_path / "copied" / name) for name in placed)
    assert copied.written_bytes > saved.written_bytes
    assert tensors_of(tmp_path / "copied").keys() == tensors_of(tmp_path / "edited").keys()


def test_what_a_killed_save_left_is_taken_away_by_the_next(bench: Bench, tmp_path: Path) -> None:
    left = tmp_path / ".edited.abc.partial"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    (left / LOCK).touch()
    bench.save(tmp_path / "edited")
    assert os.listdir(tmp_path) == ["edited"]


def test_a_save_that_the_disk_cannot_hold_is_refused_before_anything_is_written(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage._replace(free=1000))
    with pytest.raises(SaveError, match=r"needs .* and 1.0 kB are free"):
        bench.save(tmp_path / "edited")
    assert os.listdir(tmp_path) == []
