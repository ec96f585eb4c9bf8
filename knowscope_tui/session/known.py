"""Of a set of facts those that the open model knows, as many as are asked for."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.proof.evaluate import know
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


def draw_known(
    lm: LanguageModel, facts: Sequence[Fact], limit: int | None, seed: int, on_progress: OnProgress = silent
) -> KnownFacts:
    """The first `limit` facts of a seeded draw that greedy decoding answers rightly; None is all of them.

    Raises `FactFileError` where the model knows none.
    """
    order = list(range(len(facts)))
    if limit is not None:
        random.Random(seed).shuffle(order)
    known: list[int] = []
    asked = refused = 0
    for number, knows in _knowing(lm, facts, order):
        asked += 1
        refused += knows is None
        if knows:
            known.append(number)
        on_progress(f"Looking for facts that the model knows: {len(known):,}", asked / len(facts))
        if len(known) == limit:
            break
    if not known:
        raise FactFileError(
            f"The model knows none of these {count(len(facts), 'fact')}: it gives no answer of theirs.",
            "Name facts that it knows with --facts; `knowscope-tui probe` shows what it says.",
        )
    return KnownFacts(tuple(facts[number] for number in sorted(known)), asked, refused)


def _knowing(lm: LanguageModel, facts: Sequence[Fact], order: Sequence[int]) -> Iterator[tuple[int, bool | None]]:
    """Whether the model knows each of `facts`, in `order`; None for one that it cannot be asked."""
    for start in range(0, len(order), FACTS_AT_ONCE):
        chunk = order[start : start + FACTS_AT_ONCE]
        questions: dict[int, Question] = {}
        for number in chunk:
            try:
                questions[number] = lm.ask(facts[number].prompt, facts[number].answer)
            except PromptError:
                continue
        found = dict(zip(questions, know(lm, list(questions.values())), strict=True))
        for number in chunk:
            yield number, found[number].top if number in found else None
