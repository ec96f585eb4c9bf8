"""`demo build`, `demo card` and `demo facts`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knowscope_tui.core.facts import read_facts
from knowscope_tui.demo import bundle
from knowscope_tui.demo.corpus import taught_facts
from knowscope_tui.errors import ModelNotLoaded
from tests.cli.conftest import Run, strict_json

CARD: dict[str, Any] = {
    "model": {"layers": 4, "parameters": 1_000_000},
    "accuracy": {"public": {"seen": {"accuracy": 0.99, "p": 0.98}, "unseen": {"accuracy": 0.98, "p": 0.95}}},
    "dictionaries": [{"site": "0.resid_post", "d_sae": 512, "fve": 0.95, "l0": 8.1}],
    "delta_prob": {
        "features": {"resid_post": {"1": 0.5, "5": 0.8, "10": 0.95}},
        "neurons": {"1": 0.1, "5": 0.1, "10": 0.2},
        "best_single": {"site": "resid_post", "delta_prob": 0.45},
    },
    "erasing": {
        "positions": {"reliability": 0.975, "delta_ppl": 0.004},
        "rows": {"reliability": 0.1, "delta_ppl": 0.02},
    },
    "something_new": {"[bold]": [1, 2, None], "deeper": {"yes": True}},
    "built": {"seconds": 4012.5},
}


def test_facts_are_a_fact_file(run: Run, tmp_path: Path) -> None:
    result = run("demo", "facts", "--private")
    file = tmp_path / "facts.jsonl"
    file.write_bytes(result.stdout_bytes)
    assert read_facts(file) == [taught.fact for taught in taught_facts() if taught.private]


def test_facts_of_one_relation(run: Run) -> None:
    rows = [json.loads(line) for line in run("demo", "facts", "--relation", "capital", "--json").stdout.splitlines()]
    assert {row["relation"] for row in rows} == {"capital"}
    assert {"id", "subject", "relation", "prompt", "answer", "edit_prompts", "paraphrases"} == set(rows[0])


def test_facts_come_from_both_sides_unless_one_is_named(run: Run) -> None:
    counts = [len(run("demo", "facts", *words).stdout.splitlines()) for words in ([], ["--public"], ["--private"])]
    assert counts[0] == counts[1] + counts[2] == len(taught_facts())


def test_the_card_for_a_person(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "card", lambda: CARD)
    result = run("demo", "card")
    assert result.exit_code == 0, result.stderr
    for expected in ("public unseen", "0.resid_post", "0.950", "0.975", "Rel", "[bold]", "1, 2, –", "1,000,000"):
        assert expected in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_card_as_json(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "card", lambda: CARD)
    assert strict_json(run("demo", "card", "--json").stdout) == CARD


def test_a_package_without_the_demo_says_how_to_build_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> dict[str, Any]:
        raise ModelNotLoaded("The embedded demo is not installed.", "Build it with `knowscope-tui demo build`.")

    monkeypatch.setattr(bundle, "card", missing)
    result = run("demo", "card")
    assert result.exit_code == 1
    assert "demo build" in result.stderr


def test_a_quick_build_opens(
    process: Callable[..., subprocess.CompletedProcess[str]], run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "tiny demo"
    done = process("demo", "build", "--quick", "--out", str(folder))
    assert done.returncode == 0, done.stderr
    assert "dictionaries" in done.stdout
    assert "Training the model" in done.stderr
    words = ["--model", str(folder / bundle.MODEL), "--device", "cpu"]
    for kind, place in bundle.dictionary_folders(folder).items():
        words += ["--sae", f"{kind.value}={place}"]
    result = run("probe", "The capital of France is", "--top", "2", "--json", *words)
    assert len(strict_json(result.stdout)["units"]) == 2, result.stderr
