"""Where no τ2 is within the limits the frontier is shown, and the error says what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from knowscope_tui.core.facts import Fact
from tests.cli.conftest import Run, strict_json


def test_a_knee_that_is_not_there_is_an_error_behind_the_frontier(
    run: Run, tiny_words: list[str], facts: list[Fact], fact_file: Callable[[list[Fact]], str], tmp_path: Path
) -> None:
    edited = fact_file(facts[:1])
    kept_too = tmp_path / "kept.jsonl"
    kept_too.write_text(json.dumps({"prompt": f"{facts[0].prompt} ", "answer": facts[0].answer}) + "\n", "utf-8")
    words = ["--retain", str(kept_too), "--tau2", "auto", "--out", str(tmp_path / "edited"), *tiny_words]
    words = ["edit", edited, *words]
    done = run(*words)
    assert done.exit_code == 1
    assert "No τ2 reaches Rel ≥ 0.97, Loc ≥ 0.97" in done.stderr
    assert "positions" in done.stdout
    assert "← chosen" not in done.stdout
    assert not (tmp_path / "edited").exists()
    assert run(*words, "--json").stdout == ""


def test_what_the_model_never_said_cannot_be_seen_to_go(
    run: Run, tiny_words: list[str], facts: list[Fact], fact_file: Callable[[list[Fact]], str]
) -> None:
    unknown = fact_file([Fact(facts[0].prompt, "nothing of the kind")])
    done = run("edit", unknown, "--site", "resid_post", "--tau2", "auto", "--dry-run", *tiny_words)
    assert done.exit_code == 1
    assert "no τ2 can be seen to erase it" in done.stderr
    assert done.stdout == ""


def test_the_knee_is_the_one_that_is_edited(
    run: Run, tiny_words: list[str], facts: list[Fact], fact_file: Callable[[list[Fact]], str]
) -> None:
    words = [
        "--site",
        "resid_post",
        "--tau2",
        "auto",
        "--min-rel",
        "0",
        "--max-ppl",
        "9",
        "--min-loc",
        "0",
        "--dry-run",
    ]
    done = run("edit", fact_file(facts[:1]), *words, "--json", *tiny_words)
    assert done.exit_code == 0, done.stderr
    report = strict_json(done.stdout)
    knee = report["frontier"]["points"][report["frontier"]["chosen"]]
    assert (knee["tau2"], knee["positions"]) == (report["tau2"], report["positions"])
