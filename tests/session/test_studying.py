"""Studies on an open model: which facts, which folders, and pages that say what the rows say and need nothing else."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from knowscope_tui.cli.main import main
from knowscope_tui.cli.options import Shared
from knowscope_tui.core.dictionaries import Choice, DictionarySource
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.studies import Estimate, Findings, StudyName, StudyOptions, StudyReport, Verdict
from knowscope_tui.core.units import SiteKind
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.errors import Cancelled, FactFileError, SaveError, UsageError
from knowscope_tui.session import studying
from knowscope_tui.session.known import draw_known
from knowscope_tui.session.pages.numbers import NONE
from knowscope_tui.session.protocol import SourceSpec
from knowscope_tui.session.study_command import study_command
from knowscope_tui.session.study_pages.cells import cell
from knowscope_tui.session.study_pages.drawing import drawn
from knowscope_tui.session.studying import StudyWishes, show, study
from knowscope_tui.studies.run_folder import read_run
from tests.session.pages import check_alone
from tests.studies import fake

HOSTILE = "<script>alert(1)</script>|&$x$"
TWO = (StudyName.COMPONENTS, StudyName.LADDER)
Studied = Callable[..., StudyReport]


@pytest.fixture
def told(facts: list[Fact]) -> list[Fact]:
    """Ten facts that the tiny model knows, two that it does not, one that it cannot be asked; a name means harm."""
    known = [replace(facts[0], id=HOSTILE), *facts[1:10]]
    return [*known, Fact("x", "quite wrong"), Fact("y", "wrong too"), Fact("word " * 200, "z")]


@pytest.fixture
def studied(lm: LanguageModel, library: Library, told: list[Fact], tmp_path: Path, monkeypatch: Any) -> Studied:
    monkeypatch.setattr(studying, "study_named", lambda name: fake.study(name=name))

    def run(names: Sequence[StudyName] = TWO[:1], facts: list[Fact] = told, **wishes: Any) -> StudyReport:
        command = wishes.pop("command", lambda word, folder: f"knowscope-tui study {word} --out {folder.name}")
        options, out = StudyOptions(**wishes.pop("options", {})), tmp_path / wishes.pop("out", "out")
        return study(lm, library, names, facts, out, StudyWishes(options, command=command, **wishes))

    return run


# --- files ----------------------------------------------------------------------------------------------------------


def test_the_files_say_what_the_rows_say(studied: Studied, told: list[Fact]) -> None:
    report = studied()
    (result,) = report.results
    folder = Path(result.folder)
    run = read_run(folder)
    rows = [row for own in run.items.values() for row in own]
    assert result.findings == fake.findings(rows)
    assert {row["fact"] for row in rows} <= {fact.id for fact in told[:10]}
    assert result.items == 10

    mean = result.findings.tables[0].rows[0][1]
    assert isinstance(mean, Estimate)
    (head, first, _second) = csv.reader((folder / "tables" / "means.csv").open())
    assert head == ["kind", "ΔProb", "ΔProb_low", "ΔProb_high", "ΔProb_items", "facts"]
    assert [float(value) for value in first[1:4]] == [mean.value, mean.low, mean.high]
    found = json.loads((folder / "findings.json").read_text())
    assert found["tables"][0]["rows"][0][1]["value"] == mean.value
    assert found["claims"][0]["verdict"] == result.findings.claims[0].verdict.value == Verdict.HOLDS.value
    for page in (Path(report.page).read_text(), (folder / "REPORT.md").read_text()):
        assert cell(mean) in page
        assert result.asked["weights"] in page
        assert "knowscope-tui study components --out out" in page
        assert ".85 and .45" in page
        assert "Of 13 facts looked at, left out: 2 facts that the model does not know and 1 fact that it cannot be "\
            "asked" in page  # fmt: skip
    assert (folder / "plots" / "bars.png").read_bytes().startswith(b"\x89PNG")
    assert ET.parse(folder / "plots" / "bars.svg").getroot().tag.endswith("svg")


def test_the_page_needs_nothing_else_and_names_that_mean_harm_are_text(studied: Studied) -> None:
    report = studied(TWO)
    for page in (Path(report.page), *(Path(result.folder) / "report.html" for result in report.results)):
        html = page.read_text()
        assert {"table", "svg", "title", "desc"} <= check_alone(html)
        assert "<script" not in html
        assert "&lt;script&gt;alert(1)" in html
        assert "&lt;kind&gt;" in html
    markdown = (Path(report.page).parent / "REPORT.md").read_text()
    assert "\\<script\\>" in markdown
    assert "(components/plots/bars.svg)" in markdown
    assert (Path(report.page).parent / "components/plots/bars.svg").is_file()


def test_the_same_plot_is_the_same_bytes_and_every_value_is_told(studied: Studied) -> None:
    (result,) = studied().results
    for plot in result.findings.plots:
        assert drawn(plot) == drawn(plot)
        assert all(series.name in drawn(plot)[0] for series in plot.series)


def test_what_was_not_measured_is_a_dash() -> None:
    empty = fake.findings([])
    assert cell(empty.tables[0].rows[0][1]) == cell(float("nan")) == cell(None) == NONE
    assert empty.claims[0].verdict is Verdict.UNDECIDED
    for plot in empty.plots:
        drawn(plot)


# --- again ----------------------------------------------------------------------------------------------------------


def test_a_finished_run_is_shown_again_without_measuring(studied: Studied, monkeypatch: pytest.MonkeyPatch) -> None:
    first = studied(TWO)
    page = Path(first.page).read_text()

    def refuse(*_asked: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(fake, "prepare", refuse)
    assert studied(TWO) == first
    Path(first.page).unlink()
    assert show(Path(first.page).parent) == first
    assert Path(first.page).read_text() == page
    (result,) = show(Path(first.results[1].folder)).results
    assert result == first.results[1]
    with pytest.raises(SaveError, match="There is no run of a study"):
        show(Path(first.page).parent / "tables")
    (Path(first.results[1].folder) / "rows.parquet").unlink()
    part = show(Path(first.page).parent)
    assert part.results == first.results[:1]
    ((name, why),) = part.left_out
    assert (name, "is not finished" in why) == (TWO[1], True)
    (Path(first.results[0].folder) / "rows.parquet").unlink()
    with pytest.raises(SaveError, match=r"No run in .* is finished"):
        show(Path(first.page).parent)


def test_stopped_between_items_it_goes_on(studied: Studied, tmp_path: Path) -> None:
    def stop(doing: str, fraction: float | None) -> None:
        if doing.startswith("ladder: 4"):
            raise Cancelled

    with pytest.raises(Cancelled):
        studied(TWO, on_progress=stop)
    assert read_run(tmp_path / "out" / "components").items
    measured: list[str] = []
    report = studied(TWO, on_progress=lambda doing, _fraction: measured.append(doing.partition(" ·")[0]))
    assert [result.name for result in report.results] == [*TWO]
    assert "components: 0 of 10" not in measured
    assert "ladder: 3 of 10" not in measured


def test_findings_are_heard_with_their_study(studied: Studied) -> None:
    heard: list[tuple[StudyName, Findings]] = []
    report = studied(TWO, on_growing=lambda name, found: heard.append((name, found)))
    assert dict(heard) == {result.name: result.findings for result in report.results}


# --- what is left out, and what is refused --------------------------------------------------------------------------


def test_of_several_studies_one_that_cannot_be_carried_out_is_left_out_and_said(
    studied: Studied, monkeypatch: pytest.MonkeyPatch
) -> None:
    def named(name: StudyName) -> Any:
        def keys(_subject: object) -> list[str]:
            raise UsageError("No dictionary is open.", "Open some.")

        return replace(fake.study(name=name), keys=keys) if name is StudyName.LADDER else fake.study(name=name)

    monkeypatch.setattr(studying, "study_named", named)
    report = studied(TWO)
    assert [result.name for result in report.results] == [StudyName.COMPONENTS]
    assert report.left_out == ((StudyName.LADDER, "No dictionary is open. Open some."),)
    assert "No dictionary is open." in Path(report.page).read_text()
    with pytest.raises(UsageError, match="No dictionary is open"):
        studied(TWO[1:], out="alone")
    with pytest.raises(UsageError, match=r"None of these studies .* ladder: No dictionary is open\. Open some\."):
        studied(TWO[1:] * 2, out="none")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layers": (0, 7)}, "There is no layer 7. This model has layers 0 to"),
        ({"llm_url": "http://x"}, "--llm-url and --llm-model belong together"),
    ],
)
def test_options_that_mean_nothing_are_said(studied: Studied, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        studied(options=options)


def test_no_fact_and_no_known_fact_are_said(studied: Studied, told: list[Fact], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There are no facts to study"):
        studied(facts=[])
    with pytest.raises(FactFileError, match="Of 3 facts the model knows none"):
        studied(facts=told[10:])
    assert not (tmp_path / "out").exists()


def test_another_limit_is_another_run(studied: Studied) -> None:
    studied(options={"limit": 4})
    with pytest.raises(SaveError, match=r"which differs in --limit, the facts\."):
        studied(options={"limit": 5})


# --- the facts ------------------------------------------------------------------------------------------------------


def test_the_draw_is_seeded_known_and_in_the_order_of_the_set(lm: LanguageModel, told: list[Fact]) -> None:
    every = draw_known(lm, told, None, 0)
    assert (every.facts, every.asked, every.refused) == (tuple(told[:10]), 13, 1)
    drawn_by = {seed: draw_known(lm, told, 4, seed).facts for seed in range(6)}
    assert all(len(own) == 4 and set(own) <= set(told[:10]) for own in drawn_by.values())
    assert all(list(own) == sorted(own, key=told.index) for own in drawn_by.values())
    assert len(set(drawn_by.values())) > 1
    assert draw_known(lm, told, 4, 3).facts == drawn_by[3]
    assert set(drawn_by[3]) < set(draw_known(lm, told, 7, 3).facts)


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "options"),
    [
        (SourceSpec(), StudyOptions(limit=7, seed=3, layers=(1, 2, 3))),
        (
            SourceSpec(
                "google/gemma-2-2b",
                (DictionarySource(release="gemma-scope-2b-pt-res"), DictionarySource("a folder", SiteKind.MLP_OUT)),
                Choice(16384, 71.5),
                device="cpu",
                dtype="bfloat16",
                sae_dtype="float32",
                chat=True,
            ),
            StudyOptions(llm_url="http://127.0.0.1:8000/v1", llm_model="some model"),
        ),
        (SourceSpec("model", ()), StudyOptions()),
    ],
)
def test_the_command_asks_the_same_again(
    source: SourceSpec, options: StudyOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import shlex

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    asked: dict[str, Any] = {}

    class Heard:
        def study(self, names: object, out: Path, facts: object, **more: Any) -> None:
            asked.update(more, names=names, out=out)
            raise Cancelled

    def opened(shared: Shared, _tell: object) -> Heard:
        asked["source"] = shared.source()
        return Heard()

    monkeypatch.setattr(Shared, "open", opened)
    words = shlex.split(study_command("interpretability", source, options, None, "some/out"))
    assert words[0] == "knowscope-tui"
    with pytest.raises(SystemExit):
        main.main(words[1:])
    layers = None if options.layers is None or source.model is None else (options.layers[0], options.layers[-1])
    assert asked["source"] == replace(source, choice=replace(source.choice, layers=layers))
    assert (asked["options"], asked["names"]) == (options, (StudyName.INTERPRETABILITY,))


def test_a_password_in_an_address_is_in_no_command() -> None:
    options = StudyOptions(llm_url="https://me:secret@host:1/v1?x=1", llm_model="m")
    assert "secret" not in study_command("all", SourceSpec(), options, None, "out")


def test_a_finished_run_is_begun_anew_where_it_lies(studied: Studied) -> None:
    (first,) = studied().results
    (again,) = studied(options={"limit": 6}, restart=True).results
    assert (again.folder, again.items) == (first.folder, 6)
    assert Path(again.folder, "report.html").exists()


def test_a_fact_that_is_there_twice_counts_once(lm: LanguageModel, facts: list[Fact]) -> None:
    assert draw_known(lm, [*facts[:3], facts[1]], None, 0).facts == tuple(facts[:3])


def test_several_studies_do_not_go_into_the_folder_of_one(studied: Studied) -> None:
    folder = Path(studied().results[0].folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert folder / "rows.parquet" in before
    with pytest.raises(SaveError, match="holds the run of one study"):
        studied(TWO)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_configuration_that_names_no_study_is_said(studied: Studied) -> None:
    folder = Path(studied().results[0].folder)
    config = folder / "config.json"
    content = json.loads(config.read_text())
    for part, key, value in (("asked", "study", "nosuch"), ("asked", "study", ["x"]), ("made_with", "remarks", 3)):
        config.write_text(json.dumps(content | {part: content[part] | {key: value}}))
        with pytest.raises(SaveError, match="cannot be read as the configuration"):
            show(folder)
