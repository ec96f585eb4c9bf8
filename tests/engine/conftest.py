"""Every test of the engine leaves the shared model as it was: no hook on it, no bit changed."""

from __future__ import annotations

import pytest

from knowscope_tui.core.facts import Fact
from knowscope_tui.engine.generate import continuation
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.proof.evaluate import know


@pytest.fixture(autouse=True)
def _untouched(untouched: None) -> None:
    """See `untouched`."""


@pytest.fixture(scope="session")
def question(lm: LanguageModel, facts: list[Fact]) -> Question:
    """A question whose answer is one token, in a prompt longer than the sliding window."""
    chosen = lm.ask(facts[0].prompt, facts[0].answer)
    assert len(chosen.answer_ids) == 1
    assert len(chosen.prompt_ids) > lm.model.config.sliding_window + 2
    return chosen


@pytest.fixture(scope="session")
def long_question(lm: LanguageModel, facts: list[Fact]) -> Question:
    """A question whose answer is several tokens: the first that the model itself gives and spells in the same way."""
    for fact in facts:
        prompt = lm.ask(fact.prompt, fact.answer)
        answer = continuation(lm, prompt, 3)
        if len(answer.split()) > 1 and know(lm, [lm.ask(fact.prompt, answer)])[0].top:
            chosen = lm.ask(fact.prompt, answer)
            assert len(chosen.answer_ids) == 3
            return chosen
    raise AssertionError("the tiny model gives no long answer")
