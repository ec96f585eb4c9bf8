"""What an edit does, measured on what it may see while it is still being worked out.

The definitions are those of `proof.evaluate`: a phrasing or a fact that the model did not know before can neither be
erased nor kept, and counts nowhere. What there is nothing to measure on is None, never a perfect score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.rings import rings_of, worst_of
from knowscope_tui.engine.methods.evidence import phrasings, questions_about
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.proof.evaluate import know, perplexity


@dataclass(frozen=True)
class Seen:
    """The model at one moment, against what it was when the yardstick was made."""

    reliability: float | None
    """Share of the phrasings known before whose answer is gone or, where there is a new one, of which that is given."""
    p_answer: float
    """Mean P of the facts' own answers over all phrasings."""
    locality: float | None
    """Share of the retained facts known before that are kept."""
    rings: dict[str, float]
    """The same by ring; a ring without facts is left out."""
    delta_ppl: float | None

    @property
    def worst(self) -> float | None:
        """Locality in the ring that suffers most."""
        return worst_of(self.rings, self.locality)


class Yardstick:
    """Measures the model as it stands. Made before anything is changed.

    `facts` are edited; those of `retained` that the model knows are to be kept, and `texts` to stay as likely.
    """

    def __init__(
        self, lm: LanguageModel, facts: Sequence[Fact], retained: Sequence[Fact], texts: Sequence[str]
    ) -> None:
        self._lm, self._facts, self._texts = lm, tuple(facts), tuple(texts)
        self._asked = questions_about(lm, facts)
        self._aims = [
            (lm.ask(prompt, fact.target_new or fact.answer), bool(fact.target_new))
            for fact in facts
            for prompt in phrasings(fact)
        ]
        before = know(lm, self._asked)
        self._known = [answer.top for answer in before]
        self.p_before = sum(answer.p for answer in before) / max(len(before), 1)
        """Mean P of the facts' own answers over all phrasings."""
        known = know(lm, [lm.ask(fact.prompt, fact.answer) for fact in retained])
        self.retained = tuple(fact for fact, answer in zip(retained, known, strict=True) if answer.top)
        self._perplexity = perplexity(lm, texts) if texts else None

    @property
    def measures_erasure(self) -> bool:
        """Whether the model knew anything that can be erased."""
        return any(self._known)

    @property
    def measures_damage(self) -> bool:
        """Whether there is anything that damage would show on."""
        return bool(self.retained) or self._perplexity is not None

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """What a person should know of limits that nothing was held against, a sentence each."""
        sentences = []
        if not self.measures_erasure:
            sentences.append("Rel was not measured on the way: the model gives the answer in none of the phrasings.")
        if not self.retained:
            sentences.append("Loc was not measured on the way: there is no retained fact that the model knows.")
        if self._perplexity is None:
            sentences.append("ΔPPL was not measured on the way: there is no text for it.")
        return tuple(sentences)

    def look(self) -> Seen:
        """What the model shows as it stands."""
        asked = know(self._lm, self._asked)
        aims = know(self._lm, [aim for aim, _wins in self._aims]) if self._updates else asked
        done = [
            answer.top == wins
            for answer, (_aim, wins), known in zip(aims, self._aims, self._known, strict=True)
            if known
        ]
        kept = know(self._lm, [self._lm.ask(fact.prompt, fact.answer) for fact in self.retained])
        rings = rings_of([(fact, answer.top) for fact, answer in zip(self.retained, kept, strict=True)], self._facts)
        after = perplexity(self._lm, self._texts) if self._texts else None
        return Seen(
            reliability=_share(done),
            p_answer=sum(answer.p for answer in asked) / max(len(asked), 1),
            locality=_share([answer.top for answer in kept]),
            rings={ring: sum(values) / len(values) for ring, values in rings.items()},
            delta_ppl=after / self._perplexity - 1 if after is not None and self._perplexity else None,
        )

    @property
    def _updates(self) -> bool:
        return any(wins for _aim, wins in self._aims)


def _share(marks: Sequence[bool]) -> float | None:
    return sum(marks) / len(marks) if marks else None
