"""Of a set of facts those that the open model knows, as many as are asked for."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.proof.evaluate import Known, know
from knowscope_tui.errors import FactFileError, PromptError
from knowscope_tui.text import count

FACTS_AT_ONCE = 256


@dataclass(frozen=True)
class KnownFacts:
    """The facts that are known, in the order of the set, and how many were looked at for them."""

    facts: tuple[Fact, ...]
    asked: int
    refused: int
    """Those that the model cannot be asked, such as one longer than its context."""

    @property
    def remark(self) -> str:
        """What was left out, in a sentence; nothing where all are known."""
        unknown = self.asked - self.refused - len(self.facts)
        left = [f"{count(unknown, 'fact')} that the model does not know"] if unknown else []
        left += [f"{count(self.refused, 'fact')} that it cannot be asked"] if self.refused else []
        return f"Of {count(self.asked, 'fact')} looked at, left out: {' and '.join(left)}." if left else ""


@dataclass(frozen=True)
class Looked:
    """What the model says of one fact: `p` is P(answer), None where it was not asked; `why` it is dropped, if it is."""

    fact: Fact
    p: float | None
    why: str = ""


NOT_ON_TOP = "the model says something else"
TOO_UNSURE = "P(answer) is below the limit"
TWICE = "it stands there twice"


def look_at(
    lm: LanguageModel, facts: Sequence[Fact], least: float = 0.0, on_progress: OnProgress = silent
) -> list[Looked]:
    """Each of `facts`, and why it is dropped: not known with a P(answer) of `least` or more, or there already."""
    found: list[Looked] = []
    met: set[Fact] = set()
    known = 0
    for number, looked in _looking(lm, facts, range(len(facts))):
        fact = facts[number]
        on_progress(f"Looking for facts that the model knows: {known:,}", number / len(facts))
        if fact in met:
            found.append(Looked(fact, None, TWICE))
        elif isinstance(looked, str):
            found.append(Looked(fact, None, looked))
        else:
            found.append(Looked(fact, looked.p, _why(looked, least)))
        met.add(fact)
        known += not found[-1].why
    return found


def _why(known: Known, least: float) -> str:
    return NOT_ON_TOP if not known.top else TOO_UNSURE if known.p < least else ""


def draw_known(
    lm: LanguageModel, facts: Sequence[Fact], limit: int | None, seed: int, on_progress: OnProgress = silent
) -> KnownFacts:
    """The first `limit` facts of a seeded draw that greedy decoding answers rightly; None is all of them. A fact that
    is there twice counts once.

    Raises `FactFileError` where the model knows none.
    """
    first: dict[Fact, int] = {}
    for number, fact in enumerate(facts):
        first.setdefault(fact, number)
    order = list(first.values())
    if limit is not None:
        random.Random(seed).shuffle(order)
    known: list[int] = []
    asked = refused = 0
    for number, looked in _looking(lm, facts, order):
        asked += 1
        refused += isinstance(looked, str)
        if not isinstance(looked, str) and looked.top:
            known.append(number)
        on_progress(f"Looking for facts that the model knows: {len(known):,}", asked / len(facts))
        if len(known) == limit:
            break
    if not known:
        raise FactFileError(
            f"Of {count(len(facts), 'fact')} the model knows none: it says something else.",
            "Name facts that it knows with --facts; `knowscope-tui probe` shows what it says.",
        )
    return KnownFacts(tuple(facts[number] for number in sorted(known)), asked, refused)


def _looking(lm: LanguageModel, facts: Sequence[Fact], order: Sequence[int]) -> Iterator[tuple[int, Known | str]]:
    """What the model knows of each of `facts`, in `order`; of one that it cannot be asked, why."""
    for start in range(0, len(order), FACTS_AT_ONCE):
        chunk = order[start : start + FACTS_AT_ONCE]
        questions: dict[int, Question] = {}
        refused: dict[int, str] = {}
        for number in chunk:
            try:
                questions[number] = lm.ask(facts[number].prompt, facts[number].answer)
            except PromptError as error:
                refused[number] = error.what
        found = dict(zip(questions, know(lm, list(questions.values())), strict=True))
        for number in chunk:
            yield number, found[number] if number in found else refused[number]
