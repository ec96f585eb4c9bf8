"""`doctor`: what this machine has, what would go where, and whether what was opened is what its name says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from knowscope_tui.cli.options import Shared
from knowscope_tui.cli.render_checks import plan_lines
from knowscope_tui.core.checks import SelfTest
from knowscope_tui.core.memory import MemoryPlan, Need, Place
from knowscope_tui.errors import DoesNotFit
from knowscope_tui.session.protocol import SourceSpec
from tests.cli.conftest import Run, strict_json
from tests.cli.stand_in import CHECK, GB, PLAN, StandInScope, StandInShelf

TOO_SMALL = replace(PLAN, problem="This needs 8 GB of cuda:0, and 4 GB are free.", hint="Use --device cpu.")


def test_doctor_never_fails_over_what_is_missing(run: Run, stand_in: StandInScope) -> None:
    result = run("doctor", "--json")
    found = strict_json(result.stdout)
    assert result.exit_code == 0
    assert {"python", "versions", "devices", "memory", "demo", "config", "cached", "converted", "missing"} <= set(found)
    assert found["versions"]["torch"]
    assert found["devices"][0]["device"] == "cpu"
    assert found["converted"] == found["converted"] | {"dictionaries": 0, "bytes": 0, "broken": 0}
    assert (found["plan"], found["model"], found["self_test"]) == (None, None, None)
    assert "torch" in run("doctor").stdout


def test_doctor_counts_what_is_converted_and_names_what_is_not(
    run: Run, stand_in: StandInScope, shelf: StandInShelf
) -> None:
    found = strict_json(run("doctor", "--json").stdout)
    assert found["converted"]["dictionaries"] == 3
    assert found["converted"]["bytes"] == 450_000_000
    shelf.rows = (replace(shelf.rows[0], problem="it is cut short."),)
    assert "1 dictionary, 150 MB; 1 broken" in " ".join(run("doctor").stdout.split())


def test_doctor_tests_what_it_opens(run: Run, stand_in: StandInScope) -> None:
    result = run("doctor", "--model", "demo", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    found = strict_json(result.stdout)
    assert found["self_test"]["passed"] is True
    assert found["self_test"]["dictionaries"][0]["site"] == "3.resid_post"
    assert found["model"]["dictionaries"][0]["features"] == 16384
    assert found["plan"]["free"] == {"device": 10 * GB, "host": 19 * GB, "disk": 100 * GB}


WRONG = replace(CHECK, problem="It explains 3% of the variance of 3.resid_post.")


@pytest.mark.parametrize(
    ("test", "says"),
    [
        (SelfTest(0.25, 480, (CHECK,)), "✗ empty hooks change the logits by up to 0.25"),
        (SelfTest(float("nan"), 480, (CHECK,)), "✗ empty hooks change the logits"),
        (SelfTest(0.0, 480, (CHECK, WRONG)), "✗ 3.resid_post: It explains 3% of the variance of 3.resid_post."),
        (SelfTest(0.0, 0, (), ("Gemma's activations overflow float16.",)), "✗ Gemma's activations overflow float16."),
    ],
)
def test_a_test_that_is_not_passed(run: Run, stand_in: StandInScope, test: SelfTest, says: str) -> None:
    stand_in.test = test
    result = run("doctor", "--model", "demo")
    assert result.exit_code == 1
    assert says in result.stdout
    assert "✓ Everything" not in result.stdout
    assert strict_json(run("doctor", "--model", "demo", "--json").stdout)["self_test"]["passed"] is False


def test_doctor_for_a_person(run: Run, stand_in: StandInScope) -> None:
    wrong = replace(WRONG, l0=float("nan"), expected_l0=None, explained=-12.5, features=1_048_576)
    stand_in.test = SelfTest(0.0, 480, (CHECK, replace(wrong, source="[red]\x1b[31m")))
    text = run("doctor", "--model", "demo", "--chat").stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "2.0 GB of 6.0 GB" in text
    assert "chat template" in text
    assert "3.resid_post     16,384  bfloat16  71.5         80.0      83.0%  ✓" in text
    assert "([red]␛[31m)" in text


def test_only_a_plan(run: Run, stand_in: StandInScope, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shared, "open", None)
    result = run("doctor", "--model", "mine", "--sae", "none", "--plan")
    assert result.exit_code == 0, result.stderr
    assert (stand_in.source.model, stand_in.source.dictionaries) == ("mine", ())
    assert "✓ It fits." in result.stdout
    assert strict_json(run("doctor", "--plan", "--json").stdout)["plan"]["needs"][0] == {
        "what": "model",
        "place": "device",
        "bytes": 5 * GB,
    }


def test_a_plan_that_does_not_fit(run: Run, stand_in: StandInScope) -> None:
    stand_in.plan = TOO_SMALL
    result = run("doctor", "--plan")
    assert (result.exit_code, result.stderr) == (1, "")
    assert f"✗ {TOO_SMALL.problem} {TOO_SMALL.hint}" in result.stdout
    plan = strict_json(run("doctor", "--plan", "--json").stdout)["plan"]
    assert (plan["fits"], plan["problem"], plan["hint"]) == (False, TOO_SMALL.problem, TOO_SMALL.hint)


def test_what_was_found_is_shown_before_the_error(
    run: Run, stand_in: StandInScope, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(_options: Shared, _tell: object, on_plan: Callable[[MemoryPlan], None]) -> None:
        on_plan(TOO_SMALL)
        raise DoesNotFit(TOO_SMALL.problem, TOO_SMALL.hint)

    monkeypatch.setattr(Shared, "open", too_large)
    result = run("doctor", "--model", "mine")
    assert result.exit_code == 1
    assert "python" in result.stdout
    assert "working memory" in result.stdout
    assert TOO_SMALL.problem not in result.stdout
    assert result.stderr.startswith(TOO_SMALL.problem)
    result = run("doctor", "--model", "mine", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert strict_json(result.stderr)["error"]["kind"] == "DoesNotFit"


# --- what every verb says of its plan -------------------------------------------------------------------------------


def test_a_plan_in_two_lines() -> None:
    assert plan_lines(PLAN) == [
        "cuda:0: model 5.0 GB, working memory 1.0 GB, encoders 2.0 GB of 6.0 GB, "
        "78 dictionaries mapped from 12.0 GB on disk; 10.0 GB free.",
        "To come first: download 24.0 GB; 100 GB free.",
    ]
    needs = (Need("model", Place.HOST, 5 * GB), Need("conversion, one at a time", Place.HOST, GB))
    assert plan_lines(MemoryPlan("cpu", needs, {}, 0, 0)) == ["cpu: model 5.0 GB, conversion 1.0 GB."]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--model", "mine"], ["cuda:0: ", "To come first: ", "Something is missing."]),
        ([], []),
        (["--model", "demo"], []),
    ],
)
def test_a_verb_says_its_plan_unless_it_opens_the_demo(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str], says: list[str]
) -> None:
    from knowscope_tui.session.scope import Scope

    def open_stand_in(source: SourceSpec, _on_progress: object, on_plan: Callable[[MemoryPlan], None]) -> Any:
        on_plan(PLAN)
        return Remarking(source)

    monkeypatch.setattr(Scope, "open", open_stand_in)
    result = run("probe", "x", *words)
    assert result.exit_code == 0, result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == len(says)
    assert all(line.startswith(start) for line, start in zip(lines, says, strict=True))
    assert run("probe", "x", "--json", *words).stderr == ""


class Remarking(StandInScope):
    """With a remark on anything but the demo."""

    @property
    def info(self) -> Any:
        return replace(super().info, remarks=("Something is missing.",) if self.source.model else ())
