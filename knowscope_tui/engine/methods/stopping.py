"""When an optimised edit is good enough to stop: the limits, held against what the steps do not learn from."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from knowscope_tui.core.edits import EditSpec, Limits
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.rings import rings_of
from knowscope_tui.engine.methods.material import Material
from knowscope_tui.engine.methods.yardstick import Yardstick
from knowscope_tui.engine.model import LanguageModel

PUT_ASIDE = 5
"""One retained fact and text in so many is put aside for the checks."""

MOST_ASIDE = 100

PATIENCE = 2
"""Checks within the limits, in a row, before it is enough."""


@dataclass
class Watch:
    """Looks at an edit now and then. `rest` is what the edit may learn from, and is never looked at."""

    limits: Limits
    rest: Material
    yardstick: Yardstick
    _within: int = field(default=0, init=False)

    @classmethod
    def of(cls, lm: LanguageModel, spec: EditSpec, material: Material) -> Watch:
        """Puts a part of `material` aside, by a seeded draw over each ring."""
        rng = random.Random(spec.seed)
        aside: list[Fact] = []
        for facts in rings_of([(fact, fact) for fact in material.retained], spec.facts).values():
            aside += rng.sample(facts, min(len(facts) // PUT_ASIDE, MOST_ASIDE))
        texts = tuple(material.texts[::PUT_ASIDE][:MOST_ASIDE]) if len(material.texts) >= PUT_ASIDE else ()
        yardstick = Yardstick(lm, spec.facts, aside, texts)
        rest = Material(
            tuple(fact for fact in material.retained if fact not in set(yardstick.retained)),
            tuple(text for text in material.texts if text not in set(texts)),
        )
        return cls(spec.limits, rest, yardstick)

    @property
    def content(self) -> bool:
        """Whether the last checks in a row were within the limits."""
        return self._within >= PATIENCE

    def look(self) -> str:
        """Measures the model as it stands and says what was found."""
        seen = self.yardstick.look()
        within = self.limits.met_by(seen.reliability, seen.worst, seen.delta_ppl)
        self._within = self._within + 1 if within else 0
        kept = ", ".join(f"{ring} {share:.3f}" for ring, share in seen.rings.items())
        gone = "not measured" if seen.reliability is None else f"{seen.reliability:.3f}"
        lost = "not measured" if seen.delta_ppl is None else f"{seen.delta_ppl:+.4f}"
        return f"Rel {gone}, kept {kept or 'not measured'}, ΔPPL {lost}"
