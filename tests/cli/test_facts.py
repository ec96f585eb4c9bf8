"""`knowscope-tui facts`: what a model knows, other forms, invented people."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from knowscope_tui.core.facts import Fact, read_facts
from tests.cli.conftest import Run, strict_json
from tests.core.test_fact_formats import COUNTERFACT, pararel


@pytest.fixture
def plain_words(tiny_folder: Path) -> list[str]:
    return ["--model", str(tiny_folder), "--device", "cpu"]


def test_what_the_model_knows_is_kept_and_the_rest_named(
    run: Run, plain_words: list[str], facts: list[Fact], fact_file: Callable[[list[Fact]], str], tmp_path: Path
) -> None:
    wrong = replace(facts[0], answer="zebra", id="wrong")
    endless = replace(facts[1], prompt="word " * 200, id="endless")
    file, out = fact_file([facts[0], wrong, endless, facts[1], facts[0]]), tmp_path / "known.jsonl"
    done = run("facts", "known", file, "--out", str(out), *plain_words)
    assert done.exit_code == 0, done.stderr
    assert read_facts(out) == [facts[0], facts[1]]
    for said in ("Dropped 1: the model says something else", "Dropped 1: it stands there twice", "Kept 2 of 5 facts"):
        assert said in done.stderr
    assert "tokens" in done.stderr
    row = strict_json(run("facts", "known", file, "--json", *plain_words).stdout)
    assert row["kept"] == 2
    assert [one["dropped"] is None for one in row["facts"]] == [True, False, False, True, False]
    assert [json.loads(line)["id"] for line in run("facts", "known", file, *plain_words).stdout.splitlines()] == [
        facts[0].id,
        facts[1].id,
    ]
    sure = run("facts", "known", file, "--min-p", "1", *plain_words)
    assert sure.exit_code == 1
    assert "The model knows none of these 5 facts." in sure.stderr
    again = run("facts", "known", file, "--out", str(out), *plain_words)
    assert again.exit_code == 1
    assert "already exists" in again.stderr


def test_facts_and_neighbors_do_not_share_a_file(run: Run, tmp_path: Path) -> None:
    file, out = tmp_path / "counterfact.json", tmp_path / "out.jsonl"
    file.write_text(json.dumps([COUNTERFACT]))
    done = run("facts", "convert", str(file), "--out", str(out), "--neighbors", str(out))
    assert done.exit_code == 2
    assert "both name" in done.stderr
    assert not out.exists()


def test_other_forms_are_converted_and_understood_everywhere(run: Run, tmp_path: Path) -> None:
    pararel(tmp_path / "pararel")
    done = run("facts", "convert", str(tmp_path / "pararel"), "--out", str(tmp_path / "p.jsonl"))
    assert done.exit_code == 0, done.stderr
    assert "2 of 7 patterns do not end in the answer" in done.stderr
    assert len(read_facts(tmp_path / "p.jsonl")) == 3
    file = tmp_path / "counterfact.json"
    file.write_text(json.dumps([COUNTERFACT]))
    done = run("facts", "convert", str(file), "--erase", "--neighbors", str(tmp_path / "n.jsonl"), "--json")
    assert done.exit_code == 0, done.stderr
    row = strict_json(done.stdout)
    assert (row["form"], row["neighbors"]) == ("CounterFact", 2)
    assert "target_new" not in row["rows"][0]
    assert len(read_facts(tmp_path / "n.jsonl")) == 2
    refused = run("facts", "convert", str(tmp_path / "pararel"), "--neighbors", str(tmp_path / "m.jsonl"))
    assert refused.exit_code == 1
    assert "ParaRel names no neighbors here." in refused.stderr
    assert not (tmp_path / "m.jsonl").exists()


def test_invented_people(run: Run, tmp_path: Path) -> None:
    done = run("facts", "make-private", "--people", "3", "--relation", "pin", "--out", str(tmp_path / "pins.jsonl"))
    assert done.exit_code == 0, done.stderr
    assert len(read_facts(tmp_path / "pins.jsonl")) == 3
    assert run("facts", "make-private", "--people", "0").exit_code == 2
    assert "There is no relation 'x'." in run("facts", "make-private", "--relation", "x").stderr
    assert "There is no folder" in run("facts", "make-private", "--out", str(tmp_path / "no" / "x")).stderr
