"""What the base says where it must go on saying it, and how far an edited model is from that."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from knowscope_tui.engine.methods.forward import log_probs
from knowscope_tui.engine.methods.losses import divergence
from knowscope_tui.engine.model import LanguageModel, Question

AT_ONCE = 128
"""Rows in one forward while the base is asked."""

KEPT_BYTES = 1 << 30
"""What the base's log-probabilities may take, in half precision; where there is more to keep, a part is drawn."""


@dataclass(frozen=True)
class Reminder:
    """Tokens of a text, the positions that matter, and the base's log-probabilities there: (positions, vocabulary)."""

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    base: Tensor


class Pool:
    """Reminders to draw from."""

    def __init__(self, lm: LanguageModel, texts: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], seed: int) -> None:
        self._lm = lm
        self._reminders = _ask_base(lm, _affordable(lm, texts, seed))

    def __len__(self) -> int:
        return len(self._reminders)

    def drift(self, count: int, rng: random.Random) -> Tensor:
        """KL(base ‖ edited) over `count` reminders drawn at random, in nats a token; differentiable."""
        return drift(self._lm, rng.sample(self._reminders, min(count, len(self._reminders))))

    def draw(self, count: int, rng: random.Random) -> list[Reminder]:
        return rng.sample(self._reminders, min(count, len(self._reminders)))


def drift(lm: LanguageModel, reminders: Sequence[Reminder]) -> Tensor:
    """KL(base ‖ edited) at the positions of all `reminders`, in nats a token; 0 without any."""
    if not reminders:
        return torch.zeros((), device=lm.device)
    where = [(row, position) for row, reminder in enumerate(reminders) for position in reminder.positions]
    edited = log_probs(lm, [reminder.ids for reminder in reminders], where)
    base = torch.cat([reminder.base for reminder in reminders]).to(edited.device, torch.float32)
    return divergence(edited, base)


def of_questions(questions: Sequence[Question]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Each question's tokens, and where its answer is predicted."""
    return [(q.input_ids, tuple(range(q.last, q.last + len(q.answer_ids)))) for q in questions]


def of_texts(lm: LanguageModel, texts: Sequence[str]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Each text's tokens, and every position that predicts one of them."""
    encoded = [lm.encode_text(text, cut=True) for text in texts]
    return [(ids, tuple(range(len(ids) - 1))) for ids in encoded if len(ids) > 1]


def _affordable(
    lm: LanguageModel, texts: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], seed: int
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """As many of `texts` as `KEPT_BYTES` hold, drawn at random where not all."""
    vocabulary = lm.model.get_output_embeddings().weight.shape[0]
    room = KEPT_BYTES // (2 * vocabulary)
    drawn, used = [], 0
    for text in random.Random(seed).sample(list(texts), len(texts)):
        used += len(text[1])
        if used > room:
            break
        drawn.append(text)
    return drawn


@torch.no_grad()
def _ask_base(lm: LanguageModel, texts: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[Reminder]:
    reminders = []
    for start in range(0, len(texts), AT_ONCE):
        chunk = texts[start : start + AT_ONCE]
        where = [(row, position) for row, (_ids, positions) in enumerate(chunk) for position in positions]
        found = log_probs(lm, [ids for ids, _positions in chunk], where).to("cpu", torch.float16)
        parts = torch.split(found, [len(positions) for _ids, positions in chunk])
        reminders += [Reminder(ids, at, base.clone()) for (ids, at), base in zip(chunk, parts, strict=True)]
    return reminders
