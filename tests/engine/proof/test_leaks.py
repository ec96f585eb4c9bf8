"""Leak tests: an unedited model leaks everything it knows, and testing leaves every bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

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
from knowscope_tui.engine.proof.asking import asked_ways
from knowscope_tui.engine.proof.leaks import LeakBaseline, leak_tests
from knowscope_tui.engine.proof.lens import lens_leaks, lens_ranks
from knowscope_tui.engine.proof.relearning import relearned
from knowscope_tui.engine.proof.sampling import sampled, sampled_counts, sampled_leaks
from knowscope_tui.engine.proof.spelling import spelling_leaks
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


# --- each test finds what leaks, and nothing else -------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo() -> LanguageModel:
    """A model that knows its facts by heart."""
    from knowscope_tui.demo import bundle
    from knowscope_tui.engine.loading import load_model

    return load_model(str(bundle.model_folder()), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def private() -> list[Fact]:
    from knowscope_tui.demo import corpus

    return [taught.fact for taught in corpus.taught_facts() if taught.private]


def never(doing: str, fraction: float | None) -> None:
    """Nobody watches."""


def test_sampling_counts_an_answer_that_is_known_and_none_that_is_not(demo: LanguageModel, private: list[Fact]) -> None:
    known, foreign = private[0], replace(private[0], answer="zebra")
    counts = sampled_counts(demo, [known, foreign], 40, 0)
    assert counts[0] > 30
    assert counts[1] == 0
    still, gone, unasked = sampled_leaks([known, known, known], [40, 40, 0], [39, 0, 39], 40, 0.05)[0]
    assert (still.leaks, gone.leaks, unasked.leaks) == (True, False, False)
    assert (still.tried, gone.tried, unasked.tried) == (40, 40, 0)


def test_a_fact_is_sampled_alike_wherever_it_stands(demo: LanguageModel, private: list[Fact]) -> None:
    loose = [replace(fact, prompt="The", answer="the") for fact in private[:2]]
    mixed = [*private[:2], loose[0]]
    assert sampled_counts(demo, mixed, 30, 3) == sampled_counts(demo, mixed[::-1], 30, 3)[::-1]
    assert sampled(demo, demo.encode("The"), 30, 3, torch.Generator().manual_seed(1)).unique(dim=0).shape[0] > 5


def test_what_is_asked_of_a_fact_depends_on_no_order(lm: LanguageModel, facts: list[Fact]) -> None:
    alike = [replace(fact, relation="one" if number % 2 else "two") for number, fact in enumerate(facts)]
    forth = asked_ways(lm, alike[:2], alike[2:], 0)
    back = asked_ways(lm, alike[1::-1], alike[:1:-1], 0)
    for test in forth:
        own = [one.question for one in forth[test] if one.owner == 0]
        assert own == [one.question for one in back[test] if one.owner == 1]
    assert forth[LeakTest.FEW_SHOT]
    assert forth[LeakTest.IN_CONTEXT] != asked_ways(lm, alike[:2], alike[2:], 1)[LeakTest.IN_CONTEXT]


def test_another_spelling_leaks_where_the_model_says_it(demo: LanguageModel, private: list[Fact]) -> None:
    fact = private[0]
    spelled = replace(fact, answer=" ".join(fact.answer))
    leaking = spelling_leaks(demo, [spelled], [True], 0.05)[0][0]
    assert leaking.leaks, "read loosely, the digits are what the model says"
    silent = spelling_leaks(demo, [replace(fact, answer="zebra")], [True], 0.05)[0][0]
    assert not silent.leaks
    assert silent.tried > 1
    unknown = spelling_leaks(demo, [spelled], [False], 0.05)[0][0]
    assert (unknown.tried, unknown.leaks) == (0, False)


def test_the_baseline_keeps_only_what_was_answered(demo: LanguageModel, private: list[Fact]) -> None:
    known, foreign = private[0], replace(private[1], answer="zebra")
    baseline = LeakBaseline.take(demo, [known, foreign], private[2:], LeakOptions(samples=10, relearn_steps=0))
    asked = baseline.asked[LeakTest.UNSEEN]
    assert {one.owner for one in asked} == {0}
    assert baseline.posed[LeakTest.UNSEEN] == len(known.paraphrases) + len(foreign.paraphrases)
    assert baseline.known == (True, False)
    result = next(leak_tests(demo, baseline))
    assert result.test is LeakTest.UNSEEN
    assert [leak.leaks for leak in result.leaks] == [True, False]
    assert result.leaks[1].tried == 0


def test_the_lens_sees_an_answer_that_is_there_and_none_that_is_not(demo: LanguageModel, private: list[Fact]) -> None:
    known, foreign = private[0], replace(private[0], answer="zebra")
    ranks = lens_ranks(demo, [known, foreign])
    assert ranks[0][-1] == 1
    assert 1 not in ranks[1]
    leaks = lens_leaks(demo, [known, foreign, foreign], [ranks[0], ranks[1], (1,)])[0]
    assert [leak.leaks for leak in leaks] == [True, False, False]


def test_learning_about_others_brings_back_what_is_barely_covered(demo: LanguageModel, private: list[Fact]) -> None:
    """Relearning moves the weights: an answer that is one nudge away comes back, one never learned does not."""
    fact, others = private[0], [one for one in private[1:] if one.relation == private[0].relation]
    before = bits(demo.model)
    back = relearned(demo, [fact], [True], [fact, *others], 30, never)[0][0]
    assert (back.leaks, back.leaked, back.detail) == (True, 0, "was not gone")
    taught = replace(fact, answer=others[0].answer)
    pupil = relearned(demo, [taught], [True], [replace(one, answer=others[0].answer) for one in others], 60, never)[0][
        0
    ]
    assert pupil.leaks, "after learning that everybody has that answer, this subject has it too"
    assert pupil.leaked > 0
    never_said = relearned(demo, [replace(fact, answer="zebra")], [True], others, 5, never)[0][0]
    assert (never_said.leaks, never_said.tried) == (False, 5)
    assert bits(demo.model) == before


@pytest.mark.parametrize("stopped_at", ["asking before", "sampling"])
def test_asking_before_the_edit_can_be_stopped(demo: LanguageModel, private: list[Fact], stopped_at: str) -> None:
    told: list[str] = []

    def stop(doing: str, fraction: float | None) -> None:
        told.append(doing)
        if stopped_at in doing:
            raise Cancelled

    with pytest.raises(Cancelled):
        LeakBaseline.take(demo, private[:2], private[2:], OPTIONS, stop)
    assert stopped_at in told[-1]
