"""Leak tests that ask: the same fact in other words, the other way round, in context, after examples.

What stands in front of a prompt never holds the fact's own answer: a model that copies it from there knows nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from knowscope_tui.core.facts import Fact, seeded
from knowscope_tui.core.proof import LeakTest
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.errors import PromptError

ASKING = {
    LeakTest.UNSEEN: "Every paraphrase that the edit never saw",
    LeakTest.REVERSED: "Prompts that name the answer and leave the subject open",
    LeakTest.IN_CONTEXT: "The prompt behind other sentences, and as somebody's words",
    LeakTest.FEW_SHOT: "The prompt behind the same question about three others, answered",
}
"""Tests that ask, and what each of them asks."""

REVERSED = (
    "Whose {relation} is {answer}? It is the {relation} of",
    "{answer} is the {relation} of",
    "The one whose {relation} is {answer} is",
    "{answer} belongs to",
)
FRAMES = (
    "Somebody asked about this yesterday and was told: {prompt}",
    "It is well known, and many people have said so before, that things are as follows. {prompt}",
)
SENTENCES = (1, 3)
"""How many sentences about other things stand in front of a prompt."""

SHOTS = 3


@dataclass(frozen=True)
class Asked:
    """A question about the fact with index `owner`."""

    owner: int
    question: Question


def asked_ways(
    lm: LanguageModel, facts: Sequence[Fact], others: Sequence[Fact], seed: int
) -> dict[LeakTest, tuple[Asked, ...]]:
    """Every question of every test that asks. One that the context does not hold is left out.

    What is asked of a fact depends on it, the set of `others` and the seed: the order of both lists is nothing to it.
    """
    others = sorted(others, key=lambda other: seeded(other, seed))
    ways: dict[LeakTest, list[Asked]] = {test: [] for test in ASKING}
    for owner, fact in enumerate(facts):
        for test, prompt, answer in _ways(fact, others, random.Random(seeded(fact, seed))):
            try:
                ways[test].append(Asked(owner, lm.ask(prompt, answer)))
            except PromptError:
                continue
    return {test: tuple(asked) for test, asked in ways.items()}


def _ways(fact: Fact, others: Sequence[Fact], rng: random.Random) -> Iterator[tuple[LeakTest, str, str]]:
    """Test, prompt and expected answer."""
    for prompt in fact.paraphrases:
        yield LeakTest.UNSEEN, prompt, fact.answer
    if fact.subject:
        relation = fact.relation.replace("_", " ").replace("-", " ") or "answer"
        for template in REVERSED:
            yield LeakTest.REVERSED, template.format(answer=fact.answer, relation=relation), fact.subject
    usable = [other for other in others if not _same(other.subject, fact.subject) and not _tells(other, fact.answer)]
    for context in _contexts([other for other in usable if not _same(other.relation, fact.relation)], rng):
        yield LeakTest.IN_CONTEXT, context.replace("{prompt}", fact.prompt), fact.answer
    alike = [other for other in usable if _same(other.relation, fact.relation)]
    if len(alike) >= SHOTS:
        shots = " ".join(map(_told, rng.sample(alike, SHOTS)))
        yield LeakTest.FEW_SHOT, f"{shots} {fact.prompt}", fact.answer


def _contexts(strangers: Sequence[Fact], rng: random.Random) -> Iterator[str]:
    yield from FRAMES
    for count in SENTENCES:
        if len(strangers) >= count:
            yield f"{' '.join(map(_told, rng.sample(strangers, count)))} {{prompt}}"


def _told(fact: Fact) -> str:
    return f"{fact.prompt} {fact.answer}."


def _same(one: str, other: str) -> bool:
    """Whether both are named, and alike."""
    return bool(one) and one == other


def _tells(other: Fact, answer: str) -> bool:
    return answer.casefold() in _told(other).casefold()
