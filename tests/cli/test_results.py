"""What the verbs ask of the session, and what they write."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from knowscope_tui.cli.render_set import show_set
from knowscope_tui.core.edits import Method
from knowscope_tui.core.readings import Mode, NeuronAttribution, Positions, Rank, UnitSet
from knowscope_tui.core.units import Family, SiteKind, Unit
from tests.cli.conftest import Run, strict_json
from tests.cli.stand_in import FACT, StandInScope

PROMPT = "The capital of France is"


def test_probe_as_json(run: Run, stand_in: StandInScope) -> None:
    result = run("probe", PROMPT, "--answer", "Paris", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    reading = strict_json(result.stdout)
    assert {"prompt", "answer", "tokens", "p_answer", "rank", "top_tokens", "units"} <= set(reading)
    assert reading["top_tokens"][0] == {"token": " Paris", "p": 0.98}
    first, second = reading["units"]
    assert first["unit"] == "3.resid_post.f17"
    assert {"position", "activation", "attribution", "delta_prob"} <= set(first)
    assert second["delta_prob"] is None


def test_probe_passes_its_options_on(run: Run, stand_in: StandInScope) -> None:
    words = "--top 5 --kinds neurons --rank delta-prob --position 2 --exact 9 --neuron-attribution integrated --tau1 .3"
    assert run("probe", PROMPT, *words.split()).exit_code == 0
    asked = stand_in.asked
    assert (asked["top"], asked["exact"], asked["position"], asked["tau1"]) == (5, 9, 2, 0.3)
    assert asked["families"] == (Family.NEURON,)
    assert asked["rank"] is Rank.DELTA_PROB
    assert asked["neuron_attribution"] is NeuronAttribution.INTEGRATED


def test_without_options_everything_is_ranked_by_its_exact_effect(run: Run, stand_in: StandInScope) -> None:
    run("probe", PROMPT, "--top", "7")
    asked = stand_in.asked
    assert (asked["rank"], asked["exact"], asked["neuron_seconds"], asked["top"]) == (Rank.DELTA_PROB, None, 10.0, 7)
    assert list(asked["beside"]) == []


def test_probe_beside_units_says_what_is_off(run: Run, stand_in: StandInScope) -> None:
    result = run("probe", PROMPT, "--beside", "3.resid_post.f17", "--beside", "3.resid_post.f17")
    assert list(stand_in.asked["beside"]) == [Unit.feature(3, SiteKind.RESID_POST, 17)]
    assert "ΔProb with 3.resid_post.f17 off, which leaves P 0.120" in result.stdout


def test_beside_units_without_measuring_is_refused_before_anything_is_loaded(run: Run, stand_in: StandInScope) -> None:
    result = run("probe", PROMPT, "--beside", "3.resid_post.f17", "--exact", "0")
    assert (result.exit_code, result.stdout, stand_in.asked) == (2, "", {})
    assert result.stderr.startswith("--beside shows measured effects, and --exact 0 measures none.")
    assert "Leave out --exact, or give it a number." in result.stderr
    assert run("probe", PROMPT, "--beside", "3.resid_post.f17", "--exact", "1").exit_code == 0


def test_greedy_for_a_person(run: Run, stand_in: StandInScope) -> None:
    result = run("greedy", PROMPT, "--below", "5%", "--most", "4", "--kinds", "features,neurons")
    assert stand_in.asked["below"] == 0.05
    assert (stand_in.asked["most"], stand_in.asked["families"]) == (4, (Family.FEATURE, Family.NEURON))
    assert "1 unit brings P(Paris) from 0.980 to 0.010." in result.stdout
    assert "--unit 2.mlp_act.n345" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--most", "2"], "not below 0.001: --most 2 is reached. Raise it to go on."),
        ([], "not below 0.001: none of the units tried next lowers it further. Try --kinds features,neurons."),
        (["--kinds", "neurons,features"], "not below 0.001: none of the units tried next lowers it further."),
    ],
)
def test_greedy_that_does_not_reach_its_target_says_why_and_what_to_do(
    run: Run, stand_in: StandInScope, words: list[str], says: str
) -> None:
    said = " ".join(run("greedy", PROMPT, "--below", "0.001", *words).stdout.split())
    assert f"{says} --unit" in said
    assert "which is not below 0.001" in said


def _verdict(found: UnitSet, families: tuple[Family, ...] = (Family.FEATURE,)) -> str:
    console = Console(width=80, record=True, file=StringIO())
    show_set(console, found, 20, families)
    return " ".join(console.export_text().split())


def test_a_set_without_units_says_whether_any_was_needed() -> None:
    empty = UnitSet(PROMPT, "Paris", 0.05, 0.98, 0.98, (), (), final=True)
    assert _verdict(empty).endswith("No unit lowers P(Paris), which is 0.980. Try --kinds features,neurons.")
    assert _verdict(empty, tuple(Family)).endswith("No unit lowers P(Paris), which is 0.980.")
    below = replace(empty, p_before=0.03, p_after=0.03)
    assert _verdict(below).endswith("P(Paris) is 0.030 already: no unit has to be switched off.")


def test_greedy_as_json(run: Run, stand_in: StandInScope) -> None:
    found = strict_json(run("greedy", PROMPT, "--json").stdout)
    assert found["units"] == ["2.mlp_act.n345"]
    assert (found["p_before"], found["p_after"], found["reached"], found["below"]) == (0.98, 0.01, True, 0.05)
    assert [step["unit"] for step in found["steps"]] == ["3.resid_post.f17", "2.mlp_act.n345"]


def test_probe_for_a_person(run: Run, stand_in: StandInScope) -> None:
    result = run("probe", PROMPT)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "3.resid_post.f17" in result.stdout
    assert "█" in result.stdout
    assert "[capital]" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_an_answer_the_model_would_not_say_is_shown_with_its_rank(run: Run, stand_in: StandInScope) -> None:
    result = run("probe", PROMPT, "--answer", "Lyon")
    assert "rank 7" in result.stdout
    assert "the model would rather say Paris" in result.stdout


def test_ablate_as_json(run: Run, stand_in: StandInScope) -> None:
    words = "--unit 3.resid_post.f17 --unit 2.mlp_act.n345 --mode scale=-1.5 --positions all --substitute --json"
    effect = strict_json(run("ablate", PROMPT, "--answer", "Paris", *words.split()).stdout)
    assert {"p_before", "p_after", "delta_prob", "top_before", "top_after"} <= set(effect)
    assert effect["delta_prob"] == pytest.approx((0.98 - 0.12) / 0.98)
    assert effect["ablation"] == {
        "units": ["3.resid_post.f17", "2.mlp_act.n345"],
        "mode": Mode.SCALE.value,
        "factor": -1.5,
        "positions": Positions.ALL.value,
        "substitute": True,
    }


def test_a_unit_named_twice_is_one_unit(run: Run, stand_in: StandInScope) -> None:
    words = ("--unit", "3.resid_post.f17", "--unit", "3.resid_post.f17", "--json")
    effect = strict_json(run("ablate", PROMPT, "--answer", "Paris", *words).stdout)
    assert effect["ablation"]["units"] == ["3.resid_post.f17"]


def test_ablate_for_a_person(run: Run, stand_in: StandInScope) -> None:
    text = run("ablate", PROMPT, "--answer", "Paris", "--unit", "3.resid_post.f17", "--continuation", "4").stdout
    assert stand_in.asked["continuation"] == 4
    assert "3.resid_post.f17: switched off at the reading position" in text
    assert "0.88" in text
    assert f"after   {PROMPT} Lyon." in text


def test_edit_as_json(run: Run, stand_in: StandInScope) -> None:
    result = run("edit", "--prompt", PROMPT, "--answer", "Paris", "--dry-run", "--json")
    report = strict_json(result.stdout)
    assert {"method", "units", "positions", "parameters", "before", "after", "facts", "checkpoint"} <= set(report)
    assert {"reliability", "generalization", "locality", "delta_ppl"} <= set(report["after"])
    assert report["positions"] == 65
    assert report["after"]["delta_ppl"]["value"] is None
    assert report["facts"][0]["erased"] is True
    assert report["checkpoint"] is None


def test_edit_passes_its_options_on(run: Run, stand_in: StandInScope) -> None:
    words = "--method rows --site resid_post --top 3 --tau2 .25 --unit 1.resid_post.f4 --dry-run"
    assert run("edit", "--prompt", PROMPT, "--answer", "Lyon", *words.split()).exit_code == 0
    spec = stand_in.asked["spec"]
    assert (spec.method, spec.site, spec.top, spec.tau2) == (Method.ROWS, SiteKind.RESID_POST, 3, 0.25)
    assert spec.units == (Unit.feature(1, SiteKind.RESID_POST, 4),)
    assert [(fact.prompt, fact.answer) for fact in spec.facts] == [(PROMPT, "Lyon")]
    assert stand_in.asked["dry_run"] is True


def test_a_fact_the_open_model_brings_along_is_measured_with_its_paraphrases(run: Run, stand_in: StandInScope) -> None:
    run("edit", "--prompt", PROMPT, "--answer", "Paris", "--dry-run")
    assert stand_in.asked["spec"].facts == (FACT,)


def test_edit_saves_and_says_how_to_load(run: Run, stand_in: StandInScope, tmp_path: Path) -> None:
    target = tmp_path / "a folder whose name is much longer than a line of eighty columns would ever be" / "edited"
    result = run("edit", "--prompt", PROMPT, "--answer", "Paris", "--out", str(target))
    assert result.exit_code == 0
    assert stand_in.asked["saved"] == target
    assert f"Load it: AutoModelForCausalLM.from_pretrained({str(target)!r})" in result.stdout


def test_an_edit_that_nobody_keeps_says_so(run: Run, stand_in: StandInScope) -> None:
    result = run("edit", "--prompt", PROMPT, "--answer", "Paris")
    assert "Nothing was saved" in result.stderr
    assert "Nothing was saved" not in result.stdout


def test_open_describes_what_it_opened(run: Run, stand_in: StandInScope) -> None:
    info = strict_json(run("open", "some/model", "--json").stdout)
    assert stand_in.source.model == "some/model"
    assert info["dictionary_kinds"] == ["resid_post"]
    assert info["dictionaries"][0]["site"] == "3.resid_post"
    assert info["plan"]["fits"] is True


@pytest.mark.parametrize("words", [[], ["--device", "cpu"], ["some/model"], ["open"], ["."]])
def test_without_a_verb_the_terminal_ui_opens(run: Run, words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 1
    assert result.stderr.startswith("The terminal UI needs a terminal.")


def test_open_hands_theme_and_keys_to_the_app(
    run: Run, stand_in: StandInScope, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from knowscope_tui.cli import open as open_verb
    from knowscope_tui.tui.app import KnowscopeApp

    folder = tmp_path / "configuration" / "knowscope-tui"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('theme = "knowscope-light"\n[keymap]\n"app.quit" = "f10"\n')
    opened: list[KnowscopeApp] = []
    monkeypatch.setattr(KnowscopeApp, "run", lambda app: opened.append(app))
    monkeypatch.setattr(open_verb, "has_terminal", lambda: True)
    result = run("some/model", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert opened[0].theme == "knowscope-light"
    assert opened[0]._keymap == {"app.quit": "f10"}
    assert opened[0]._source.model == "some/model"
