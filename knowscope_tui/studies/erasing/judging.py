"""What an edit did, in counts that can be added up: a row's figures, worked out of what was known before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.rings import RINGS, ring_of
from knowscope_tui.core.studies import Row
from knowscope_tui.engine.deltas.change import Change, made
from knowscope_tui.engine.proof.evaluate import Known, know, surprises
from knowscope_tui.studies.erasing.known import Ground


@dataclass(frozen=True)
class Edit:
    """One edit of one or many facts. `strength` is τ2, or how many neurons; 0 for a method that has neither."""

    method: str
    setting: str
    strength: float
    facts: tuple[Fact, ...]
    changes: Sequence[Change] = ()
    together: bool = False
    """Whether it is the edit of all facts at once."""


class Judge:
    """Asks the injected model before and after edits; what was not known before counts nowhere."""

    def __init__(self, ground: Ground, facts: Sequence[Fact]) -> None:
        self._ground, self._lm = ground, ground.lm
        self._before = {fact: self._told(fact) for fact in facts}
        held = ground.kept.held
        known = know(self._lm, [self._lm.ask(fact.prompt, fact.answer) for fact in held])
        self._neighbors = [fact for fact, one in zip(held, known, strict=True) if one.top]
        self._surprises = surprises(self._lm, ground.judging_texts)

    def _told(self, fact: Fact) -> list[Known]:
        """Of a fact's prompt, and of each of its paraphrases."""
        return know(self._lm, [self._lm.ask(prompt, fact.answer) for prompt in (fact.prompt, *fact.paraphrases)])

    def rows(self, edit: Edit) -> list[Row]:
        """A row for each fact of `edit`; what an edit of many facts leaves is the same in all of them."""
        with made(self._lm.model, edit.changes):
            after = [self._told(fact) for fact in edit.facts] if edit.changes else [self._before[f] for f in edit.facts]
            kept = know(self._lm, [self._lm.ask(fact.prompt, fact.answer) for fact in self._neighbors])
            lost = self._lost()
        by_ring: dict[str, str | int] = {}
        for ring in RINGS:
            own = [
                now.top for fact, now in zip(self._neighbors, kept, strict=True) if ring_of(fact, edit.facts) == ring
            ]
            by_ring |= {f"{ring}, asked": len(own), f"{ring}, kept": sum(own)}
        return [
            {**self._row(edit, fact, told), **by_ring, "delta_ppl": lost}
            for fact, told in zip(edit.facts, after, strict=True)
        ]

    def _lost(self) -> float:
        """ΔPPL on the judging texts."""
        after = surprises(self._lm, self._ground.judging_texts)
        more = sum(now.nats - was.nats for was, now in zip(self._surprises, after, strict=True))
        return math.expm1(more / max(sum(text.tokens for text in after), 1))

    def _row(self, edit: Edit, fact: Fact, after: Sequence[Known]) -> dict[str, str | int | float]:
        before = self._before[fact]
        paraphrases = [(was, now) for was, now in zip(before[1:], after[1:], strict=True) if was.top]
        return {
            "method": edit.method,
            "setting": edit.setting,
            "strength": float(edit.strength),
            "together": edit.together,
            "fact": fact.id,
            "positions": sum(change.positions for change in edit.changes),
            "known": int(before[0].top),
            "erased": int(before[0].top and not after[0].top),
            "paraphrases": len(paraphrases),
            "paraphrases_erased": sum(not now.top for _was, now in paraphrases),
            "p_before": before[0].p,
            "p_after": after[0].p,
        }
