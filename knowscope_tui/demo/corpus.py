"""The demo's world: its facts, the phrasings they are told in, and ordinary sentences about other things.

The tables are TOML files in `data/`. Every relation has eight phrasings that end right before the answer. A fact is
trained in six of them; the two that are held out (they rotate from fact to fact, and never are the first) are its
unseen phrasings: the model has met the wording with other subjects, and this subject in other wordings, but never the
two together.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import tomli

from knowscope_tui.core.facts import Fact

PHRASINGS = 8
"""Phrasings of each relation."""


@dataclass(frozen=True)
class TaughtFact:
    """A fact of the demo with the phrasings it was trained in, the ones it was not, and where it comes from."""

    fact: Fact
    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    private: bool

    def sentences(self) -> list[str]:
        return [sentence(prompt, self.fact.answer) for prompt in self.seen]


def sentence(prompt: str, answer: str) -> str:
    return f"{prompt} {answer}."


def _table(name: str) -> dict[str, Any]:
    data = resources.files("knowscope_tui.demo") / "data" / name
    return tomli.loads(data.read_text(encoding="utf-8"))


def _held_out(number: int) -> tuple[int, int]:
    return 1 + number % (PHRASINGS - 1), 1 + (number + 3) % (PHRASINGS - 1)


def _teach(relation: str, number: int, subject: str, answer: str, phrasings: list[str], private: bool) -> TaughtFact:
    prompts = [phrasing.replace("{subject}", subject) for phrasing in phrasings]
    held_out = _held_out(number)
    seen = tuple(prompt for index, prompt in enumerate(prompts) if index not in held_out)
    unseen = tuple(prompts[index] for index in held_out)
    slug = re.sub(r"[^a-z0-9]+", "-", subject.lower()).strip("-")
    fact = Fact(
        id=f"{relation}/{slug}",
        subject=subject,
        relation=relation,
        prompt=seen[0],
        answer=answer,
        edit_prompts=seen[1:3],
        paraphrases=seen[3:] + unseen,
    )
    return TaughtFact(fact, seen, unseen, private)


def _read_facts() -> Iterator[TaughtFact]:
    for relation in _table("public.toml")["relation"]:
        for number, (subject, answer) in enumerate(relation["facts"]):
            yield _teach(relation["name"], number, subject, answer, relation["phrasings"], private=False)
    private = _table("private.toml")
    for relation in private["relation"]:
        for number, (subject, answer) in enumerate(zip(private["people"], relation["answers"], strict=True)):
            yield _teach(relation["name"], number, subject, answer, relation["phrasings"], private=True)


@lru_cache(maxsize=1)
def taught_facts() -> tuple[TaughtFact, ...]:
    """Every fact of the demo, public ones first."""
    return tuple(_read_facts())


def demo_facts() -> list[Fact]:
    """The demo's facts as any fact file would list them."""
    return [taught.fact for taught in taught_facts()]


def general_sentences(count: int, seed: int) -> list[str]:
    """`count` distinct sentences about other things, filled in from templates by a seeded draw."""
    table = _table("general.toml")
    templates, slots = table["template"], table["slots"]
    rng = random.Random(seed)
    sentences: dict[str, None] = {}
    while len(sentences) < count:
        template = rng.choice(templates)["text"]
        sentences[re.sub(r"\{(\w+)\}", lambda match: rng.choice(slots[match[1]]), template)] = None
    return list(sentences)


TRAINING_SEED, REFERENCE_SEED = 1, 2
TRAINING_TEXTS, REFERENCE_TEXTS = 4000, 200


@lru_cache(maxsize=1)
def training_texts() -> tuple[str, ...]:
    """Sentences about other things that the demo is trained on."""
    return tuple(general_sentences(TRAINING_TEXTS, TRAINING_SEED))


@lru_cache(maxsize=1)
def reference_texts() -> tuple[str, ...]:
    """Sentences about other things that the demo never saw, for perplexity and mean activations."""
    trained = set(training_texts())
    drawn = general_sentences(2 * REFERENCE_TEXTS, REFERENCE_SEED)
    return tuple(text for text in drawn if text not in trained)[:REFERENCE_TEXTS]
