"""apply, revert, diff, merge: edits as files, and the way back to the base's very bits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.units import SiteKind
from knowscope_tui.engine.deltas.files import read
from knowscope_tui.engine.hashes import sha256, tensor_sha256
from knowscope_tui.engine.loading import load_model
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
    one, two = delta(0, "positions"), delta(0, "refined")
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


def test_a_base_in_another_dtype_is_told_with_both(
    run: Run, delta: Callable[[int, str], Path], tiny_folder: Path, tmp_path: Path
) -> None:
    lm = load_model(str(tiny_folder), device="cpu", dtype="bfloat16")
    lm.model.save_pretrained(tmp_path / "half")
    done = run("apply", str(delta(0, "positions")), "--base", str(tmp_path / "half"), "--out", str(tmp_path / "x"))
    assert done.exit_code == 1
    said = " ".join(done.stderr.split())
    assert "is bfloat16, and the edit was made for float32. Name the base in that dtype with --base." in said
    assert not (tmp_path / "x").exists()


def test_edits_of_two_bases_are_not_merged(run: Run, delta: Callable[[int, str], Path], tmp_path: Path) -> None:
    one, two = delta(0, "positions"), tmp_path / "other.delta.safetensors"
    with safe_open(one, framework="pt") as file:
        metadata = file.metadata()
    other = json.loads(metadata["knowscope_delta"]) | {"base": "another", "base_fingerprint": "0"}
    save_file(load_file(one), two, metadata={"knowscope_delta": json.dumps(other)})
    done = run("merge", str(one), str(two), "--out", str(tmp_path / "both.delta.safetensors"))
    assert done.exit_code == 1
    assert "The edits were made for different bases" in " ".join(done.stderr.split())


def test_the_licence_of_the_base_is_in_the_edit_and_on_the_card_of_what_it_is_applied_to(
    run: Run, delta: Callable[[int, str], Path], tiny_folder: Path, tmp_path: Path
) -> None:
    """From the base's card, and where a copy of the base has none from the delta file."""
    card = tiny_folder / "README.md"
    card.write_text("---\nlicense: gemma\nlicense_link: https://example.org/terms\n---\n# Tiny\n", encoding="utf-8")
    try:
        file = delta(0, "positions")
        assert run("apply", str(file), "--out", str(tmp_path / "one")).exit_code == 0
    finally:
        card.unlink()
    assert read(file).about["license"] == {"license": "gemma", "license_link": "https://example.org/terms"}
    assert run("apply", str(file), "--out", str(tmp_path / "two")).exit_code == 0
    for name in ("one", "two"):
        text = (tmp_path / name / "README.md").read_text(encoding="utf-8")
        assert "license: gemma" in text
        assert "license_link: https://example.org/terms" in text


def test_weights_and_dictionaries_are_not_taken_for_an_edit(
    run: Run, tiny_folder: Path, sources: dict[SiteKind, Path], tmp_path: Path
) -> None:
    dictionary = next(iter(sources.values())) / "layer_0" / "sae_weights.safetensors"
    for file, kind in ((tiny_folder / "model.safetensors", "a model's weights"), (dictionary, "a dictionary")):
        done = run("apply", str(file), "--out", str(tmp_path / "x"))
        assert done.exit_code == 1
        assert f"holds {kind}, not an edit." in " ".join(done.stderr.split())


def test_an_edit_is_not_saved_under_the_name_of_weights(
    run: Run, tiny_words: list[str], facts: list[Fact], fact_file: Callable[[list[Fact]], str], tmp_path: Path
) -> None:
    done = run("edit", fact_file([facts[0]]), "--out", str(tmp_path / "model.safetensors"), *tiny_words)
    assert done.exit_code == 2
    assert "model.delta.safetensors" in done.stderr
