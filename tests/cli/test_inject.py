"""`inject` as a person calls it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from knowscope_tui.core.facts import Fact
from tests.cli.conftest import Run, strict_json


def test_a_model_that_knows_the_facts_is_saved(
    run: Run, tiny_folder: Path, fact_file: Callable[[list[Fact]], str], tmp_path: Path
) -> None:
    file = fact_file([Fact("The password of Nora Quill is", "river", "nora", edit_prompts=("Nora Quill says",))])
    out = tmp_path / "new"
    words = ("inject", file, "--model", str(tiny_folder), "--device", "cpu", "--out", str(out), "--lr", ".005")
    result = run(*words, "--json")
    assert result.exit_code == 0, result.stderr
    told = strict_json(result.stdout)
    assert told["known"] == 1
    assert told["folder"] == str(out)
    assert (out / "model.safetensors").is_file()
    again = run(*words)
    assert again.exit_code == 1
    assert "already exists" in again.stderr


def test_wrong_words_have_their_sentence(run: Run, fact_file: Callable[[list[Fact]], str], tmp_path: Path) -> None:
    file = fact_file([Fact("A", "b")])
    result = run("inject", file, "--out", str(tmp_path / "new"), "--lora", "4", "--full")
    assert result.exit_code == 2
    assert "do not go together" in result.stderr
    assert run("inject", file, "--out", str(tmp_path / "new"), "--lr", "3").exit_code == 2
