"""The whole way on the tiny model: probe, ablate, edit, save, verify, in one process or in several."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knowscope_tui.core.facts import Fact
from tests.cli.conftest import Run, strict_json


@pytest.fixture
def edited(
    run: Run, tiny_words: list[str], facts: list[Fact], fact_file: Callable[[list[Fact]], str], tmp_path: Path
) -> tuple[dict[str, Any], Path, str]:
    """A checkpoint in which a fact was edited: the report, the folder, and the fact's file."""
    file, target = fact_file(facts[:1]), tmp_path / "edited"
    words = ["--site", "resid_post", "--tau2", "0.05", "--neighbors", fact_file(facts[1:])]
    result = run("edit", file, "--out", str(target), "--json", *words, *tiny_words)
    assert result.exit_code == 0, result.stderr
    return strict_json(result.stdout), target, file


def test_probe_then_ablate_what_it_found(run: Run, tiny_words: list[str], facts: list[Fact]) -> None:
    fact = facts[0]
    reading = strict_json(
        run("probe", fact.prompt, "--answer", fact.answer, "--rank", "delta-prob", "--json", *tiny_words).stdout
    )
    strongest = reading["units"][0]
    words = ["--answer", fact.answer, "--unit", strongest["unit"], "--continuation", "3", "--json"]
    effect = strict_json(run("ablate", fact.prompt, *words, *tiny_words).stdout)
    assert effect["p_before"] == pytest.approx(reading["p_answer"], rel=1e-5)
    assert effect["delta_prob"] == pytest.approx(strongest["delta_prob"], abs=1e-4)


def test_edit_reports_what_it_saved(edited: tuple[dict[str, Any], Path, str]) -> None:
    report, target, _file = edited
    assert report["checkpoint"] == str(target)
    assert report["applied"] is True
    assert (target / "knowscope_edit.json").is_file()
    assert (target / "knowscope_delta.safetensors").is_file()


def test_verify_agrees_with_edit(
    run: Run, edited: tuple[dict[str, Any], Path, str], facts: list[Fact], fact_file: Callable[[list[Fact]], str]
) -> None:
    report, target, file = edited
    words = ["--facts", file, "--neighbors", fact_file(facts[1:]), "--device", "cpu", "--json"]
    result = run("verify", str(target), *words)
    assert result.exit_code == 0, result.stderr
    verified = strict_json(result.stdout)
    assert verified["intact"] is True
    assert verified["problems"] == []
    assert verified["positions"] == report["positions"]
    assert verified["units"] == report["units"]
    assert verified["method"] == report["method"]
    assert verified["claims"]
    assert all(claim["agrees"] for claim in verified["claims"])
    for figure in ("reliability", "generalization", "locality", "delta_ppl"):
        assert verified["after"][figure] == pytest.approx(report["after"][figure], abs=1e-5)
    assert verified["after"]["rings"] == report["after"]["rings"]
    assert "✓ Every edited entry is as recorded" in run("verify", str(target), *words[:-1]).stdout


def test_verify_refuses_other_facts_and_finds_a_claim_that_does_not_hold(
    run: Run, edited: tuple[dict[str, Any], Path, str], facts: list[Fact], fact_file: Callable[[list[Fact]], str]
) -> None:
    _report, target, file = edited
    kept = ["--neighbors", fact_file(facts[1:]), "--device", "cpu"]
    assert "not the facts that the edit was made for" in run("verify", str(target), "--facts", kept[1], *kept).stderr
    assert "other facts as --neighbors" in run("verify", str(target), "--facts", file, "--device", "cpu").stderr
    record = json.loads((target / "knowscope_edit.json").read_text(encoding="utf-8"))
    record["proof"]["after"]["p_answer"] += 0.25
    (target / "knowscope_edit.json").write_text(json.dumps(record), encoding="utf-8")
    result = run("verify", str(target), "--facts", file, *kept)
    assert result.exit_code == 1
    assert "✗ p_answer" in result.stdout


def test_verify_finds_a_checkpoint_that_was_changed(
    run: Run, edited: tuple[dict[str, Any], Path, str], facts: list[Fact], fact_file: Callable[[list[Fact]], str]
) -> None:
    from safetensors.torch import load_file, save_file

    _report, target, file = edited
    weights = target / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"][0] += 1.0
    save_file(tensors, weights, metadata={"format": "pt"})
    words = ["--facts", file, "--neighbors", fact_file(facts[1:]), "--device", "cpu"]
    result = run("verify", str(target), *words)
    assert result.exit_code == 1
    assert "model.norm.weight" in result.stdout
    assert "✗" in result.stdout


def test_a_process_of_its_own_writes_json_and_nothing_else(
    process: Callable[..., subprocess.CompletedProcess[str]], tiny_words: list[str], facts: list[Fact]
) -> None:
    words = ["probe", facts[0].prompt, "--top", "3", "--json", *tiny_words]
    done = process(*words, env={"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"})
    assert (done.returncode, done.stderr) == (0, "")
    assert len(strict_json(done.stdout)["units"]) == 3


def test_a_terminal_without_utf_8_gets_plain_bars(
    process: Callable[..., subprocess.CompletedProcess[str]], tiny_words: list[str], facts: list[Fact]
) -> None:
    done = process("probe", facts[0].prompt, *tiny_words, env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.returncode == 0
    assert done.stderr.startswith("cpu: model ")
    assert done.stderr.isascii()
    assert "###" in done.stdout
    assert done.stdout.isascii()
