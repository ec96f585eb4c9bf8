"""Questions made up from the ones at hand, for an edit to learn its borders from.

A fact comes in a few phrasings and an edit is judged by others; it is to touch one subject and spare the next. Both
borders are drawn with prompts that need no further data:

- *invented phrasings* of a fact: its prompts with a word dropped, a word of other prompts put in, two prompts crossed
  over at the subject, a sentence in front. Those after which the model still gives the answer are kept: it understands
  them as the same question.
- *invented neighbors* of a fact: its prompts about a subject that is nobody, made of the words of two real ones. What
  the model says of nobody should stay as it is.

Neither looks at a fact's paraphrases or at a held-out fact.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from knowscope_tui.core.facts import Fact
from knowscope_tui.engine.methods.evidence import phrasings
from knowscope_tui.engine.methods.material import Material
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.proof.evaluate import know

TRIES = 8
"""Candidates for each phrasing wanted."""


def invented_phrasings(
    lm: LanguageModel, facts: Sequence[Fact], material: Material, wanted: int, seed: int
) -> dict[Fact, tuple[str, ...]]:
    """Up to `wanted` invented phrasings for each fact, all of which the model as it stands answers as the fact says."""
    rng = random.Random(seed)
    words = sorted(
        {word for fact in material.retained for prompt in phrasings(fact) for word in _template(fact, prompt)}
    )
    candidates = [
        (fact, prompt) for fact in facts for prompt in _candidates(fact, words, material.texts, wanted * TRIES, rng)
    ]
    known = know(lm, [lm.ask(prompt, fact.answer) for fact, prompt in candidates])
    kept: dict[Fact, list[str]] = {fact: [] for fact in facts}
    for (fact, prompt), answer in zip(candidates, known, strict=True):
        if answer.top and len(kept[fact]) < wanted:
            kept[fact].append(prompt)
    return {fact: tuple(prompts) for fact, prompts in kept.items()}


def invented_neighbors(facts: Sequence[Fact], material: Material, wanted: int, seed: int) -> tuple[str, ...]:
    """Up to `wanted` prompts of `facts`, each about a subject that is nobody; none where subjects have one word."""
    rng = random.Random(seed)
    real = {fact.subject for fact in (*facts, *material.retained)}
    names = sorted(subject for subject in real if len(subject.split()) > 1)
    about = [(fact, prompt) for fact in facts for prompt in phrasings(fact) if len(fact.subject.split()) > 1]
    about = [(fact, prompt) for fact, prompt in about if fact.subject in prompt]
    found: dict[str, None] = {}
    for _ in range(4 * wanted if about else 0):
        fact, prompt = rng.choice(about)
        first, last = _borrowed(fact.subject, names, rng)
        nobody = f"{first} {last}"
        if nobody not in real:
            found[prompt.replace(fact.subject, nobody)] = None
        if len(found) == wanted:
            break
    return tuple(found)


def _borrowed(subject: str, names: Sequence[str], rng: random.Random) -> tuple[str, str]:
    """The beginning of one name and the end of another; in six of ten cases one of them is the subject's own."""
    first, last = (name.split() for name in (rng.choice(names), rng.choice(names)))
    draw = rng.random()
    if draw < 0.3:
        first = subject.split()
    elif draw < 0.6:
        last = subject.split()
    return " ".join(first[:-1]), last[-1]


def _template(fact: Fact, prompt: str) -> list[str]:
    """The words of `prompt` that are not its subject's."""
    return prompt.replace(fact.subject, " ").split() if fact.subject else []


def _candidates(
    fact: Fact, words: Sequence[str], texts: Sequence[str], tries: int, rng: random.Random
) -> Iterator[str]:
    own = phrasings(fact)
    seen = set(own)
    for _ in range(tries):
        before, after = _around(fact.subject, rng.choice(own))
        way = rng.choice(("drop", "replace", "cross", "in front"))
        if way == "in front" and texts:
            before = [rng.choice(texts), *before]
        elif way == "cross":
            after = _around(fact.subject, rng.choice(own))[1]
        else:
            before, after = _one_changed(before, after, words if way == "replace" else (), rng)
        prompt = _joined([*before, fact.subject, *after])
        if prompt and prompt not in seen:
            seen.add(prompt)
            yield prompt


def _around(subject: str, prompt: str) -> tuple[list[str], list[str]]:
    """The words before the subject and after it; all are before where the subject does not occur."""
    if not subject or subject not in prompt:
        return prompt.split(), []
    before, _, after = prompt.partition(subject)
    return before.split(), after.split()


def _one_changed(
    before: list[str], after: list[str], words: Sequence[str], rng: random.Random
) -> tuple[list[str], list[str]]:
    """One word dropped, or replaced by one of `words`."""
    if not before and not after:
        return before, after
    place = rng.randrange(len(before) + len(after))
    put = [rng.choice(words)] if words else []
    if place < len(before):
        return [*before[:place], *put, *before[place + 1 :]], after
    place -= len(before)
    return before, [*after[:place], *put, *after[place + 1 :]]


def _joined(words: Sequence[str]) -> str:
    """Words as a prompt: signs and endings that belong to the word before them stand next to it."""
    text = ""
    for word in words:
        if word:
            text += word if not text or word[0] in "'’,.:;!?" else f" {word}"
    return text
