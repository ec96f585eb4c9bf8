"""What an edit did, counted: scores against themselves, rings, and numbers that do not depend on batches."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from knowscope_tui.core.edits import EditSpec, Method
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.proof import Scores
from knowscope_tui.engine.answers import probability
from knowscope_tui.engine.generate import continuation
from knowscope_tui.engine.journal import Journal
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.methods.plan import plan_edit
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.proof import evaluate
from knowscope_tui.engine.proof.evaluate import (
    Known,
    Snapshot,
    Surprise,
    know,
    outcomes,
    perplexity,
    prove,
    scores,
    take,
)
from knowscope_tui.errors import PromptError
from tests.tiny import CONTEXT, plain_logits

TEXTS = [
    "The capital of France is Paris.",
    "We packed the buns, the soup and a flask of tea.",
    "Tea.",
    "There was heavy traffic again, so the gardener stayed near the old stone bridge.",
]
YES, NO = Known(True, 0.9), Known(False, 0.1)


def snapshot(
    facts: list[Fact], prompts: list[Known], paraphrases: list[list[Known]], neighbors: list[Known], ppl: float | None
) -> Snapshot:
    about = tuple(Fact("p", "a", subject=f"s{n}", relation=f"r{n}") for n in range(len(neighbors)))
    said = tuple("x" for _ in facts)
    told, words = tuple(prompts), tuple(map(tuple, paraphrases))
    surprises = () if ppl is None else (Surprise(7 * math.log(ppl), 7),)
    return Snapshot(tuple(facts), about, told, words, told, words, tuple(neighbors), (), surprises, said)


def values(found: Scores) -> tuple[float | None, ...]:
    """The four figures without their intervals."""
    figures = (found.reliability, found.generalization, found.locality, found.delta_ppl)
    return tuple(figure.value for figure in figures)


def rings_of(found: Scores) -> dict[str, float | None]:
    return {ring: figure.value for ring, figure in found.rings.items()}


# --- scores ---------------------------------------------------------------------------------------------------------


def test_a_snapshot_against_itself_has_lost_nothing(lm: LanguageModel, facts: list[Fact]) -> None:
    before = take(lm, facts[:3], facts[3:], TEXTS)
    found = scores(before, before)
    assert values(found) == (0, 0, 1, 0)
    assert set(rings_of(found).values()) == {1.0}
    assert not any(outcome.erased for outcome in outcomes(before, before))
    assert all(outcome.known_before for outcome in outcomes(before, before))


def test_scores_are_shares_of_what_was_known() -> None:
    """Two of three known facts go, one of two paraphrases, one of four neighbors changes."""
    facts = [Fact("p", "a", str(n)) for n in range(4)]
    para = [[YES], [], [YES, NO], [NO]]
    before = snapshot(facts, [YES, YES, YES, NO], para, [YES, YES, YES, YES, NO], 10.0)
    para = [[NO], [], [YES, YES], [NO]]
    after = snapshot(facts, [NO, NO, YES, NO], para, [YES, NO, YES, YES, NO], 11.0)
    found = scores(before, after)
    assert found.reliability.value == pytest.approx(2 / 3)
    assert found.generalization.value == pytest.approx(1 / 2)
    assert found.locality.value == pytest.approx(3 / 4)
    assert found.delta_ppl.value == pytest.approx(0.1)
    assert found.p_answer == pytest.approx((0.1 + 0.1 + 0.9 + 0.1) / 4)
    assert found.p_paraphrases == pytest.approx((0.1 + 0.9 + 0.9 + 0.1) / 4)
    assert found.p_neighbors == pytest.approx((0.9 + 0.1 + 0.9 + 0.9 + 0.1) / 5)
    rows = outcomes(before, after)
    assert [row.erased for row in rows] == [True, True, False, False]
    assert [row.known_before for row in rows] == [True, True, True, False]
    assert [(row.paraphrases_erased, row.paraphrases) for row in rows] == [(1, 1), (0, 0), (0, 1), (0, 0)]


def test_what_was_not_known_before_counts_nowhere() -> None:
    facts = [Fact("p", "a")]
    before = snapshot(facts, [NO], [[NO]], [NO], None)
    after = snapshot(facts, [YES], [[YES]], [YES], None)
    found = scores(before, after)
    assert values(found) == (None, None, None, None)
    assert found.rings == {}
    assert found.p_answer == pytest.approx(0.9)


def test_nothing_to_measure_on_is_none() -> None:
    nothing = snapshot([], [], [], [], None)
    found = scores(nothing, nothing)
    assert found.reliability.value is found.locality.value is found.p_answer is found.p_neighbors is None


def test_neighbors_fall_into_rings_by_subject_then_relation() -> None:
    edited = [Fact("p", "a", subject="Orla Venn", relation="phone")]
    about = (
        Fact("1", "a", subject="Orla Venn", relation="address"),
        Fact("2", "a", subject="Orla Venn", relation="phone"),
        Fact("3", "a", subject="Tobin Marsh", relation="phone"),
        Fact("4", "a", subject="Tobin Marsh", relation="address"),
        Fact("5", "a"),
    )
    before = replace(snapshot(edited, [YES], [[]], [YES] * 5, None), neighbor_facts=about)
    after = replace(before, neighbors=(NO, YES, NO, YES, NO))
    rings = rings_of(scores(before, after))
    assert rings == {"same subject": 0.5, "same relation": 0.0, "unrelated": 0.5}


def test_facts_without_a_subject_share_none() -> None:
    before = replace(snapshot([Fact("p", "a")], [YES], [[]], [YES], None), neighbor_facts=(Fact("q", "b"),))
    assert rings_of(scores(before, before)) == {"unrelated": 1.0}


def test_a_report_tells_what_the_edited_model_knows(lm: LanguageModel, library: Library, facts: list[Fact]) -> None:
    """With most neurons gone the model answers otherwise: every figure against asking it directly."""
    journal = Journal(lm)
    before = take(lm, facts[:4], facts[4:], TEXTS)
    _plan, deltas = plan_edit(lm, library, EditSpec(tuple(facts[:4]), Method.NEURONS, top=100))
    journal.apply(deltas)
    after = take(lm, facts[:4], facts[4:], TEXTS)
    kept = [known.top for known in know(lm, [lm.ask(fact.prompt, fact.answer) for fact in facts])]
    ppl = perplexity(lm, TEXTS)
    journal.undo()
    report = prove(before, after)
    assert report.before == scores(before, before)
    assert report.neighbors == len(facts) - 4
    assert 0 < sum(kept) < len(kept), "some answers go and some stay"
    assert report.after.reliability.value == pytest.approx(1 - sum(kept[:4]) / 4)
    assert report.after.locality.value == pytest.approx(sum(kept[4:]) / len(kept[4:]))
    assert report.after.delta_ppl.value == pytest.approx(ppl / perplexity(lm, TEXTS) - 1, rel=1e-4)
    for outcome, stays in zip(report.facts, kept, strict=False):
        assert outcome.erased is not stays
        assert outcome.says.startswith(outcome.fact.answer) is stays


# --- numbers --------------------------------------------------------------------------------------------------------


def test_batching_and_padding_change_no_probability(
    lm: LanguageModel, facts: list[Fact], long_question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = [lm.ask(fact.prompt, fact.answer) for fact in facts]
    questions += [long_question, lm.ask("Tea", "and a very long answer of many words"), questions[0]]
    assert len({len(question.input_ids) for question in questions}) > 5
    together = know(lm, questions)
    monkeypatch.setattr(evaluate, "BATCH_TOKENS", 1)
    one_by_one = know(lm, questions)
    for question, batched, single in zip(questions, together, one_by_one, strict=True):
        p = probability(plain_logits(lm, question), question)
        assert batched.p == pytest.approx(p, abs=1e-6)
        assert single.p == pytest.approx(p, abs=1e-6)
        assert batched.top == single.top
    assert together[0].p == pytest.approx(together[-1].p, abs=1e-6)


def test_an_answer_is_known_when_greedy_decoding_gives_the_whole_of_it(
    lm: LanguageModel, long_question: Question
) -> None:
    assert know(lm, [long_question])[0].top
    first = lm.tokenizer.decode(long_question.answer_ids[:1]).strip()
    wrong = lm.ask(long_question.prompt, f"{first} nonsense")
    assert wrong.answer_ids[0] == long_question.answer_ids[0]
    assert not know(lm, [wrong])[0].top


def test_perplexity_equals_a_naive_loop(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    total, count = 0.0, 0
    for text in TEXTS:
        ids = lm.tokenizer(text)["input_ids"]
        with torch.no_grad():
            log_p = torch.log_softmax(lm.model(input_ids=torch.tensor([ids])).logits[0].double(), dim=-1)
        for place in range(1, len(ids)):
            total -= float(log_p[place - 1, ids[place]])
            count += 1
    expected = math.exp(total / count)
    assert perplexity(lm, TEXTS) == pytest.approx(expected, rel=1e-5)
    monkeypatch.setattr(evaluate, "BATCH_TOKENS", 1)
    assert perplexity(lm, list(reversed(TEXTS))) == pytest.approx(expected, rel=1e-5)


def test_a_snapshot_says_what_greedy_decoding_gives(lm: LanguageModel, facts: list[Fact]) -> None:
    seen = take(lm, facts[:3], [], [])
    for fact, says in zip(facts, seen.says, strict=False):
        assert says.startswith(fact.answer)
    assert seen.surprises == ()


def test_a_fact_that_does_not_fit_the_model_is_refused(lm: LanguageModel, facts: list[Fact]) -> None:
    long = Fact("7" * 2 * CONTEXT, "8")
    worded = replace(facts[0], paraphrases=(long.prompt,))
    for edited, neighbors in (([long], facts), (facts, [long]), ([worded], [])):
        with pytest.raises(PromptError, match="context"):
            take(lm, edited, neighbors, [])
    with pytest.raises(PromptError, match="context"):
        take(lm, facts, [], [long.prompt])


# --- continuations --------------------------------------------------------------------------------------------------


def test_a_continuation_is_what_hugging_face_generates(lm: LanguageModel, question: Question) -> None:
    """Prompt and continuation together are the whole text, the space between them included."""
    ids = torch.tensor([question.prompt_ids])
    whole = lm.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, use_cache=False
    )[0]
    expected = lm.tokenizer.decode(whole, skip_special_tokens=True)
    assert question.prompt + continuation(lm, question, 8) == expected


def test_a_continuation_ends_with_the_context(lm: LanguageModel) -> None:
    nearly_full = lm.ask("7" * (CONTEXT - 4), "5")
    room = CONTEXT - len(nearly_full.prompt_ids)
    assert continuation(lm, nearly_full, 100) == continuation(lm, nearly_full, room)
