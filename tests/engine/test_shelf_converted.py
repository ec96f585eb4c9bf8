"""The cache of converted dictionaries: what is written is what is read, whole or not at all, and once."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.dictionary import Spec, make_dictionary
from knowscope_tui.engine.shelf import cache, converted
from knowscope_tui.engine.shelf.interpret import Parts
from knowscope_tui.errors import DictionaryError, HubError
from knowscope_tui.session import shelf

D_IN, D_SAE = 8, 20
SITE = Site(3, SiteKind.MLP_OUT)
DAY = 86_400.0


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of each test's own; the folder of converted dictionaries in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "knowscope-tui" / "dictionaries"


def some_parts(seed: int = 1, architecture: str = "jumprelu") -> Parts:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    spec = Spec(
        site=SITE,
        architecture=architecture,
        d_in=D_IN,
        d_sae=D_SAE,
        source="a release some/id",
        k=4,
        normalize="layer_norm",
        model="gemma-2-2b",
        expected_l0=71.0,
        config={"architecture": architecture, "metadata": {"hook_name": "blocks.3.hook_mlp_out"}},
    )
    tensors = {"encoder": normal(D_SAE, D_IN), "decoder": normal(D_SAE, D_IN), "b_dec": normal(D_IN)}
    return Parts(spec, {**tensors, "b_enc": normal(D_SAE), "threshold": normal(D_SAE).abs()})


PROVENANCE = {"release": "a release", "id": "some/id", "sha256": {"params.npz": "ab" * 32}, "commit": "c" * 40}


def written(name: str = "layer_3", sae_dtype: str = "float32", seed: int = 1) -> Path:
    file = cache.file_for("owner/repo", name, sae_dtype)
    converted.write(file, some_parts(seed), sae_dtype, {**PROVENANCE, "sae_dtype": sae_dtype})
    return file


def header(file: Path) -> dict[str, Any]:
    with safe_open(file, framework="pt") as opened:
        found: dict[str, Any] = json.loads(opened.metadata()["knowscope"])
    return found


def everything(folder: Path) -> list[str]:
    """Every file below `folder` that is no lock."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and ".locks" not in path.parts
    )


# --- there and back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sae_dtype", ["float32", "bfloat16"])
def test_what_is_opened_is_what_was_written(sae_dtype: str) -> None:
    """Matrices rounded to the dtype that was asked for, vectors as they are; and what it is."""
    given = some_parts()
    file = written(sae_dtype=sae_dtype)
    found = converted.open_(file)
    assert found.spec == replace(given.spec, checked=True)
    assert set(found.tensors) == set(given.tensors)
    for name, tensor in given.tensors.items():
        dtype = converted.DTYPES[sae_dtype] if name in ("encoder", "decoder") else torch.float32
        assert found.tensors[name].dtype is dtype
        assert torch.equal(found.tensors[name], tensor.to(dtype)), name
        assert found.tensors[name].is_contiguous()


def test_a_transposed_encoder_is_written_as_rows() -> None:
    """What is mapped from a folder is (d_in, d_sae) in memory; in the cache a feature's row is one stretch."""
    given = some_parts()
    turned = given.tensors["encoder"].T.contiguous().T
    assert not turned.is_contiguous()
    file = cache.file_for("owner/repo", "turned", "float32")
    converted.write(file, Parts(given.spec, {**given.tensors, "encoder": turned}), "float32", PROVENANCE)
    found = converted.open_(file).tensors["encoder"]
    assert found.is_contiguous()
    assert torch.equal(found, given.tensors["encoder"])


def test_a_dictionary_from_the_cache_has_the_features_it_had_before() -> None:
    given = some_parts()
    h = torch.randn(30, D_IN, generator=torch.Generator().manual_seed(9))
    found = converted.open_(written())
    before, after = (make_dictionary(parts.spec, parts.tensors) for parts in (given, found))
    f = before.encode(h)
    assert torch.equal(after.encode(h), f)
    assert torch.equal(after.decode(f, h), before.decode(f, h))
    assert 0 < int((f > 0).sum()) < f.numel()


def test_what_is_opened_is_mapped_and_not_read() -> None:
    """A byte that is changed in the file afterwards is seen by who has it open: nothing was copied."""
    file = written()
    tensors = converted.open_(file).tensors
    before = tensors["decoder"].clone()
    flip_a_byte_of(file, "decoder")
    assert not torch.equal(tensors["decoder"], before)


def test_the_header_says_what_it_is_what_it_was_made_from_and_with_what() -> None:
    file = written(sae_dtype="bfloat16")
    said = header(file)
    assert said["format"] == converted.FORMAT
    assert said["provenance"] == {**PROVENANCE, "sae_dtype": "bfloat16"}
    assert said["spec"]["site"] == [3, "mlp_out"]
    assert (said["spec"]["source"], said["spec"]["model"], said["spec"]["expected_l0"]) == (
        "a release some/id",
        "gemma-2-2b",
        71.0,
    )
    assert said["versions"] == {name: metadata.version(name) for name in ("knowscope-tui", "sae-lens")}
    assert said["content_sha256"] == converted.content_hash(converted.open_(file).tensors)


def test_the_hash_of_the_content_is_of_names_dtypes_shapes_and_bytes() -> None:
    tensors = {"a": torch.arange(6.0), "b": torch.zeros(2)}
    known = converted.content_hash(tensors)
    assert converted.content_hash(dict(reversed(tensors.items()))) == known
    changed = [
        {"a": tensors["a"].reshape(2, 3), "b": tensors["b"]},
        {"a": tensors["a"].view(torch.int32), "b": tensors["b"]},
        {"a": tensors["b"], "b": tensors["a"]},
        {"a": tensors["a"]},
        {"a": tensors["a"] + torch.tensor([0, 0, 0, 0, 0, 1e-6]), "b": tensors["b"]},
    ]
    hashes = {converted.content_hash(other) for other in changed}
    assert len(hashes) == len(changed)
    assert known not in hashes


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("owner/repo", "a/b"), ("owner/repo", "a-b")),
        (("owner/repo", "a/b"), ("owner/repo", "a--b")),
        (("owner/repo", "x"), ("owner-repo", "x")),
        (("owner/repo", "x" * 200 + "1"), ("owner/repo", "x" * 200 + "2")),
        (("/home/a b", "1"), ("/home/a_b", "1")),
        (("owner/repo", ".hidden"), ("owner/repo", "hidden")),
        (("owner/repo", "é"), ("owner/repo", "è")),
    ],
)
def test_no_two_dictionaries_share_a_file(store: Path, one: tuple[str, str], other: tuple[str, str]) -> None:
    files = [cache.file_for(*named, "float32") for named in (one, other)]
    assert files[0] != files[1]
    for file in files:
        assert file.parent.parent == store
        assert not file.name.startswith(".")
        assert len(file.name.encode()) < 200
    assert cache.file_for(*one, "bfloat16") != files[0]


# --- what is broken -------------------------------------------------------------------------------------------------


def flip_a_byte_of(file: Path, name: str) -> None:
    """Changes one bit in the middle of a tensor, in place: the file keeps its size and its times."""
    state = file.stat()
    content = bytearray(file.read_bytes())
    size = int.from_bytes(content[:8], "little")
    begin, end = json.loads(content[8 : 8 + size])[name]["data_offsets"]
    with file.open("r+b") as opened:
        place = 8 + size + (begin + end) // 2
        opened.seek(place)
        opened.write(bytes([content[place] ^ 1]))
    os.utime(file, (state.st_atime, state.st_mtime))


@pytest.mark.parametrize("name", ["encoder", "decoder", "b_dec", "threshold"])
def test_verifying_finds_a_flipped_bit_in_any_tensor_and_names_the_dictionary(name: str) -> None:
    whole, broken = written("whole"), written("broken", seed=2)
    assert [entry.problem for entry in shelf.verify_cache()] == ["", ""]
    flip_a_byte_of(broken, name)
    assert [entry.problem for entry in shelf.cached()] == ["", ""], "nobody has looked yet"
    problems = {entry.file: entry.problem for entry in shelf.verify_cache()}
    assert problems == {str(whole): "", str(broken): "its numbers are not those written."}


@pytest.mark.parametrize("kept", [0, 7, 100, -1, -200])
def test_a_truncated_file_is_told_without_reading_it_and_refused_when_opened(kept: int) -> None:
    whole, broken = written("whole"), written("broken")
    broken.write_bytes(broken.read_bytes()[:kept])
    for listed in (shelf.cached(), shelf.verify_cache()):
        problems = {entry.file: entry.problem for entry in listed}
        assert problems == {str(whole): "", str(broken): "it is cut short or not valid."}
    with pytest.raises(DictionaryError) as refused:
        converted.open_(broken)
    assert refused.value.what == f"The converted dictionary {str(broken)!r} is broken."
    assert "cache prune --broken" in refused.value.hint


def test_a_file_of_another_format_of_this_program_is_refused_and_pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = written("whole")
    with monkeypatch.context() as older:
        older.setattr(converted, "FORMAT", 0)
        file = written("old")
    with pytest.raises(DictionaryError, match="is broken"):
        converted.open_(file)
    problems = {entry.file: entry.problem for entry in shelf.verify_cache()}
    assert problems == {str(whole): "", str(file): "another version of this program wrote it."}
    shelf.prune_cache(broken=True)
    assert not file.exists()
    assert whole.exists()


def test_a_safetensors_file_that_is_not_ours_is_refused(store: Path) -> None:
    from safetensors.torch import save_file

    place = store / "owner" / "foreign.safetensors"
    place.parent.mkdir(parents=True)
    save_file({"encoder": torch.zeros(2, 2)}, place)
    with pytest.raises(DictionaryError, match="is broken"):
        converted.open_(place)
    assert [entry.problem for entry in shelf.cached()] == ["it is cut short or not valid."]


@pytest.mark.parametrize("name", ["encoder", "decoder", "b_enc"])
def test_numbers_that_are_not_finite_are_never_written(store: Path, name: str) -> None:
    given = some_parts()
    given.tensors[name].view(-1)[3] = float("nan")
    with pytest.raises(DictionaryError, match="not finite"):
        converted.write(cache.file_for("o/r", "x", "float32"), given, "float32", PROVENANCE)
    assert everything(store) == []


def test_numbers_that_bfloat16_cannot_hold_are_never_written(store: Path) -> None:
    given = some_parts()
    given.tensors["encoder"][0, 0] = 3.4e38
    converted.write(cache.file_for("o/r", "x", "float32"), given, "float32", PROVENANCE)
    with pytest.raises(DictionaryError, match="not finite"):
        converted.write(cache.file_for("o/r", "y", "bfloat16"), given, "bfloat16", PROVENANCE)
    assert len(everything(store)) == 1


# --- writing that stops ---------------------------------------------------------------------------------------------


def no_space(tensors: Any, path: Path, metadata: Any = None) -> None:
    """A disk that fills up when half of a file is written."""
    Path(path).write_bytes(b"half of it")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_told_and_nothing_is_left_behind(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converted, "save_file", no_space)
    with pytest.raises(HubError) as refused:
        written()
    assert refused.value.what.startswith("The disk is full: there is no space left in ")
    assert str(store) in refused.value.what
    assert "cache prune" in refused.value.hint
    assert everything(store) == []


def test_the_full_disk_that_safetensors_tells_of_in_words_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import SafetensorError

    def fail(*_args: Any, **_options: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(converted, "save_file", fail)
    with pytest.raises(HubError, match="disk is full"):
        written()


def test_a_full_disk_leaves_what_was_there_before(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written()
    before = file.read_bytes()
    monkeypatch.setattr(converted, "save_file", no_space)
    with pytest.raises(HubError):
        written(seed=5)
    assert file.read_bytes() == before
    assert everything(store) == [str(file.relative_to(store))]


def test_a_write_that_is_stopped_leaves_nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(tensors: Any, path: Path, metadata: Any = None) -> None:
        Path(path).write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(converted, "save_file", stop)
    with pytest.raises(KeyboardInterrupt):
        written()
    assert everything(store) == []


def test_a_cache_that_cannot_be_written_is_told_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    file = cache.file_for("owner/repo", "x", "float32")
    for attempt in (lambda: written(), lambda: cache.lock(file).__enter__()):
        with pytest.raises(DictionaryError, match=r"cannot be written: Not a directory\. Point XDG_CACHE_HOME"):
            attempt()


# --- several processes ----------------------------------------------------------------------------------------------

CONVERT = """
import sys, time
from pathlib import Path
from knowscope_tui.core.units import SiteKind
from knowscope_tui.engine.shelf import converted, published
from tests.engine.test_shelf_converted import some_parts

main, counter, go = map(Path, sys.argv[1:])
Path(f"{go}.{__import__('os').getpid()}").touch()
while not go.exists():
    time.sleep(0.01)

def make():
    with counter.open("a") as file:
        file.write("made\\n")
    time.sleep(0.5)
    return some_parts()

print(published.obtain_folder(main.parent, main, SiteKind.RESID_POST, make, "float32"))
"""
ROOT = Path(__file__).parents[2]


def test_two_processes_at_once_convert_one_dictionary_once(tmp_path: Path) -> None:
    main, counter, go = tmp_path / "params.npz", tmp_path / "counter", tmp_path / "go"
    main.write_bytes(b"published")
    command = [sys.executable, "-c", CONVERT, str(main), str(counter), str(go)]
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        until = time.monotonic() + 60
        while len(list(tmp_path.glob("go.*"))) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        go.touch()
        said = [process.communicate(timeout=60)[0].strip() for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0]
    assert counter.read_text() == "made\n"
    assert said[0] == said[1]
    found = converted.open_(Path(said[0]))
    assert torch.equal(found.tensors["encoder"], some_parts().tensors["encoder"])
    assert [entry.problem for entry in shelf.verify_cache()] == [""]


def test_a_dictionary_that_was_converted_is_opened_without_sae_lens(tmp_path: Path) -> None:
    """And without numpy's npz reader, the hub or the registry: a few milliseconds beside torch."""
    file = written()
    code = """
import sys, torch
from pathlib import Path
from knowscope_tui.core.units import SiteKind
from knowscope_tui.engine.dictionary import make_dictionary
from knowscope_tui.engine.shelf import converted, published
file = published.obtain_folder(Path(sys.argv[2]), Path(sys.argv[3]), SiteKind.RESID_POST, None, "float32")
for name in (sys.argv[1], file):
    parts = converted.open_(Path(name))
    make_dictionary(parts.spec, parts.tensors).encode(torch.zeros(2, 8))
print([name for name in ("sae_lens", "transformer_lens", "transformers", "huggingface_hub") if name in sys.modules])
"""
    from knowscope_tui.engine.shelf import published

    main = tmp_path / "params.npz"
    main.write_bytes(b"published")
    published.obtain_folder(tmp_path, main, SiteKind.RESID_POST, some_parts, "float32")
    command = [sys.executable, "-c", code, str(file), str(tmp_path), str(main)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def dead_process() -> int:
    """The number of a process that is no more."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    return gone.pid


def test_leftovers_are_those_of_processes_that_are_no_more(store: Path) -> None:
    file = written()
    dead, mine, nobodys = (
        file.with_name(f".{file.name}.{owner}.partial") for owner in (dead_process(), os.getpid(), "somebody")
    )
    for path in (dead, mine, nobodys):
        path.write_bytes(b"half of it")
    assert set(cache.leftovers()) == {dead, nobodys}
    assert [entry.file for entry in shelf.cached()] == [str(file)], "what is half written is in no list"


# --- pruning --------------------------------------------------------------------------------------------------------


def aged(file: Path, days: float) -> Path:
    """`file` as if it had last been opened so many days ago."""
    then = time.time() - days * DAY
    os.utime(file, (then, then))
    return file


def names(entries: tuple[Any, ...]) -> set[str]:
    return {Path(entry.file).name.partition(".")[0] for entry in entries}


@pytest.fixture
def stocked() -> dict[str, Path]:
    """Dictionaries that were last used 1 and 40 days ago, one that is cut short and one with a flipped bit."""
    files = {name: written(name) for name in ("new", "old", "short", "flipped")}
    files["short"].write_bytes(files["short"].read_bytes()[:-9])
    flip_a_byte_of(files["flipped"], "encoder")
    for name, file in files.items():
        aged(file, 40 if name == "old" else 1)
    return files


def left(files: dict[str, Path]) -> set[str]:
    return {name for name, file in files.items() if file.exists()}


def test_pruning_by_age_takes_what_was_not_used_for_longer(stocked: dict[str, Path]) -> None:
    assert names(shelf.prune_cache(older_than_days=41)) == set()
    assert names(shelf.prune_cache(older_than_days=30)) == {"old"}
    assert left(stocked) == {"new", "short", "flipped"}


def test_opening_a_dictionary_is_using_it(stocked: dict[str, Path]) -> None:
    converted.open_(stocked["old"])
    assert names(shelf.prune_cache(older_than_days=30)) == set()
    assert names(shelf.cached()[:1]) == {"old"}, "last used first"


def test_looking_at_a_dictionary_is_not_using_it(stocked: dict[str, Path]) -> None:
    shelf.verify_cache()
    shelf.cached()
    assert names(shelf.prune_cache(older_than_days=30)) == {"old"}


def test_pruning_what_is_broken_reads_every_byte(stocked: dict[str, Path]) -> None:
    assert names(shelf.prune_cache(broken=True)) == {"short", "flipped"}
    assert left(stocked) == {"new", "old"}
    assert names(shelf.prune_cache(broken=True)) == set()


def test_pruning_both_takes_either(stocked: dict[str, Path]) -> None:
    assert names(shelf.prune_cache(older_than_days=30, broken=True)) == {"old", "short", "flipped"}


def test_pruning_everything_leaves_no_dictionary_and_no_empty_folder(stocked: dict[str, Path], store: Path) -> None:
    assert names(shelf.prune_cache(everything=True)) == set(stocked)
    assert everything(store) == []
    assert [path.name for path in store.iterdir()] in ([], [".locks"])
    assert shelf.cached() == ()


def test_pruning_with_nothing_named_takes_leftovers_alone(stocked: dict[str, Path]) -> None:
    partial = stocked["new"].with_name(f".x.{dead_process()}.partial")
    partial.write_bytes(b"half")
    assert shelf.prune_cache() == ()
    assert left(stocked) == set(stocked)
    assert not partial.exists()


@pytest.mark.parametrize("how", [{"older_than_days": 30}, {"broken": True}, {"everything": True}])
def test_a_dry_run_says_what_would_go_and_takes_nothing(
    stocked: dict[str, Path], store: Path, how: dict[str, Any]
) -> None:
    stocked["new"].with_name(f".x.{dead_process()}.partial").write_bytes(b"half")
    before = everything(store)
    told = shelf.prune_cache(dry_run=True, **how)
    assert everything(store) == before
    assert told
    assert names(shelf.prune_cache(**how)) == names(told)


def test_who_has_a_dictionary_open_keeps_it_when_it_is_pruned() -> None:
    tensors = converted.open_(written()).tensors
    shelf.prune_cache(everything=True)
    assert torch.equal(tensors["decoder"], some_parts().tensors["decoder"])


def test_an_empty_cache_is_no_error(store: Path) -> None:
    assert shelf.cached() == shelf.verify_cache() == shelf.prune_cache(everything=True, broken=True) == ()
    assert not store.exists(), "asking creates nothing"
