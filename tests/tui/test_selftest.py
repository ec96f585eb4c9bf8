"""The self-test in the background, and what is said of a model while it loads and once it is open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from knowscope_tui.core.checks import SelfTest
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.errors import KnowscopeError
from knowscope_tui.session.protocol import Ablate, Open, Planned, Probe, RunSelfTest
from knowscope_tui.tui.words import plan_line, problems, verdicts
from tests.tui.stand_in import GEMMA, INFO, PLAN, StandIn, self_test

WRONG = (Site(3, SiteKind.RESID_POST), Site(5, SiteKind.MLP_OUT))


async def test_it_is_asked_once_the_first_reading_is_there_and_nothing_waits(drive: Any) -> None:
    async with drive(size=(200, 40)) as it:
        kinds = [type(request) for request in it.session.requests]
        assert kinds.count(RunSelfTest) == 1
        assert kinds[-1] is RunSelfTest
        assert {Probe, Ablate} <= set(kinds[:-1])
        assert "✓ exact · 18/18 dictionaries as named" in it.text("#top")
        assert it.notifications() == []


async def test_a_model_that_brings_no_facts_is_tested_before_one_is_typed(drive: Any) -> None:
    async with drive(session=StandIn(info=GEMMA, facts=())) as it:
        assert len(it.asked(RunSelfTest)) == 1
        await it.press("=The capital of France is", "enter")
        assert len(it.asked(RunSelfTest)) == 1


async def test_it_gives_way_to_a_question_and_is_asked_again(drive: Any) -> None:
    session = StandIn(gated=(RunSelfTest,))
    async with drive(session=session, settle=False) as it:
        await it.until(lambda: it.asked(RunSelfTest), "the self-test")
        await it.until(lambda: "testing" in it.text("#top"))
        assert "● ready" in it.text("#top")
        await it.pilot.press("space")
        await it.until(lambda: it.scope.effect.ablation.units, "the effect, while the gate is shut")
        await it.until(lambda: len(it.asked(RunSelfTest)) == 2, "the self-test again")
        await it.pilot.press("i", "end", *" not", "enter")
        await it.until(lambda: it.scope.reading.prompt.endswith("not"), "the reading")
        await it.until(lambda: len(it.asked(RunSelfTest)) == 3, "the self-test once more")
        session.gate.set()
        await it.idle()
        assert len(it.asked(RunSelfTest)) == 3
        assert "✓ exact · 18/18" in it.text("#top")


@pytest.mark.parametrize("size", [(120, 36), (80, 24)])
async def test_what_is_wrong_is_said_once_and_stands_in_the_header(drive: Any, size: tuple[int, int]) -> None:
    async with drive(size=size, session=StandIn(wrong=WRONG)) as it:
        assert "! 2/18 wrong" in it.text("#top")
        (said,) = it.notifications()
        assert said.startswith("Self-test: The dictionary at 3.resid_post is wrong: L0 is 300.0")
        assert "[i]says[/i] 22␛[2J. So is 1 more. Press l, then i." in said
        await it.press("space", "l", "t")
        assert len(it.notifications()) == 1


async def test_a_model_that_looking_changes_is_said(drive: Any) -> None:
    async with drive(session=StandIn(parity=0.02)) as it:
        assert "! parity 0.020" in it.text("#top")
        assert "Looking changes the model" in it.notifications()[0]


async def test_a_self_test_that_fails_is_said_and_not_repeated(drive: Any) -> None:
    class Broken(StandIn):
        def handle(self, request: Any, post: Any, check: Any) -> None:
            if isinstance(request, RunSelfTest):
                self.requests.append(request)
                raise KnowscopeError("There is no text to test on.", "Open another model.")
            super().handle(request, post, check)

    async with drive(session=Broken()) as it:
        await it.press("space")
        assert len(it.asked(RunSelfTest)) == 1
        assert "! not tested" in it.text("#top")
        assert it.notifications() == ["The self-test failed: There is no text to test on. Open another model."]


async def test_a_narrow_header_gives_the_good_news_up_first(drive: Any) -> None:
    async with drive(size=(80, 24)) as it:
        assert "exact" not in it.text("#top")
        assert "demo · cpu f32" in it.text("#top")
        assert "● ready" in it.text("#top")
        assert "✓ exact · 18/18 dictionaries as named" in it.app.main.query_one("#top").tooltip.plain


# --- words -----------------------------------------------------------------------------------------------------------


def test_verdicts_agree_in_number_and_carry_a_sign() -> None:
    assert verdicts(self_test(INFO)) == ("✓ exact · 18/18 dictionaries as named", "✓ exact · 18/18")
    assert verdicts(SelfTest(0.0, 128, ())) == ("✓ exact",)
    assert verdicts(self_test(INFO, WRONG[:1])) == ("! 1 of 18 dictionaries is wrong", "! 1/18 wrong")
    both = verdicts(self_test(INFO, WRONG, 0.5))
    assert both == ("! parity 0.50 · 2 of 18 dictionaries are wrong", "! parity 0.50 · 2/18 wrong")
    assert verdicts(replace(self_test(INFO), problems=("It says nothing.",)))[0] == "! 1 problem"
    assert problems(self_test(INFO)) == []


def test_a_plan_is_a_line_that_leaves_out_what_is_nothing() -> None:
    assert plan_line(PLAN) == "cpu: model 5.2 GB, 18 dictionaries mapped (11.6 GB)"


# --- opening ---------------------------------------------------------------------------------------------------------


async def test_the_plan_stands_there_while_the_model_loads(drive: Any) -> None:
    class Loading(StandIn):
        def handle(self, request: Any, post: Any, check: Any) -> None:
            if isinstance(request, Open):
                post(Planned(request.revision, PLAN))
            super().handle(request, post, check)

    session = Loading(gated=(Open,))
    async with drive(session=session, settle=False) as it:
        await it.until(lambda: "18 dictionaries mapped" in it.text("#effect"), "the plan")
        assert "Nothing is switched off" not in it.screen()
        session.gate.set()
        await it.idle()
        assert "Nothing is switched off" in it.text("#effect")
        assert plan_line(PLAN) in it.app.main.query_one("#top").tooltip.plain


async def test_how_far_a_download_is_is_never_cut(drive: Any) -> None:
    from knowscope_tui.session.protocol import Progress

    class Loading(StandIn):
        def handle(self, request: Any, post: Any, check: Any) -> None:
            if isinstance(request, Open):
                doing = "Downloading google/gemma-2-2b: model-00001-of-00002.safetensors, 1.2 GB of 5.2 GB"
                post(Progress(request.revision, doing, 0.234))
            super().handle(request, post, check)

    session = Loading(gated=(Open,))
    async with drive(size=(80, 24), session=session, settle=False) as it:
        await it.until(lambda: "23 %" in it.text("#top"), "how far it is")
        assert "Downloading google/gemma-2-2b" in it.text("#top")
        session.gate.set()


async def test_remarks_are_said_once(drive: Any) -> None:
    async with drive(session=StandIn(info=GEMMA)) as it:
        assert it.notifications() == ["The dictionaries were trained on gemma-2-2b."]
        await it.press("l", "u")
        assert len(it.notifications()) == 1
