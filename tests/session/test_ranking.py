"""A fact file ranked: the table, going on after a stop, damaged parts, and what is refused."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.ranks import FactRanks, RankOptions, RankSummary, UnitRank
from knowscope_tui.core.units import Family, SiteKind, Unit
from knowscope_tui.engine import ranking as engine
from knowscope_tui.engine.library import Library, load_library
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.ranking import AskedFact, Ranker
from knowscope_tui.errors import Cancelled, FactFileError, SaveError, UsageError
from knowscope_tui.session import ranking
from knowscope_tui.session.rank_table import read_part, tables, write_part
from knowscope_tui.session.ranking import rank_facts
from knowscope_tui.text import duration

NEURONS = 4
Rank = Callable[..., RankSummary]


@pytest.fixture
def told(facts: list[Fact]) -> list[Fact]:
    """Eight facts; every third has an answer of several tokens."""
    return [Fact(fact.prompt, "the city" if n % 3 else fact.answer, fact.id) for n, fact in enumerate(facts[:8])]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "ranks.parquet"


@pytest.fixture
def rank(lm: LanguageModel, library: Library, told: list[Fact], target: Path, monkeypatch: pytest.MonkeyPatch) -> Rank:
    """Ranks the facts in batches of two."""
    monkeypatch.setattr(engine, "MOST_FACTS", 2)

    def ranked(facts: Sequence[Fact] = told, path: Path = target, **options: Any) -> RankSummary:
        on_progress = options.pop("on_progress", lambda doing, fraction: None)
        return rank_facts(lm, library, facts, path, RankOptions(**{"neurons": NEURONS, **options}), on_progress)

    return ranked


def stop_at(share: float) -> Callable[[str, float | None], None]:
    """Progress that stops the work when so much of the ranking is done."""

    def tell(doing: str, fraction: float | None) -> None:
        if doing.startswith("Ranking") and (fraction or 0.0) >= share:
            raise Cancelled

    return tell


def parts_of(target: Path) -> list[Path]:
    return sorted(target.with_name(f"{target.name}.parts").glob("part-*.parquet"))


def table_of(target: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(target)


@pytest.fixture
def whole(rank: Rank, target: Path) -> bytes:
    """The table of a run that nothing stopped."""
    path = target.with_name("uninterrupted.parquet")
    rank(path=path)
    return path.read_bytes()


# --- the table ------------------------------------------------------------------------------------------------------


def test_the_table_holds_every_unit_of_every_fact_in_the_order_of_the_file(
    rank: Rank, lm: LanguageModel, library: Library, told: list[Fact], target: Path
) -> None:
    summary = rank()
    rows = table_of(target).to_pylist()
    asked = [AskedFact(n, fact, lm.ask(fact.prompt, fact.answer)) for n, fact in enumerate(told)]
    ranker = Ranker(lm, library, neurons=NEURONS)
    expected = sorted((one for b in ranker.batches(asked) for one in ranker.rank(b)), key=lambda ranks: ranks.number)
    assert (summary.facts, summary.units) == (8, len(rows))
    units = [(ranks, unit) for ranks in expected for unit in ranks.units]
    assert [(row["fact"], row["unit"]) for row in rows] == [(ranks.number, str(unit.unit)) for ranks, unit in units]
    for row, (ranks, unit) in zip(rows, units, strict=True):
        assert (row["id"], row["prompt"], row["answer"]) == (ranks.fact.id, ranks.fact.prompt, ranks.fact.answer)
        assert (row["rank"], row["says_answer"]) == (ranks.rank, ranks.says_answer)
        assert (row["layer"], row["kind"]) == (unit.unit.site.layer, unit.unit.site.kind.value)
        assert (row["site"], row["index"]) == (str(unit.unit.site), unit.unit.index)
        assert row["family"] == ("feature" if unit.unit.family is Family.FEATURE else "neuron")
        numbers = [row[name] for name in ("p_answer", "activation", "attribution", "p_after", "delta_prob")]
        values = [ranks.p_answer, unit.activation, unit.attribution, unit.p_after, unit.delta_prob]
        assert numbers == pytest.approx(values, rel=1e-4, abs=1e-5)


def test_the_file_says_what_was_asked(rank: Rank, lm: LanguageModel, library: Library, target: Path) -> None:
    rank()
    header = json.loads(table_of(target).schema.metadata[b"knowscope"])
    assert (header["model"], header["dtype"], header["neurons"]) == (lm.name, "float32", NEURONS)
    assert [one["site"] for one in header["dictionaries"]] == [str(site) for site in library.sites]
    assert (header["facts"]["count"], header["skipped"]) == (8, [])


def test_only_the_table_is_left(rank: Rank, target: Path) -> None:
    summary = rank()
    assert list(target.parent.iterdir()) == [target]
    assert (summary.file, summary.size_bytes) == (str(target), target.stat().st_size)
    assert summary.measured == summary.units


def test_the_summary_is_that_of_the_table(rank: Rank, told: list[Fact], target: Path) -> None:
    summary = rank()
    rows = table_of(target).to_pylist()
    best = {row["fact"]: row for row in reversed(rows)}  # the first of each fact
    for kind in summary.kinds:
        values = [
            max((row["delta_prob"] for row in rows if (row["fact"], row["kind"]) == (fact, kind.kind)), default=0.0)
            for fact in range(8)
        ]
        assert kind.mean_delta_prob == pytest.approx(sum(values) / 8)
        assert kind.strongest == sum(row["kind"] == kind.kind for row in best.values())
    assert {kind.kind for kind in summary.kinds} == {SiteKind(row["kind"]) for row in rows}
    listed = sorted(best.values(), key=lambda row: (not row["says_answer"], -row["delta_prob"], row["fact"]))
    assert [(one.number, str(one.unit)) for one in summary.strongest] == [(row["fact"], row["unit"]) for row in listed]
    assert [one.delta_prob for one in summary.strongest] == [row["delta_prob"] for row in listed]
    assert summary.strongest[0].prompt == told[summary.strongest[0].number].prompt


def test_a_fact_without_units_has_no_rows_and_is_still_finished(tmp_path: Path) -> None:
    fact, row = Fact("a", "b", id="\udcff"), UnitRank(Unit.neuron(0, 1), 1.0, 0.5, 0.2, 0.6)
    made = [FactRanks(n, fact, 0.5, 1, True, units) for n, units in [(4, ()), (2, (row, row)), (9, ()), (7, (row,))]]
    with (tmp_path / "part").open("wb") as file:
        groups = write_part(file, made)
    part = read_part(tmp_path / "part")
    assert part is not None
    assert part.groups == groups == {4: None, 2: 0, 9: None, 7: 1}
    assert table_of(tmp_path / "part")["id"].to_pylist() == ["\\udcff"] * 3


# --- going on -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(rank: Rank, target: Path, whole: bytes, share: float) -> None:
    with pytest.raises(Cancelled):
        rank(on_progress=stop_at(share))
    finished = parts_of(target)
    assert finished
    assert not target.exists()
    kept = {path: path.read_bytes() for path in finished}
    told: list[tuple[str, float]] = []
    summary = rank(on_progress=lambda doing, fraction: told.append((doing, fraction or 0.0)))
    assert target.read_bytes() == whole
    assert 0 < summary.measured < summary.units
    first = next(fraction for doing, fraction in told if doing.startswith("Ranking"))
    assert first == sum(len(part.facts) for path in kept if (part := _as_part(target, path, kept[path]))) / 8


def _as_part(target: Path, path: Path, content: bytes) -> Any:
    copy = target.with_name(path.name)
    copy.write_bytes(content)
    return read_part(copy)


def test_a_kill_while_a_part_is_written_leaves_no_half_file(
    rank: Rank, target: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    fsync = os.fsync

    def killed(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:  # the second part: the first and what was asked are a file and a folder each
            raise KeyboardInterrupt
        fsync(handle)

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        rank()
    monkeypatch.setattr(os, "fsync", fsync)
    (part,) = parts_of(target)
    assert read_part(part) is not None
    assert not list(part.parent.glob(".*.partial"))
    rank()
    assert target.read_bytes() == whole


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flipped(content: bytes) -> bytes:
    place = len(content) // 4
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


@pytest.mark.parametrize("damage", [_cut, _flipped, lambda content: b"", lambda content: b"no Parquet at all"])
def test_a_damaged_part_is_said_and_measured_again(
    rank: Rank, target: Path, whole: bytes, damage: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(Cancelled):
        rank(on_progress=stop_at(0.9))
    first, *others = parts_of(target)
    assert others
    first.write_bytes(damage(first.read_bytes()))
    summary = rank()
    assert summary.remarks == (f"The part {first.name!r} was damaged, and its facts were measured again.",)
    assert target.read_bytes() == whole


@pytest.mark.parametrize("damage", [_cut, _flipped, None])
def test_a_part_that_cannot_be_read_when_the_table_is_made_is_said_to_be_the_part(
    rank: Rank,
    target: Path,
    whole: bytes,
    damage: Callable[[bytes], bytes] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hurt = "part-000000.parquet"

    def damaged(parts: Sequence[Any]) -> Any:
        first = parts_of(target)[0]
        assert first.name == hurt
        if damage is None:
            first.unlink()
        else:
            first.write_bytes(damage(first.read_bytes()))
        return tables(parts)

    with monkeypatch.context() as patch:
        patch.setattr(ranking, "tables", damaged)
        with pytest.raises(SaveError, match=rf"^Cannot read '[^']*\.parts/{hurt}': [^\n]+[^.]\. Give") as refused:
            rank()
    assert refused.value.hint.startswith("Give the same command again")
    assert not target.exists()
    assert not list(target.parent.glob(".*.partial"))
    summary = rank()
    assert 0 < summary.measured < summary.units
    assert target.read_bytes() == whole


def test_parts_are_gone_on_with_whatever_memory_is_allowed(rank: Rank, target: Path, whole: bytes) -> None:
    with pytest.raises(Cancelled):
        rank(on_progress=stop_at(0.6))
    before = len(parts_of(target))
    assert before
    summary = rank(memory=1 << 19)
    assert summary.measured < summary.units
    target.with_name("whole").write_bytes(whole)
    rows, expected = table_of(target).to_pydict(), table_of(target.with_name("whole")).to_pydict()
    assert rows["unit"] == expected["unit"]
    assert rows["p_after"] == pytest.approx(expected["p_after"], abs=1e-5)


def test_parts_of_another_ranking_are_not_gone_on_with(
    rank: Rank, told: list[Fact], target: Path, lm: LanguageModel
) -> None:
    with pytest.raises(Cancelled):
        rank(on_progress=stop_at(0.6))
    kept = [path.read_bytes() for path in parts_of(target)]
    with pytest.raises(SaveError, match="of another ranking, which differs in --neurons") as refused:
        rank(neurons=5)
    assert refused.value.hint == "Give the command that began it, or --restart to begin anew."
    with pytest.raises(SaveError, match="which differs in the facts, --neurons"):
        rank(told[1:], neurons=5)
    weight = lm.model.get_parameter("model.norm.weight")
    with torch.no_grad():
        value = weight[3].clone()
        weight[3] = 0.0
    try:
        with pytest.raises(SaveError, match="which differs in the model's weights"):
            rank()
    finally:
        with torch.no_grad():
            weight[3] = value
    assert [path.read_bytes() for path in parts_of(target)] == kept


def test_other_dictionaries_are_another_ranking(
    rank: Rank, lm: LanguageModel, told: list[Fact], target: Path, sources: dict[SiteKind, Path]
) -> None:
    with pytest.raises(Cancelled):
        rank(on_progress=stop_at(0.6))
    fewer = load_library(lm, [(SiteKind.MLP_OUT, sources[SiteKind.MLP_OUT])])
    with pytest.raises(SaveError, match="which differs in the dictionaries"):
        rank_facts(lm, fewer, told, target, RankOptions(neurons=NEURONS))


def test_parts_from_another_kind_of_device_are_not_gone_on_with(rank: Rank, target: Path) -> None:
    with pytest.raises(Cancelled):
        rank(on_progress=stop_at(0.6))
    note = target.with_name(f"{target.name}.parts") / "asked.json"
    asked = json.loads(note.read_text())
    assert asked["device"] == "cpu"
    note.write_text(json.dumps(asked | {"device": "cuda"}))
    with pytest.raises(SaveError, match="of another ranking, which differs in --device"):
        rank()


def test_what_was_asked_cannot_be_read(rank: Rank, target: Path) -> None:
    with pytest.raises(Cancelled):
        rank(on_progress=stop_at(0.6))
    (target.with_name(f"{target.name}.parts") / "asked.json").write_text("{")
    with pytest.raises(SaveError, match="of another ranking, and what it was cannot be read"):
        rank()


def test_a_restart_begins_anew_and_leaves_what_is_not_its_own(rank: Rank, target: Path, whole: bytes) -> None:
    with pytest.raises(Cancelled):
        rank(neurons=5, on_progress=stop_at(0.6))
    folder = target.with_name(f"{target.name}.parts")
    (folder / "notes.txt").write_text("mine")
    summary = rank(restart=True)
    assert summary.measured == summary.units
    assert target.read_bytes() == whole
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_run_that_finished_nothing_binds_no_later_one(rank: Rank, target: Path) -> None:
    with pytest.raises(Cancelled):
        rank(neurons=5, on_progress=stop_at(0.0))
    assert not parts_of(target)
    assert rank().facts == 8


def test_two_runs_do_not_write_to_one_target(rank: Rank, target: Path) -> None:
    from filelock import FileLock

    folder = target.with_name(f"{target.name}.parts")
    folder.mkdir()
    with FileLock(folder / "lock"), pytest.raises(SaveError, match="Another process is writing to"):
        rank()
    assert rank().facts == 8


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_target_that_exists_is_refused(rank: Rank, target: Path) -> None:
    target.write_text("mine")
    with pytest.raises(SaveError, match=r"ranks.parquet' already exists\."):
        rank()
    assert target.read_text() == "mine"
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_that_does_not_exist_is_refused(rank: Rank, tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="There is no folder"):
        rank(path=tmp_path / "nowhere" / "ranks.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused(
    rank: Rank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(SaveError, match=r"Cannot write .*: Permission denied") as refused:
        rank()
    assert refused.value.hint == "Choose a folder that you can write to."
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken_by_a_file_where_the_parts_go(rank: Rank, target: Path) -> None:
    target.with_name(f"{target.name}.parts").write_text("mine")
    with pytest.raises(SaveError, match=r"Cannot write .*\.parts': File exists"):
        rank()


def test_a_full_disk_keeps_what_is_finished(
    rank: Rank, target: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def full(handle: int) -> None:
        if parts_of(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SaveError, match="No space left on device") as refused:
        rank()
    assert refused.value.hint == "Free some space or choose another folder."
    monkeypatch.setattr(os, "fsync", fsync)
    assert len(parts_of(target)) == 1
    rank()
    assert target.read_bytes() == whole


def test_facts_that_cannot_be_asked_are_left_out_by_name(rank: Rank, told: list[Fact], target: Path) -> None:
    broken = [Fact("word " * 200, "x", id="too long"), Fact("a\udcff", "b", id="no text")]
    summary = rank([broken[0], *told, broken[1]])
    assert [(one.number, one.fact.id) for one in summary.skipped] == [(0, "too long"), (9, "no text")]
    assert "tokens and the model's context holds 64" in summary.skipped[0].why
    assert summary.facts == 8
    assert set(table_of(target)["fact"].to_pylist()) == set(range(1, 9))
    header = json.loads(table_of(target).schema.metadata[b"knowscope"])
    assert [one["fact"] for one in header["skipped"]] == [0, 9]


def test_no_fact_that_can_be_asked_is_an_error(rank: Rank, target: Path) -> None:
    with pytest.raises(FactFileError, match="None of these facts can be asked of this model; the first because: "):
        rank([Fact("word " * 200, "x")])
    with pytest.raises(FactFileError, match="None of these facts"):
        rank([])
    assert list(target.parent.iterdir()) == []


def test_nothing_to_measure_is_an_error(lm: LanguageModel, told: list[Fact], target: Path) -> None:
    with pytest.raises(UsageError, match="There is nothing to measure"):
        rank_facts(lm, Library(), told, target, RankOptions(neurons=0))
    assert rank_facts(lm, Library(), told[:1], target, RankOptions(neurons=3)).units == 3


def test_progress_says_facts_speed_and_time_left(rank: Rank) -> None:
    told: list[tuple[str, float | None]] = []
    rank(on_progress=lambda doing, fraction: told.append((doing, fraction)))
    ranking_told = [(doing, fraction) for doing, fraction in told if doing.startswith("Ranking: ")]
    shares = [fraction or 0.0 for _doing, fraction in ranking_told]
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] == pytest.approx(1.0)
    last = ranking_told[-1][0]
    assert "of 8 facts" in last
    assert "units/s" in last
    assert last.endswith(" left")
    assert told[-1] == ("Writing the table", 7 / 8)


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (75, "75 s"), (600, "10 min"), (12_000, "3 h 20 min")])
def test_time_is_said_as_a_reader_says_it(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_the_parts_of_a_finished_ranking_are_only_joined(
    rank: Rank, target: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_rest: object) -> None:
        raise Cancelled

    with monkeypatch.context() as patch:
        patch.setattr(ranking, "write_whole", broken)
        with pytest.raises(Cancelled):
            rank()
    assert rank().measured == 0
    assert target.read_bytes() == whole
