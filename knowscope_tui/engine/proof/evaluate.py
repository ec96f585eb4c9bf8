"""What an edit did: reliability, generalization, locality and ΔPPL (see `core.proof.Scores` for the definitions).

A snapshot is taken of the model before the edit and one after it; a proof compares the two. A fact, a paraphrase or a
neighbor that the model did not know before cannot be erased or kept, and counts nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.proof import FactOutcome, Figure, Proof, Scores
from knowscope_tui.core.rings import rings_of
from knowscope_tui.engine.answers import answer_log_prob, batches, is_top
from knowscope_tui.engine.generate import continuation
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.proof.figures import ratio_less_one, share

BATCH_TOKENS = 4096
"""Tokens in one forward, where the logits of so many may be held at once."""


@dataclass(frozen=True)
class Known:
    """Whether greedy decoding gives the answer, and P(answer)."""

    top: bool
    p: float


@dataclass(frozen=True)
class Surprise:
    """The summed negative log-probability of a text's tokens, in nats, and how many tokens that are."""

    nats: float
    tokens: int


@dataclass(frozen=True)
class Snapshot:
    """The model at one moment: what it knows of the facts, their paraphrases and the neighbors, and its surprise."""

    facts: tuple[Fact, ...]
    neighbor_facts: tuple[Fact, ...]
    prompts: tuple[Known, ...]
    paraphrases: tuple[tuple[Known, ...], ...]
    target_prompts: tuple[Known, ...]
    """Of each fact the new answer, where it has one; its own where it has none."""
    target_paraphrases: tuple[tuple[Known, ...], ...]
    neighbors: tuple[Known, ...]
    retained: tuple[Known, ...]
    surprises: tuple[Surprise, ...]
    says: tuple[str, ...]


def take(
    lm: LanguageModel,
    facts: Sequence[Fact],
    neighbors: Sequence[Fact],
    texts: Sequence[str],
    retained: Sequence[Fact] = (),
) -> Snapshot:
    """A snapshot of the model as it stands. Raises `PromptError` for a text that the model cannot take."""
    questions = [lm.ask(fact.prompt, fact.answer) for fact in facts]
    prompts, paraphrases = _by_fact(lm, facts, [fact.answer for fact in facts])
    targets = (prompts, paraphrases)
    if any(fact.target_new for fact in facts):
        targets = _by_fact(lm, facts, [fact.target_new or fact.answer for fact in facts])
    others = know(lm, [lm.ask(fact.prompt, fact.answer) for fact in (*neighbors, *retained)])
    return Snapshot(
        facts=tuple(facts),
        neighbor_facts=tuple(neighbors),
        prompts=prompts,
        paraphrases=paraphrases,
        target_prompts=targets[0],
        target_paraphrases=targets[1],
        neighbors=tuple(others[: len(neighbors)]),
        retained=tuple(others[len(neighbors) :]),
        surprises=tuple(surprises(lm, texts)),
        says=tuple(continuation(lm, question, len(question.answer_ids) + 1).strip() for question in questions),
    )


def _by_fact(
    lm: LanguageModel, facts: Sequence[Fact], answers: Sequence[str]
) -> tuple[tuple[Known, ...], tuple[tuple[Known, ...], ...]]:
    """What the model knows of each answer after the fact's prompt, and after each of its paraphrases."""
    asked = [lm.ask(fact.prompt, answer) for fact, answer in zip(facts, answers, strict=True)]
    for fact, answer in zip(facts, answers, strict=True):
        asked += [lm.ask(prompt, answer) for prompt in fact.paraphrases]
    known = iter(know(lm, asked))
    prompts = tuple(next(known) for _ in facts)
    return prompts, tuple(tuple(next(known) for _ in fact.paraphrases) for fact in facts)


@torch.no_grad()
def know(lm: LanguageModel, questions: Sequence[Question]) -> list[Known]:
    """What the model as it stands knows of each question, in order."""
    found: list[Known] = [Known(False, 0.0)] * len(questions)
    longest = max((len(question.input_ids) for question in questions), default=1)
    for batch in batches(questions, lm.rows_at_once(longest, max(1, BATCH_TOKENS // longest))):
        rows = [questions[index].input_ids for index in batch]
        logits = lm.model(input_ids=lm.tensor(rows), use_cache=False).logits
        for row, index in zip(logits, batch, strict=True):
            question = questions[index]
            own = row[None, : len(question.input_ids)]
            found[index] = Known(bool(is_top(own, question)[0]), float(answer_log_prob(own, question)[0].exp()))
    return found


@torch.no_grad()
def surprises(lm: LanguageModel, texts: Sequence[str]) -> list[Surprise]:
    """How surprised the model is by each of `texts`, read from `<bos>`, in order."""
    rows = [lm.encode_text(text) for text in texts]
    longest = max(map(len, rows), default=1)
    size = lm.rows_at_once(longest, max(1, BATCH_TOKENS // longest))
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    found = [Surprise(0.0, 0)] * len(rows)
    for start in range(0, len(order), size):
        chunk = order[start : start + size]
        tokens = lm.tensor([rows[index] for index in chunk])
        logits = lm.model(input_ids=tokens, use_cache=False).logits[:, :-1].to(torch.float32)
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
        for loss, index in zip(losses.reshape(len(chunk), -1), chunk, strict=True):
            count = len(rows[index]) - 1
            found[index] = Surprise(float(loss[:count].sum()), count)
    return found


def perplexity(lm: LanguageModel, texts: Sequence[str]) -> float:
    """exp of the mean negative log-probability per token of `texts`, each read from `<bos>`."""
    found = surprises(lm, texts)
    return math.exp(sum(one.nats for one in found) / max(sum(one.tokens for one in found), 1))


def prove(before: Snapshot, after: Snapshot) -> Proof:
    """Compares two snapshots around an edit."""
    return Proof(
        before=scores(before, before),
        after=scores(before, after),
        facts=outcomes(before, after),
        neighbors=sum(neighbor.top for neighbor in before.neighbors),
    )


def outcomes(before: Snapshot, after: Snapshot) -> tuple[FactOutcome, ...]:
    """What became of each fact between two snapshots."""
    return tuple(_outcome(before, after, index) for index in range(len(before.facts)))


def _outcome(before: Snapshot, after: Snapshot, index: int) -> FactOutcome:
    fact, was = before.facts[index], before.prompts[index]
    done = _done(before, after, index)
    paraphrases = [success for known, success in zip(before.paraphrases[index], done[1:], strict=True) if known.top]
    return FactOutcome(
        fact=fact,
        known_before=was.top,
        erased=was.top and done[0],
        p_before=was.p,
        p_after=after.prompts[index].p,
        says=after.says[index],
        paraphrases_erased=sum(paraphrases),
        paraphrases=len(paraphrases),
        p_target=after.target_prompts[index].p if fact.target_new else None,
    )


def _done(before: Snapshot, after: Snapshot, index: int) -> list[bool]:
    """Whether the edit did at a fact's prompt, and at each of its paraphrases, what it was to do.

    That is the answer gone or, where there is a new one, the new one given. Against itself a snapshot did nothing.
    """
    if before is after:
        return [False] * (1 + len(after.paraphrases[index]))
    if before.facts[index].target_new:
        return [known.top for known in (after.target_prompts[index], *after.target_paraphrases[index])]
    return [not known.top for known in (after.prompts[index], *after.paraphrases[index])]


def scores(before: Snapshot, after: Snapshot) -> Scores:
    """The figures of `after` against `before`; of `before` against itself they are 0, 0, 1 and 0."""
    prompts: list[float] = []
    paraphrases: list[float] = []
    owners: list[int] = []
    for index, was in enumerate(before.prompts):
        done = _done(before, after, index)
        if was.top:
            prompts.append(float(done[0]))
        for known, success in zip(before.paraphrases[index], done[1:], strict=True):
            if known.top:
                paraphrases.append(float(success))
                owners.append(index)
    neighbors = [
        (fact, float(became.top))
        for fact, was, became in zip(before.neighbor_facts, before.neighbors, after.neighbors, strict=True)
        if was.top
    ]
    retained = [float(now.top) for was, now in zip(before.retained, after.retained, strict=True) if was.top]
    return Scores(
        reliability=share(prompts),
        generalization=share(paraphrases, owners),
        locality=share([kept for _fact, kept in neighbors]),
        delta_ppl=_delta_ppl(before, after),
        p_answer=_mean([known.p for known in after.prompts]),
        p_paraphrases=_mean([known.p for own in after.paraphrases for known in own]),
        p_neighbors=_mean([known.p for known in after.neighbors]),
        rings={ring: share(kept) for ring, kept in rings_of(neighbors, before.facts).items()},
        retained=share(retained),
    )


def _delta_ppl(before: Snapshot, after: Snapshot) -> Figure:
    return ratio_less_one(
        [text.nats for text in after.surprises],
        [text.nats for text in before.surprises],
        [text.tokens for text in before.surprises],
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
