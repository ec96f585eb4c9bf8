"""apply, revert, diff, merge: edits as files, and the way back to the base's very bits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from knowscope_tui.core.facts import Fact
from knowscope_tui.engine.hashes import sha256, tensor_sha256
from tests.cli.conftest import Run


@pytest.fixture
def delta(
    run: Run, tiny_words: list[str], facts: list[Fact], fact_file: Callable[[list[Fact]], str], tmp_path: Path
) -> Callable[[int, str], Path]:
    """Writes the edit of a fact to a delta file."""

    def make(number: int, method: str) -> Path:
        file = tmp_path / f"{number}-{method}.delta.safetensors"
        words = ["--site", "resid_post", "--method", method, "--no-control", "--out", str(file)]
        done = run("edit", fact_file([facts[number]]), *words, *tiny_words)
        assert done.exit_code == 0, done.stderr
        assert str(file) in " ".join(done.stdout.split()) or file.is_file()
        return file

    return make


def weights(folder: Path) -> dict[str, str]:
    return {name: tensor_sha256(tensor) for name, tensor in load_file(folder / "model.safetensors").items()}


@pytest.mark.parametrize("method", ["positions", "projection"])
def test_applied_and_reverted_every_bit_is_the_bases(
    run: Run, delta: Callable[[int, str], Path], tiny_folder: Path, tmp_path: Path, method: str
) -> None:
    file, edited, back = delta(0, method), tmp_path / "edited", tmp_path / "back"
    assert run("apply", str(file), "--out", str(edited)).exit_code == 0
    assert weights(edited) != weights(tiny_folder)
    done = run("revert", str(edited), "--out", str(back), "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["folder"] == str(back)
    assert sha256(back / "model.safetensors") == sha256(tiny_folder / "model.safetensors")
    assert not list(back.glob("knowscope*"))
    assert run("diff", str(back), str(tiny_folder)).exit_code == 0
    differs = run("diff", str(edited), str(tiny_folder), "--json")
    assert differs.exit_code == 1
    assert {row["name"] for row in json.loads(differs.stdout)["parameters"]} <= set(weights(tiny_folder))


def test_an_edit_is_not_applied_to_another_base(run: Run, delta: Callable[[int, str], Path], tmp_path: Path) -> None:
    file, edited = delta(0, "positions"), tmp_path / "edited"
    run("apply", str(file), "--out", str(edited))
    done = run("apply", str(file), "--base", str(edited), "--out", str(tmp_path / "twice"))
    assert done.exit_code == 1
    assert "is not the base that this edit was made for" in done.stderr
    assert not (tmp_path / "twice").exists()


def test_merged_edits_give_what_making_both_gives(run: Run, delta: Callable[[int, str], Path], tmp_path: Path) -> None:
    one, two, both = delta(0, "positions"), delta(1, "positions"), tmp_path / "both.delta.safetensors"
    done = run("merge", str(one), str(two), "--out", str(both), "--json")
    assert done.exit_code == 0, done.stderr
    merged = json.loads(done.stdout)
    first, second = (json.loads(run("diff", str(both), str(file), "--json").stdout) for file in (one, two))
    assert merged["positions"] >= max(row["positions"] for row in first["parameters"])
    assert all(row["only_b"] == 0 for row in first["parameters"] + second["parameters"])
    assert run("apply", str(both), "--out", str(tmp_path / "edited")).exit_code == 0
    for file in (one, two):
        same = run("diff", str(file), str(file))
        assert same.exit_code == 0
        assert "The same, bit for bit" in same.stdout


def test_entries_that_two_edits_set_differently_are_counted(
    run: Run, delta: Callable[[int, str], Path], tmp_path: Path
) -> None:
    one, two = delta(0, "positions"), delta(0, "precise")
    out = tmp_path / "both.delta.safetensors"
    done = run("merge", str(one), str(two), "--out", str(out))
    assert done.exit_code == 1
    assert "differently" in done.stderr
    assert "--later-wins" in done.stderr
    assert not out.exists()
    assert run("merge", str(one), str(two), "--out", str(out), "--later-wins").exit_code == 0
    assert json.loads(run("diff", str(out), str(two), "--json").stdout)["compared"] > 0


@pytest.mark.parametrize(
    "words", [("apply", "nothing", "--out", "x"), ("revert", ".", "--out", "x"), ("merge", "nothing", "--out", "x")]
)
def test_what_is_no_delta_is_one_sentence(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*words)
    assert done.exit_code in (1, 2)
    assert len(done.stderr.strip().splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []
