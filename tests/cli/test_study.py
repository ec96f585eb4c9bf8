"""`study`: what it asks of the session, what it shows, and what it refuses before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.studies import (
    Cluster,
    Estimate,
    Findings,
    PaperClaim,
    StudyName,
    StudyOptions,
    StudyReport,
    StudyResult,
    Verdict,
)
from knowscope_tui.core.units import SiteKind
from knowscope_tui.errors import Cancelled
from tests.cli.conftest import Run, strict_json
from tests.cli.stand_in import StandInScope

CLAIMS = (
    PaperClaim("Features carry more.", ".85 and .45", Estimate(0.4, 0.3, 0.5, 20), 0.0, Verdict.HOLDS),
    PaperClaim("\x1b[31mMore", "–", Estimate(float("nan")), 1.3, Verdict.UNDECIDED),
)
RESULT = StudyResult(
    StudyName.COMPONENTS, "Components", "Which units carry a fact?", Findings(claims=CLAIMS, remarks=("A remark.",)),
    "out", 20, {}, {"command": "knowscope-tui study components --out out"}, ("Damaged.",),
)  # fmt: skip


@pytest.fixture
def studying(stand_in: StandInScope, monkeypatch: pytest.MonkeyPatch) -> StandInScope:
    """A scope that studies without a model."""

    def study(self: StandInScope, names: Sequence[StudyName], out: Path, facts: Any, **asked: Any) -> StudyReport:
        self.asked = asked | {"names": names, "out": out, "facts": facts}
        left = tuple((name, "No dictionary is open.") for name in names if name is StudyName.WIDTHS)
        return StudyReport((RESULT,), "out/report.html", left)

    monkeypatch.setattr(StandInScope, "study", study, raising=False)
    return stand_in


def test_a_study_is_asked_and_shown(run: Run, studying: StandInScope) -> None:
    result = run("study", "components", "--out", "out", "--limit", "7", "--seed", "2", "--layers", "1-3")
    assert result.exit_code == 0, result.stderr
    assert studying.asked["names"] == (StudyName.COMPONENTS,)
    assert studying.asked["options"] == StudyOptions(7, 2, (1, 2, 3))
    assert studying.asked["cluster"] is None
    assert studying.source.choice.layers is None  # The demo has no release to choose layers of.
    shown = " ".join(result.stdout.split())
    for word in (
        "✓ holds",
        "Features carry more.",
        ".85 and .45",
        "0.4 0.3 to 0.5",
        "(above 1.3)",
        "? undecided",
        "A remark.",
        "Damaged.",
        "Wrote out/report.html",
    ):
        assert word in shown
    assert "\x1b[31m" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_json_is_strict_and_says_the_same(run: Run, studying: StandInScope) -> None:
    told = strict_json(run("study", "components", "--out", "out", "--json").stdout)
    (study,) = told["studies"]
    assert study["claims"][0]["ours"] == {"value": 0.4, "low": 0.3, "high": 0.5, "items": 20}
    assert study["claims"][1]["ours"]["value"] is None
    assert study["remarks"] == ["A remark.", "Damaged."]
    assert told["page"] == "out/report.html"


def test_all_is_every_study_and_one_left_out_fails(run: Run, studying: StandInScope) -> None:
    result = run("study", "all", "--out", "out", "--limit", "all")
    assert studying.asked["names"] == tuple(StudyName)
    assert studying.asked["options"].limit is None
    assert result.exit_code == 1
    assert "Left out: widths. No dictionary is open." in result.stdout


def test_layers_choose_dictionaries_of_a_release_too(run: Run, studying: StandInScope) -> None:
    for words, layers in [(("google/gemma-2-2b",), (4, 4)), (("m", "--sae", "resid_post=folder"), None)]:
        run("study", "ladder", "--out", "out", "--layers", "4", "--model", *words)
        assert studying.source.choice.layers == layers
        assert studying.asked["options"].layers == (4,)


def test_a_cluster_is_handed_on(run: Run, studying: StandInScope) -> None:
    run("study", "ladder", "--out", "out", "--ray", "local", "--workers", "2", "--gpu-share", "0.25")
    assert studying.asked["cluster"] == Cluster("local", 0.25, 2)


def test_stopped_it_says_what_is_kept(run: Run, studying: StandInScope, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_asked: object, **_more: object) -> None:
        raise Cancelled

    monkeypatch.setattr(StandInScope, "study", stopped)
    result = run("study", "ladder", "--out", "out")
    assert (result.exit_code, result.stdout) == (130, "")
    assert "what is finished is kept, and the same command goes on from there" in result.stderr


def test_what_is_refused_before_anything_is_loaded(run: Run, fact_file: Any, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    for words, code, says in [
        (("paper", "--out", "out"), 2, "There is no study called 'paper'. Choose among components, ladder"),
        (("ladder", "--out", "out", "--ray", "nowhere"), 2, "'nowhere' is no address of a Ray cluster."),
        (("ladder", "--out", "out", "--ray", "127.0.0.1:1"), 1, "There is no Ray cluster at '127.0.0.1:1'"),
        (("ladder", "--out", "out", "--gpu-share", "2"), 2, "'2' is no share above 0 and up to 1"),
        (("ladder",), 2, "Missing option '--out'."),
        (("ladder", "--out", "out", "--limit", "0"), 2, "'0' is no number above 0, and not the word all."),
        (("ladder", "--out", "out", "--layers", "3-1"), 2, "is no range of layers"),
        (("ladder", "--out", "out", "--facts", str(tmp_path / "none")), 1, "Cannot read the fact file"),
        (("ladder", "--out", "out", "--facts", str(empty)), 1, "There is no fact in"),
        (("show", "--out", str(tmp_path)), 1, "There is no run of a study in"),
    ]:
        result = run("study", *words)
        assert (result.exit_code, result.stdout) == (code, ""), result.stderr
        assert says in " ".join(result.stderr.split())


def test_the_whole_way(
    run: Run, facts: list[Fact], fact_file: Any, tiny_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from knowscope_tui.session import studying as session
    from tests.studies import fake

    monkeypatch.setattr(session, "study_named", lambda name: fake.study(name=name))
    out, file = tmp_path / "out", fact_file(facts[:8])
    words = ("study", "components", "--out", str(out), "--facts", file, "--limit", "7", *tiny_words)
    result = run(*words, "--json")
    assert result.exit_code == 0, result.stderr
    told = strict_json(result.stdout)
    assert (told["studies"][0]["items"], told["page"]) == (7, str(out / "report.html"))
    assert str(tiny_words[1]) in told["studies"][0]["command"]
    assert strict_json(run("study", "show", "--out", str(out), "--json").stdout) == told
    refused = run(*words, "--seed", "1")
    assert (refused.exit_code, "which differs in --seed" in refused.stderr) == (1, True)
    assert SiteKind.RESID_POST.value in (out / "report.html").read_text()


def test_options_that_would_do_nothing_are_refused(run: Run, studying: StandInScope) -> None:
    alone = run("study", "ladder", "--out", "out", "--workers", "2")
    assert (alone.exit_code, "--workers belongs to --ray" in alone.stderr) == (2, True)
    words = ("--llm-url", "http://localhost:1", "--llm-model", "x")
    endpoint = run("study", "ladder", "--out", "out", *words)
    assert (endpoint.exit_code, "Only the study interpretability asks" in endpoint.stderr) == (2, True)


@pytest.mark.usefixtures("unopened")
def test_a_place_that_cannot_be_is_said_before_anything_is_opened(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").write_text("mine")
    for name, says in (("file", "Not a directory"), ("full", "is not empty")):
        refused = run("study", "ladder", "--out", str(tmp_path / name))
        assert (refused.exit_code, says in refused.stderr) == (1, True)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["letter"]
