"""Continuations read keys and values that an ablation left behind, a token at a time. They are held to greedy decoding
in which every token is a forward of the whole model over all tokens, with hooks and without any cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from knowscope_tui.core.readings import Ablation, Mode, Positions
from knowscope_tui.core.units import Family, SiteKind, Unit
from knowscope_tui.engine.ablate import ablation_changes, at_tokens, unit_changes
from knowscope_tui.engine.generate import continuation, continuation_of
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.live import Live
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.trace import record
from tests.engine.suffixes import EVERY_SITE, greedily, random_library, said_by, sharpen
from tests.engine.test_families import opened, save_tiny
from tests.tiny import SLIDING_WINDOW

TOKENS = 9
ENOUGH = 2
"""Ablations, each with a continuation that tells it."""


@dataclass(frozen=True)
class Case:
    lm: LanguageModel
    library: Library
    questions: tuple[Question, Question]
    """One whose answer is a token, and one whose answer is several; both longer than any sliding window."""


@pytest.fixture(scope="module", params=["the tiny Gemma-2", "gpt2", "mistral"])
def case(request: pytest.FixtureRequest, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    if request.param == "the tiny Gemma-2":
        lm: LanguageModel = request.getfixturevalue("lm")
        questions = request.getfixturevalue("question"), request.getfixturevalue("long_question")
        return Case(lm, request.getfixturevalue("library"), questions)
    folder = tmp_path_factory.mktemp(request.param)
    save_tiny(request.param, AutoTokenizer.from_pretrained(tiny_folder), folder)
    lm = opened(request.param, folder)
    sharpen(lm)
    questions = said_by(lm, tuple(range(400, 412)), 1), said_by(lm, tuple(range(500, 511)), 4)
    return Case(lm, random_library(lm, questions[0]), questions)


def as_text(lm: LanguageModel, question: Question, tokens: tuple[int, ...]) -> str:
    """What `tokens` add to the prompt's text; none of them ends it or is left out of it."""
    assert not set(tokens) & set(lm.tokenizer.all_special_ids)
    prompt = lm.tokenizer.decode(question.prompt_ids, skip_special_tokens=True)
    whole: str = lm.tokenizer.decode([*question.prompt_ids, *tokens], skip_special_tokens=True)
    assert whole.startswith(prompt)
    return whole[len(prompt) :]


def telling(
    case: Case, question: Question, mode: tuple[Mode, float], positions: Positions
) -> list[tuple[Ablation, tuple[int, ...]]]:
    """Ablations with the tokens that follow the prompt under each: those whose later tokens tell that it was in place.

    They are others than follow the ablated first token without the ablation, and, where it is at every token, others
    than with it at the prompt's tokens alone.
    """
    lm, ids = case.lm, question.prompt_ids
    found = []
    for site in [site for start in range(4) for site in EVERY_SITE[start::4]]:
        family = Family.NEURON if site.kind is SiteKind.MLP_ACT else Family.FEATURE
        for start in (0, 13, 26):
            units = tuple(Unit(site, family, index) for index in range(start, start + 13))
            ablation = Ablation(units, *mode, positions)
            changes = ablation_changes(lm, case.library, ablation, question.last)
            tokens = greedily(lm, ids, TOKENS, changes)
            forgotten = (tokens[0], *greedily(lm, (*ids, tokens[0]), TOKENS - 1))
            one_by_one = unit_changes(lm, case.library, ablation)
            at_prompt = {place: at_tokens(slice(1, len(ids)), change) for place, change in one_by_one.items()}
            prompt_only = positions is Positions.ALL and greedily(lm, ids, TOKENS, at_prompt)
            if tokens not in (forgotten, prompt_only) and not set(tokens) & set(lm.tokenizer.all_special_ids):
                found.append((ablation, tokens))
        if len(found) >= ENOUGH:
            break
    return found


@pytest.mark.parametrize("mode", [(Mode.ZERO, 0.0), (Mode.SCALE, 3.0)], ids=["zero", "scale"])
@pytest.mark.parametrize("positions", Positions)
@pytest.mark.parametrize("which", [0, 1])
def test_a_continuation_under_an_ablation_is_greedy_decoding_by_whole_forwards_under_it(
    case: Case, which: int, mode: tuple[Mode, float], positions: Positions
) -> None:
    lm, question = case.lm, case.questions[which]
    assert len(question.prompt_ids) > SLIDING_WINDOW + 2
    live = Live(lm, case.library, record(lm, [question], [question.last], EVERY_SITE))
    chosen = telling(case, question, mode, positions)
    assert len(chosen) >= ENOUGH
    for ablation, tokens in chosen:
        for count in (TOKENS, 4):
            expected = as_text(lm, question, tokens[:count])
            assert continuation_of(lm, live, ablation, {}, count) == expected, ablation


def test_a_continuation_at_another_reading_position_is_ablated_there_alone(case: Case) -> None:
    lm, question = case.lm, case.questions[0]
    live = Live(lm, case.library, record(lm, [question], [4], EVERY_SITE))
    told = 0
    plain = greedily(lm, question.prompt_ids, TOKENS)
    for site in case.library.sites:
        ablation = Ablation(tuple(Unit(site, Family.FEATURE, index) for index in range(40)))
        tokens = greedily(lm, question.prompt_ids, TOKENS, ablation_changes(lm, case.library, ablation, 4))
        told += tokens != plain
        if not set(tokens) & set(lm.tokenizer.all_special_ids):
            assert continuation_of(lm, live, ablation, {}, TOKENS) == as_text(lm, question, tokens), site
    assert told


@pytest.mark.parametrize("which", [0, 1])
def test_a_continuation_is_greedy_decoding_by_whole_forwards(case: Case, which: int) -> None:
    lm, question = case.lm, case.questions[which]
    live = Live(lm, case.library, record(lm, [question], [question.last]))
    expected = as_text(lm, question, greedily(lm, question.prompt_ids, TOKENS))
    assert continuation(lm, question, TOKENS) == expected
    assert continuation_of(lm, live, Ablation(), {}, TOKENS) == expected
