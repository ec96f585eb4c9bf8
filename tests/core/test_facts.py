"""Fact files: what is read, and which line is named when one is broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from knowscope_tui.core.facts import Fact, read_facts, write_facts
from knowscope_tui.errors import FactFileError

FACTS = [
    Fact("The capital of France is", "Paris", "capital/france", "France", "capital", ("France's capital:",), ("In …",)),
    Fact("[red]The\x1b[31m tab\tand “quotes”", "東京\u2028x", paraphrases=("a\nb",)),
]
GOOD = '{"prompt": "The capital of France is", "answer": "Paris"}'


def write(folder: Path, content: bytes) -> Path:
    path = folder / "facts.jsonl"
    path.write_bytes(content)
    return path


def test_facts_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    write_facts(FACTS, path)
    assert read_facts(path) == FACTS
    assert len(path.read_text(encoding="utf-8").split("\n")) == len(FACTS) + 1


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + GOOD.encode() + b"\n",
        GOOD.encode() + b"\r\n",
        b"\n \n\r\n" + GOOD.encode() + b"\n\t\n",
        GOOD.encode(),
    ],
    ids=["byte order mark", "CRLF", "blank lines", "no newline at the end"],
)
def test_harmless_differences_in_a_file_change_nothing(tmp_path: Path, content: bytes) -> None:
    assert read_facts(write(tmp_path, content)) == [Fact("The capital of France is", "Paris")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "no JSON"),
        ("[1, 2]", "no JSON object"),
        ('"Paris"', "no JSON object"),
        ('{"prompt": "x"}', '"answer" is missing or empty'),
        ('{"prompt": " ", "answer": "y"}', '"prompt" is missing or empty'),
        ('{"prompt": 3, "answer": "y"}', '"prompt" is no text'),
        ('{"prompt": "x", "answer": null}', '"answer" is no text'),
        ('{"prompt": "x", "answer": "y", "paraphrases": "z"}', '"paraphrases" is no list of texts'),
        ('{"prompt": "x", "answer": "y", "edit_prompts": [1]}', '"edit_prompts" is no list of texts'),
        ("[" * 100_000, "no fact"),
    ],
)
def test_a_broken_line_is_named_with_its_number_and_its_reason(tmp_path: Path, line: str, reason: str) -> None:
    path = write(tmp_path, f"{GOOD}\n\n{line}\n{GOOD}\n".encode())
    with pytest.raises(FactFileError) as failed:
        read_facts(path)
    assert failed.value.what.startswith("Line 3 of ")
    assert reason in failed.value.what
    assert "\n" not in str(failed.value)
    assert len(str(failed.value)) < 500


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_a_file_without_a_fact_says_so(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(FactFileError, match="There is no fact in"):
        read_facts(write(tmp_path, content))


def test_a_file_that_is_no_utf8_says_so(tmp_path: Path) -> None:
    with pytest.raises(FactFileError, match="not UTF-8 text"):
        read_facts(write(tmp_path, b'{"prompt": "caf\xe9", "answer": "y"}'))


def test_a_missing_file_and_a_folder_say_so(tmp_path: Path) -> None:
    with pytest.raises(FactFileError, match="No such file"):
        read_facts(tmp_path / "none.jsonl")
    with pytest.raises(FactFileError, match="directory"):
        read_facts(tmp_path)


def test_keys_that_a_fact_does_not_have_are_ignored() -> None:
    assert Fact.from_json({**json.loads(GOOD), "source": "a book"}) == Fact("The capital of France is", "Paris")
