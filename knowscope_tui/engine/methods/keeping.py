"""What the base says where it must go on saying it, and how far an edited model is from that."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from knowscope_tui.engine.methods.forward import log_probs
from knowscope_tui.engine.methods.losses import divergence
from knowscope_tui.engine.methods.states import Places, portions
from knowscope_tui.engine.model import LanguageModel, Question

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

    def __init__(self, lm: LanguageModel, texts: Sequence[Places], seed: int) -> None:
        self._reminders = _ask_base(lm, _affordable(lm, texts, seed))

    def __len__(self) -> int:
        return len(self._reminders)

    def draw(self, count: int, rng: random.Random) -> list[Reminder]:
        """At most so many of them, at random."""
        return rng.sample(self._reminders, min(count, len(self._reminders)))


def drift(lm: LanguageModel, reminders: Sequence[Reminder]) -> Iterator[Tensor]:
    """KL(base ‖ edited) at the positions of all `reminders`, in nats a token, in parts that add up to it.

    A part is what one forward takes; gradients flow when they are enabled.
    """
    tokens = sum(len(reminder.positions) for reminder in reminders)
    for portion in portions(lm, [reminder.ids for reminder in reminders]):
        own = [reminders[index] for index in portion]
        where = [(row, position) for row, reminder in enumerate(own) for position in reminder.positions]
        edited = log_probs(lm, [reminder.ids for reminder in own], where)
        base = torch.cat([reminder.base for reminder in own]).to(edited.device, torch.float32)
        yield divergence(edited, base) * (len(where) / tokens)


def of_questions(questions: Sequence[Question]) -> list[Places]:
    """Each question's tokens, and where its answer is predicted."""
    return [(q.input_ids, tuple(range(q.last, q.last + len(q.answer_ids)))) for q in questions]


def of_texts(lm: LanguageModel, texts: Sequence[str]) -> list[Places]:
    """Each text's tokens, and every position that predicts one of them."""
    encoded = [lm.encode_text(text, cut=True) for text in texts]
    return [(ids, tuple(range(len(ids) - 1))) for ids in encoded if len(ids) > 1]


def _affordable(lm: LanguageModel, texts: Sequence[Places], seed: int) -> list[Places]:
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
def _ask_base(lm: LanguageModel, texts: Sequence[Places]) -> list[Reminder]:
    """What the base says of each of `texts`, in their order."""
    found: dict[int, Reminder] = {}
    for portion in portions(lm, [ids for ids, _positions in texts]):
        where = [(row, position) for row, index in enumerate(portion) for position in texts[index][1]]
        said = log_probs(lm, [texts[index][0] for index in portion], where).to("cpu", torch.float16)
        parts = torch.split(said, [len(texts[index][1]) for index in portion])
        found |= {index: Reminder(*texts[index], base.clone()) for index, base in zip(portion, parts, strict=True)}
    return [found[index] for index in range(len(texts))]
