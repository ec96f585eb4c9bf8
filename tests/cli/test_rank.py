"""`rank`: what it asks of the session, what it writes, and what it refuses before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.ranks import BestUnit, KindRanks, RankSummary, SkippedFact
from knowscope_tui.core.units import SiteKind, Unit
from tests.cli.conftest import Run, strict_json
from tests.cli.stand_in import StandInScope

TOLD = [Fact("The capital of France is", "Paris", "capital/france"), Fact("The capital of Japan is", "Tokyo")]

UNIT = Unit.feature(12, SiteKind.RESID_POST, 12345)
LONG = "The city in which the man who wrote the longest novel of his time was born is"
SUMMARY = RankSummary(
    file="ranks.parquet",
    size_bytes=1_234_567,
    facts=2,
    units=640,
    kinds=(KindRanks(SiteKind.MLP_OUT, 0, 0.0712), KindRanks(SiteKind.RESID_POST, 2, 0.815)),
    strongest=(
        BestUnit(0, TOLD[0].prompt, "Paris", 0.98, True, UNIT, 0.01, 0.99),
        BestUnit(1, LONG, "\x1b[31mTokyo", 0.5, False, UNIT, 0.0001, float("nan")),
    ),
    skipped=tuple(SkippedFact(n, Fact("word " * 40, "x", f"long/{n}"), "It is too long.") for n in range(2, 14)),
    remarks=("The part 'part-000000.parquet' was damaged, and its facts were measured again.",),
    measured=600,
    seconds=2.0,
)


@pytest.fixture
def ranking(stand_in: StandInScope, monkeypatch: pytest.MonkeyPatch) -> StandInScope:
    """A scope that ranks without a model."""

    def rank(self: StandInScope, facts: Sequence[Fact], out: Path, **asked: Any) -> RankSummary:
        self.asked = asked | {"facts": list(facts), "out": out}
        asked["on_progress"]("Ranking: 1 of 2 facts", 0.5)
        return SUMMARY

    monkeypatch.setattr(StandInScope, "rank", rank, raising=False)
    return stand_in


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "ranks.parquet"


FactFile = Callable[[list[Fact]], str]


def test_options_are_passed_on(run: Run, ranking: StandInScope, fact_file: FactFile, target: Path) -> None:
    file = fact_file(TOLD)
    words = "--neurons 7 --memory 2GiB --limit 1 --restart --device cpu"
    result = run("rank", file, "--out", str(target), *words.split())
    assert result.exit_code == 0
    asked = ranking.asked
    assert (asked["facts"], asked["out"]) == (TOLD[:1], target)
    assert (asked["neurons"], asked["memory"], asked["restart"]) == (7, 2 << 30, True)
    assert ranking.source.device == "cpu"


def test_without_options_all_facts_are_ranked_within_a_gibibyte(
    run: Run, ranking: StandInScope, fact_file: FactFile, target: Path
) -> None:
    assert run("rank", fact_file(TOLD), "--out", str(target)).exit_code == 0
    asked = ranking.asked
    assert asked["facts"] == TOLD
    assert (asked["neurons"], asked["memory"], asked["restart"]) == (100, 1 << 30, False)


def test_what_it_came_to_for_a_person(run: Run, ranking: StandInScope, fact_file: FactFile, target: Path) -> None:
    result = run("rank", fact_file(TOLD), "--out", str(target))
    lines = result.stdout.splitlines()
    assert lines[0] == "2 facts · 640 units"
    assert lines[1] == "300 units/s over 2.0 s of measuring"
    assert next(line for line in lines if line.startswith("resid_post")).split()[1:4] == ["2", "facts", "0.81"]
    assert lines.index(next(line for line in lines if line.startswith("resid_post"))) < lines.index(
        next(line for line in lines if line.startswith("mlp_out"))
    )
    assert "Saved to ranks.parquet (1.2 MB)." in lines
    assert str(UNIT) in result.stdout
    assert "\x1b" not in result.stdout
    assert max(map(len, lines)) <= 80


def test_facts_that_were_left_out_and_damaged_parts_are_said(
    run: Run, ranking: StandInScope, fact_file: FactFile, target: Path
) -> None:
    said = run("rank", fact_file(TOLD), "--out", str(target)).stderr.splitlines()
    assert "  0% Ranking: 1 of 2 facts" not in said
    assert " 50% Ranking: 1 of 2 facts" in said
    assert SUMMARY.remarks[0] in said
    assert "Left out: fact 2, 'long/2'. It is too long." in said
    assert "Left out: fact 11, 'long/11'. It is too long." in said
    assert said[-1] == "Left out: 2 facts more, which the file's metadata lists."


def test_as_json(run: Run, ranking: StandInScope, fact_file: FactFile, target: Path) -> None:
    result = run("rank", fact_file(TOLD), "--out", str(target), "--json")
    told = strict_json(result.stdout)
    assert (told["file"], told["bytes"], told["facts"], told["units"]) == ("ranks.parquet", 1_234_567, 2, 640)
    assert (told["measured"], told["seconds"]) == (600, 2.0)
    assert told["kinds"][1] == {"kind": "resid_post", "strongest": 2, "mean_delta_prob": 0.815}
    assert told["strongest"][0]["unit"] == str(UNIT)
    assert told["strongest"][1]["delta_prob"] is None
    assert told["skipped"][0] == {"fact": 2, "id": "long/2", "why": "It is too long."}
    assert told["remarks"] == list(SUMMARY.remarks)


def test_stopping_says_how_to_go_on(
    run: Run, ranking: StandInScope, fact_file: FactFile, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_rest: object, **_asked: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(StandInScope, "rank", stopped)
    result = run("rank", fact_file(TOLD), "--out", str(target))
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.splitlines()[-1] == (
        "Stopped; what is finished is kept, and the same command goes on from there."
    )


@pytest.mark.usefixtures("unopened")
def test_what_is_refused_before_anything_is_loaded(run: Run, fact_file: FactFile, tmp_path: Path) -> None:
    there, empty, good = tmp_path / "there.parquet", tmp_path / "empty.jsonl", fact_file(TOLD)
    there.write_text("mine")
    empty.write_text("\n")
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"prompt": "x"}')
    target = str(tmp_path / "ranks.parquet")
    for words, code, says in [
        ((good, "--out", str(there)), 1, "there.parquet' already exists. Choose a file that does not exist."),
        ((good, "--out", str(tmp_path / "no" / "r.parquet")), 1, "There is no folder"),
        ((str(tmp_path / "none.jsonl"), "--out", target), 1, "Cannot read the fact file"),
        ((str(empty), "--out", target), 1, "There is no fact in"),
        ((str(broken), "--out", target), 1, 'is no fact: "answer" is missing or empty.'),
        ((good,), 2, "Missing option '--out'."),
        ((good, "--out", target, "--memory", "lots"), 2, "'lots' is no amount of memory."),
        ((good, "--out", target, "--limit", "0"), 2, "0 is not in the range"),
        ((good, "--out", target, "--neurons", "-1"), 2, "-1 is not in the range"),
    ]:
        result = run("rank", *words)
        assert (result.exit_code, result.stdout) == (code, "")
        assert says in " ".join(result.stderr.split())
    assert there.read_text() == "mine"
    assert not Path(target).exists()


def test_the_whole_way(run: Run, facts: list[Fact], fact_file: FactFile, tiny_words: list[str], target: Path) -> None:
    file = fact_file([*facts[:3], Fact("word " * 200, "x", "too long")])
    result = run("rank", file, "--out", str(target), "--json", *tiny_words)
    assert result.exit_code == 0, result.stderr
    told = strict_json(result.stdout)
    assert (told["facts"], [one["id"] for one in told["skipped"]]) == (3, ["too long"])

    import pyarrow.parquet as pq

    table = pq.read_table(target)
    assert (table.num_rows, told["bytes"]) == (told["units"], target.stat().st_size)
    assert set(table["fact"].to_pylist()) == {0, 1, 2}
    again = run("rank", file, "--out", str(target), *tiny_words)
    assert (again.exit_code, again.stdout) == (1, "")
    assert "already exists" in again.stderr
