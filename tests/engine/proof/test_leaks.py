"""Leak tests: an unedited model leaks everything it knows, and testing leaves every bit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from knowscope_tui.core.edits import EditSpec, Method
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.proof import LeakOptions, LeakTest
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.journal import Journal
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.methods.forward import head
from knowscope_tui.engine.methods.plan import plan_edit
from knowscope_tui.engine.methods.states import at_last
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.proof.leaks import LeakBaseline, leak_tests
from knowscope_tui.errors import Cancelled
from tests.tiny import LAYERS, bits, plain_logits

OPTIONS = LeakOptions(samples=20, relearn_steps=3)


def test_an_unedited_model_leaks_what_it_knows_and_keeps_every_bit(lm: LanguageModel, facts: list[Fact]) -> None:
    before = bits(lm.model)
    baseline = LeakBaseline.take(lm, facts[:3], facts[3:], OPTIONS)
    found = {result.test: result for result in leak_tests(lm, baseline)}
    assert set(found) == set(LeakTest)
    assert bits(lm.model) == before
    for test in (LeakTest.UNSEEN, LeakTest.LOGIT_LENS):
        assert found[test].tested > 0
        assert len(found[test].leaking) == found[test].tested
    for result in found.values():
        for leak in result.leaks:
            assert not any(word in result.note + leak.detail for word in (leak.fact.prompt, leak.fact.answer))


def test_relearning_that_is_stopped_puts_the_weights_back(
    lm: LanguageModel, library: Library, facts: list[Fact]
) -> None:
    alike = [replace(fact, relation=facts[0].relation) for fact in facts]
    baseline = LeakBaseline.take(lm, alike[:4], alike[4:], OPTIONS)
    journal = Journal(lm)
    journal.apply(plan_edit(lm, library, EditSpec(tuple(facts[:4]), Method.NEURONS, top=100)).changes)
    before = bits(lm.model)

    def stop(doing: str, fraction: float | None) -> None:
        if "relearning, step 2" in doing:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(leak_tests(lm, baseline, stop))
    assert bits(lm.model) == before
    *_others, relearned = leak_tests(lm, baseline)
    assert relearned.test is LeakTest.RELEARNED
    assert relearned.tested > 0
    assert bits(lm.model) == before
    journal.undo()


def test_the_lens_behind_the_last_layer_is_the_model_itself(lm: LanguageModel, facts: list[Fact]) -> None:
    question = lm.ask(facts[0].prompt, facts[0].answer)
    top = Site(LAYERS - 1, SiteKind.RESID_POST)
    found = head(lm, at_last(lm, [question], [top])[top])[0]
    expected = plain_logits(lm, question)[question.last]
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-4)
