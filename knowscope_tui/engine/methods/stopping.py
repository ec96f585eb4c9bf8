"""When an optimised edit is good enough to stop: the limits, held against what the steps do not learn from."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from knowscope_tui.core.edits import EditSpec
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.rings import rings_of
from knowscope_tui.engine.methods.evidence import phrasings
from knowscope_tui.engine.methods.material import Material
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.proof.evaluate import know, perplexity

PUT_ASIDE = 5
"""One retained fact and text in so many is put aside for the checks."""

MOST_ASIDE = 100

PATIENCE = 2
"""Checks within the limits, in a row, before it is enough."""


@dataclass
class Watch:
    """Looks at an edit now and then. `rest` is the material that the steps may learn from."""

    lm: LanguageModel
    spec: EditSpec
    rest: Material
    aside: tuple[Fact, ...]
    texts: tuple[str, ...]
    perplexity: float | None
    _within: int = field(default=0, init=False)

    @classmethod
    def of(cls, lm: LanguageModel, spec: EditSpec, material: Material) -> Watch:
        """Puts a part of `material` aside, by a seeded draw over each ring."""
        rng = random.Random(spec.seed)
        aside: list[Fact] = []
        for facts in rings_of([(fact, fact) for fact in material.retained], spec.facts).values():
            aside += rng.sample(facts, min(len(facts) // PUT_ASIDE, MOST_ASIDE))
        known = know(lm, _asked(lm, aside))
        checked = tuple(fact for fact, answer in zip(aside, known, strict=True) if answer.top)
        texts = tuple(material.texts[::PUT_ASIDE][:MOST_ASIDE]) if len(material.texts) >= PUT_ASIDE else ()
        left_out = set(checked)
        rest = Material(
            tuple(fact for fact in material.retained if fact not in left_out),
            tuple(text for text in material.texts if text not in set(texts)),
        )
        return cls(lm, spec, rest, checked, texts, perplexity(lm, texts) if texts else None)

    @property
    def content(self) -> bool:
        """Whether the last checks in a row were within the limits."""
        return self._within >= PATIENCE

    def look(self) -> str:
        """Measures the model as it stands and says what was found."""
        limits = self.spec.limits
        done = self._done()
        rings = self._kept()
        worst = min(rings.values(), default=1.0)
        lost = perplexity(self.lm, self.texts) / self.perplexity - 1 if self.perplexity else 0.0
        within = done >= limits.min_reliability and worst >= limits.min_locality and lost <= limits.max_delta_ppl
        self._within = self._within + 1 if within else 0
        kept = ", ".join(f"{ring} {share:.3f}" for ring, share in rings.items())
        return f"Rel {done:.3f}, kept {kept or 'nothing to check'}, ΔPPL {lost:+.4f}"

    def _done(self) -> float:
        """Share of the phrasings whose answer is gone, or is the new one."""
        asked = [
            (self.lm.ask(prompt, fact.target_new or fact.answer), bool(fact.target_new))
            for fact in self.spec.facts
            for prompt in phrasings(fact)
        ]
        known = know(self.lm, [question for question, _wins in asked])
        return sum(answer.top == wins for answer, (_question, wins) in zip(known, asked, strict=True)) / len(asked)

    def _kept(self) -> dict[str, float]:
        known = know(self.lm, _asked(self.lm, self.aside))
        by_ring = rings_of(list(zip(self.aside, [float(answer.top) for answer in known], strict=True)), self.spec.facts)
        return {ring: sum(values) / len(values) for ring, values in by_ring.items()}


def _asked(lm: LanguageModel, facts: Sequence[Fact]) -> list[Question]:
    return [lm.ask(fact.prompt, fact.answer) for fact in facts]
