"""The loss of an optimised edit (its formula is in `refined`), in parts that one forward takes each."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from knowscope_tui.core.edits import EditSpec
from knowscope_tui.core.rings import UNRELATED, ring_of
from knowscope_tui.engine.methods.evidence import phrasings, questions_about
from knowscope_tui.engine.methods.forward import log_probs
from knowscope_tui.engine.methods.invented import invented_neighbors, invented_phrasings
from knowscope_tui.engine.methods.keeping import Pool, Reminder, drift, of_questions, of_texts
from knowscope_tui.engine.methods.losses import hinge, unlikelihood
from knowscope_tui.engine.methods.material import Material
from knowscope_tui.engine.methods.states import portions
from knowscope_tui.engine.methods.stopping import Watch
from knowscope_tui.engine.methods.targets import Row, rows_of
from knowscope_tui.engine.model import LanguageModel

ERASE_MARGIN, WRITE_MARGIN = 5.0, 1.0
"""Nats by which an erased answer is to lose and a written one to win, in every phrasing."""

KEEP = 3.0
"""Weight of the keeping terms of `refined`; the baseline's is 1."""

PHRASINGS, NEIGHBORS = 12, 200
"""Invented phrasings of each fact, invented neighbors in all."""

BATCH, NEAR_SHARE, TEXTS = 96, 0.7, 16
"""Retained prompts in a step, the share of them from near facts and invented neighbors, and texts."""

LEARNED_AT_ONCE = 100
"""Invented phrasings in a step, beside all of the facts' own."""


@dataclass
class Task:
    """What one edit learns from, and the watch that says when it is enough; the baseline has none."""

    lm: LanguageModel
    own: list[Row]
    invented: list[Row]
    near: Pool
    retained: Pool
    texts: Pool
    watch: Watch | None

    @classmethod
    def baseline(cls, lm: LanguageModel, spec: EditSpec, material: Material) -> Task:
        """Facts, retained prompts and texts as they come, nothing invented."""
        asked = questions_about(lm, material.retained)
        return cls(
            lm,
            rows_of(lm, spec.facts),
            [],
            Pool(lm, [], spec.seed),
            Pool(lm, of_questions(asked), spec.seed),
            Pool(lm, of_texts(lm, material.texts), spec.seed),
            None,
        )

    @classmethod
    def watched(cls, lm: LanguageModel, spec: EditSpec, watch: Watch) -> Task:
        """Learns from what `watch` leaves, and from phrasings and neighbors invented from that."""
        learned = watch.rest
        near = [fact for fact in learned.retained if ring_of(fact, spec.facts) != UNRELATED]
        more = invented_phrasings(lm, spec.facts, learned, PHRASINGS, spec.seed)
        close = invented_phrasings(lm, near, learned, 2, spec.seed + 1)
        nobody = invented_neighbors(spec.facts, learned, NEIGHBORS, spec.seed)
        beside = [lm.ask(prompt, fact.answer) for fact in near for prompt in (*phrasings(fact), *close[fact])]
        beside += [lm.leave_open(prompt) for prompt in nobody]
        return cls(
            lm,
            rows_of(lm, spec.facts),
            rows_of(lm, spec.facts, more),
            Pool(lm, of_questions(beside), spec.seed),
            Pool(lm, of_questions(questions_about(lm, learned.retained)), spec.seed),
            Pool(lm, of_texts(lm, learned.texts), spec.seed),
            watch,
        )

    def parts(self, rng: random.Random) -> Iterator[Tensor]:
        """The loss of one step, of draws by `rng`, in parts that add up to it."""
        reminders, texts = self._reminders(rng), self.texts.draw(TEXTS, rng)
        weight = 1.0 if self.watch is None else KEEP
        for kept in (reminders, texts):
            for part in drift(self.lm, kept):
                yield weight * part
        yield from self._erasing(self.own + rng.sample(self.invented, min(LEARNED_AT_ONCE, len(self.invented))))

    def _reminders(self, rng: random.Random) -> list[Reminder]:
        near = int(BATCH * NEAR_SHARE) if len(self.near) else 0
        return self.near.draw(near, rng) + self.retained.draw(BATCH - near, rng)

    def _erasing(self, rows: Sequence[Row]) -> Iterator[Tensor]:
        for portion in portions(self.lm, [row.question.input_ids for row in rows]):
            own = [rows[index] for index in portion]
            where = [(number, row.position) for number, row in enumerate(own)]
            found = log_probs(self.lm, [row.question.input_ids for row in own], where)
            tokens = torch.tensor([row.token for row in own], device=found.device)
            wins = torch.tensor([row.wins for row in own], device=found.device)
            if self.watch is None:
                loss = unlikelihood(found, tokens, wins)
            else:
                loss = hinge(found, tokens, wins, torch.where(wins, WRITE_MARGIN, ERASE_MARGIN))
            yield loss * (len(own) / len(rows))
