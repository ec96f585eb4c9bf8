"""Runs that are killed, stopped, damaged or begun twice come to the same rows as one that nothing happened to."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from knowscope_tui.core.progress import silent
from knowscope_tui.core.studies import Findings, Row, StudyName, StudyOptions
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.errors import Cancelled, SaveError, UsageError
from knowscope_tui.studies import run as running
from knowscope_tui.studies.registry import available, study_named
from knowscope_tui.studies.run import Measured, run_study, serial
from knowscope_tui.studies.run_folder import configuration_of, open_run, read_run
from knowscope_tui.studies.run_folder.rows import read_rows, write_rows
from tests.studies import fake

ITEMS = 30
Run = Callable[..., Findings]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def run(out: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the fake study, a part an item."""
    monkeypatch.setattr(running, "SECONDS_A_PART", 0.0)

    def ran(folder: Path = out, asked: dict[str, Any] = fake.ASKED, restart: bool = False, **more: Any) -> Findings:
        with open_run(folder, asked, {"command": "again"}, restart=restart) as opened:
            return run_study(fake.STUDY, fake.subject(ITEMS, opened.cache), opened, **more)

    return ran


@pytest.fixture
def whole(run: Run, tmp_path: Path) -> bytes:
    """The rows of a run that nothing stopped."""
    run(tmp_path / "uninterrupted")
    return (tmp_path / "uninterrupted" / "rows.parquet").read_bytes()


def stop_after(items: int) -> Callable[[str, float | None], None]:
    def tell(doing: str, fraction: float | None) -> None:
        if (fraction or 0.0) * ITEMS >= items:
            raise Cancelled

    return tell


def parts(out: Path) -> list[Path]:
    return sorted((out / "parts").glob("part-*.parquet"))


# --- the rows -------------------------------------------------------------------------------------------------------


def test_the_rows_are_those_that_were_measured_in_the_order_of_the_keys(run: Run, out: Path) -> None:
    found = run()
    keys = fake.STUDY.keys(fake.subject(ITEMS))
    expected: list[Row] = [{"key": key, **row} for key in keys for row in fake.rows_of(key.partition(":")[2])]
    assert read_run(out).rows(keys) == expected
    assert found == fake.findings(expected)
    assert not parts(out)
    config = json.loads((out / "config.json").read_text())
    assert config["asked"] == fake.ASKED
    assert config["made_with"]["command"] == "again"
    assert config["made_with"]["measured"]["items"] == ITEMS


def test_a_finished_run_is_not_measured_again(run: Run) -> None:
    first = run()

    def refuse(*_asked: object) -> None:
        raise AssertionError("measured again")

    assert run(loop=refuse) == first


def test_values_and_kinds_survive_and_others_are_refused(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"key": "a", "x": 1, "y": 0.1, "z": "\udcff", "b": True, "none": None},
        {"key": "a", "x": 2.5, "y": None, "z": "é", "b": False, "none": None},
    ]
    with (tmp_path / "rows").open("wb") as file:
        write_rows(file, {"empty": [], "a": rows}, {})
    found = read_rows(tmp_path / "rows", {})
    assert found is not None
    assert list(found) == ["empty", "a"]
    assert found["a"] == [{**rows[0], "x": 1.0, "z": "\\udcff"}, rows[1]]
    with (tmp_path / "other").open("wb") as file:
        with pytest.raises(ValueError, match="has the keys"):
            write_rows(file, {"a": [{"key": "a"}, {"key": "a", "x": 1}]}, {})
        with pytest.raises(ValueError, match="'x' are of kinds"):
            write_rows(file, {"a": [{"key": "a", "x": 1}, {"key": "a", "x": "one"}]}, {})


def test_a_key_that_no_utf8_holds_is_still_found_again(out: Path) -> None:
    measured: list[str] = []

    def loop(study: Any, subject: Any, keys: Sequence[str], on_progress: Any) -> Generator[Measured, None, None]:
        measured.extend(keys)
        yield from serial(study, subject, keys, on_progress)

    for _ in range(2):
        with open_run(out, fake.ASKED) as opened:
            run_study(fake.STUDY, fake.subject(3, opened.cache, ids=["\udcff"]), opened, loop=loop)
    assert measured == ["0:\udcff", "1:f1", "2:f2"]


def test_findings_grow_with_the_rows(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "SECONDS_BETWEEN_FINDINGS", 0.0)
    monkeypatch.setattr(running, "SHARE_OF_FINDINGS", 1e9)
    heard: list[Findings] = []
    last = run(on_findings=heard.append)
    facts = [int(str(findings.tables[0].rows[0][2])) for findings in heard]
    assert facts == sorted(facts)
    assert len(set(facts)) > ITEMS / 2
    assert heard[-1] == last


def test_progress_rises_to_the_end_and_says_how_long(run: Run) -> None:
    told: list[tuple[str, float]] = []
    run(on_progress=lambda doing, fraction: told.append((doing, fraction or 0.0)))
    shares = [share for _doing, share in told]
    assert shares == sorted(shares)
    assert told[0] == (f"components: 0 of {ITEMS} · preparing", 0.0)
    assert told[-1] == (f"components: {ITEMS} of {ITEMS} · 0 s left", 1.0)


def test_nothing_to_measure_is_said(out: Path) -> None:
    with open_run(out, fake.ASKED) as opened, pytest.raises(UsageError, match="nothing to measure for the study"):
        run_study(fake.STUDY, fake.subject(0), opened)


# --- going on -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", [1, 13, 29])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(run: Run, out: Path, whole: bytes, items: int) -> None:
    with pytest.raises(Cancelled):
        run(on_progress=stop_after(items))
    assert len(parts(out)) == items
    assert not (out / "rows.parquet").exists()
    run()
    assert (out / "rows.parquet").read_bytes() == whole
    assert json.loads((out / "config.json").read_text())["made_with"]["measured"]["items"] == ITEMS


def test_items_that_came_fast_are_kept_when_it_is_stopped(run: Run, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "SECONDS_A_PART", 60.0)
    with pytest.raises(Cancelled):
        run(on_progress=stop_after(7))
    (part,) = parts(out)
    items = read_rows(part, fake.ASKED)
    assert items is not None
    assert len(items) == 7


def test_a_process_killed_at_random_again_and_again_ends_with_the_same_rows(out: Path, whole: bytes) -> None:
    draw = random.Random(7)
    kept: list[int] = []
    words = [sys.executable, "-m", "tests.studies.fake", str(out)]
    for _ in range(3):
        with subprocess.Popen([*words, "0.2", str(ITEMS)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            time.sleep(draw.uniform(1.0, 2.5))
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        kept.append(len(parts(out)))
    assert kept == sorted(kept)
    assert kept[-1] > 0
    (out / "parts" / ".part-000029.parquet.partial").write_bytes(b"PAR1")
    subprocess.run([*words, "0", str(ITEMS)], check=True, capture_output=True)
    assert not (out / "parts").exists()
    assert (out / "rows.parquet").read_bytes() == whole


def test_a_kill_between_the_table_and_the_removal_of_parts_loses_nothing(
    run: Run, out: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        if path.name.startswith("part-00000"):
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr(Path, "unlink", unlink)
    assert len(parts(out)) == ITEMS
    run()
    assert (out / "rows.parquet").read_bytes() == whole
    assert not parts(out)


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flipped(content: bytes) -> bytes:
    return content[:40] + bytes([content[40] ^ 0xFF]) + content[41:]


@pytest.mark.parametrize("damage", [_cut, _flipped, lambda content: b"", lambda content: b"no Parquet at all"])
def test_a_damaged_part_is_set_aside_and_measured_again(
    run: Run, out: Path, whole: bytes, damage: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(Cancelled):
        run(on_progress=stop_after(9))
    hurt = parts(out)[3]
    content = damage(hurt.read_bytes())
    hurt.write_bytes(content)
    with open_run(out, fake.ASKED) as opened:
        assert len(opened.items) == 8
        assert opened.remarks == (
            "The file 'part-000003.parquet' was damaged; it was set aside as 'damaged/part-000003.parquet', and what "
            "it held was measured again.",
        )
    assert (out / "damaged" / hurt.name).read_bytes() == content
    run()
    assert (out / "rows.parquet").read_bytes() == whole


def test_damaged_rows_of_a_finished_run_are_measured_again(run: Run, out: Path, whole: bytes) -> None:
    run()
    (out / "rows.parquet").write_bytes(_cut(whole))
    with pytest.raises(SaveError, match=r"^Cannot read '.*rows\.parquet': it is damaged, or another run's\."):
        read_run(out)
    run()
    assert (out / "rows.parquet").read_bytes() == whole


# --- what is refused ------------------------------------------------------------------------------------------------


def test_two_writers_are_one_too_many(out: Path) -> None:
    with (
        open_run(out, fake.ASKED),
        pytest.raises(SaveError, match=r"^Another process is writing to .*run'\."),
        open_run(out, fake.ASKED),
    ):
        pass
    with open_run(out, fake.ASKED):
        pass


def test_another_configuration_is_refused_by_name_and_touches_nothing(run: Run, out: Path) -> None:
    with pytest.raises(Cancelled):
        run(on_progress=stop_after(9))
    kept = [path.read_bytes() for path in parts(out)]
    with pytest.raises(SaveError, match=r"of another configuration, which differs in --limit, --seed\.") as refused:
        run(asked=fake.ASKED | {"limit": 3, "seed": 1})
    assert refused.value.hint.startswith("Give the command that began it")
    assert [path.read_bytes() for path in parts(out)] == kept
    other = out.with_name("other")
    run(folder=other, asked=fake.ASKED | {"seed": 1})
    run()
    (out / "rows.parquet").write_bytes((other / "rows.parquet").read_bytes())
    with pytest.raises(SaveError, match="another run's"):
        read_run(out)
    run()
    assert (out / "damaged" / "rows.parquet").exists()
    assert len(read_run(out).items) == ITEMS
    run(asked=fake.ASKED | {"seed": 1}, restart=True)
    assert json.loads((out / "config.json").read_text())["asked"]["seed"] == 1


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "gemma2"}', ""])
@pytest.mark.parametrize("restart", [False, True])
def test_a_configuration_that_is_none_is_said_and_kept(run: Run, out: Path, content: str, restart: bool) -> None:
    out.mkdir()
    (out / "config.json").write_text(content)
    with pytest.raises(SaveError, match=r"config\.json' cannot be read as the configuration of a study's run\."):
        run(restart=restart)
    assert (out / "config.json").read_text() == content


def test_a_folder_of_other_things_is_left_alone(run: Run, out: Path) -> None:
    out.mkdir()
    (out / "letters.txt").write_text("mine")
    with pytest.raises(SaveError, match="is not empty, and holds no run of a study"):
        run()
    (out / "letters.txt").unlink()
    run()


def test_a_place_that_cannot_be_written_is_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="Cannot write"):
        run(tmp_path / "file" / "below")
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        try:
            with pytest.raises(SaveError, match="Permission denied"):
                run(tmp_path / "new")
        finally:
            tmp_path.chmod(0o700)


def test_a_run_that_is_not_there_or_not_finished_is_said(run: Run, out: Path, tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="There is no run of a study in"):
        read_run(tmp_path)
    with pytest.raises(Cancelled):
        run(on_progress=stop_after(3))
    with pytest.raises(SaveError, match="is not finished"):
        read_run(out)


# --- the configuration and the registry -----------------------------------------------------------------------------


def test_the_configuration_differs_with_all_that_rows_depend_on(lm: LanguageModel, library: Library) -> None:
    base = fake.subject(3, lm=lm, library=library, texts=("a",))
    first = configuration_of(StudyName.LADDER, base)
    assert first == json.loads(json.dumps(configuration_of(StudyName.LADDER, base)))
    for key, other in {
        "facts": replace(base, facts=base.facts[:2]),
        "texts": replace(base, texts=("b",)),
        "seed": replace(base, options=StudyOptions(seed=1)),
        "layers": replace(base, options=StudyOptions(layers=(0, 1))),
        "dictionaries": replace(base, library=Library()),
    }.items():
        found = configuration_of(StudyName.LADDER, other)
        assert {name for name in first if found[name] != first[name]} == {key}
    assert configuration_of(StudyName.WIDTHS, base)["study"] == "widths"


def test_every_study_that_is_there_can_be_named() -> None:
    for name in available():
        assert study_named(name).name is name
    for name in set(StudyName) - set(available()):
        with pytest.raises(UsageError, match="is not part of this program"):
            study_named(name)


def test_a_serial_loop_measures_what_it_is_asked_in_order() -> None:
    subject = fake.subject(5)
    keys = fake.STUDY.keys(subject)[1:4]
    assert list(serial(fake.STUDY, subject, keys, silent)) == [
        (key, fake.rows_of(key.partition(":")[2])) for key in keys
    ]
