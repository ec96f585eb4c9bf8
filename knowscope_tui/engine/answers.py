"""How probable an answer is: the one place that turns logits into the numbers the rest of the program speaks of.

Logits given here may be those of the whole input or of its end alone: they end where the answer's last token is
predicted, so that an answer of n tokens has the last n.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from knowscope_tui.core.readings import TokenProb
from knowscope_tui.engine.model import LanguageModel, Question


def at_answer(logits: Tensor, question: Question) -> Tensor:
    """The logits that predict the answer: (..., pos, vocabulary) → (..., n_answer, vocabulary)."""
    return logits[..., -len(question.answer_ids) :, :]


def token_log_probs(logits: Tensor, question: Question) -> Tensor:
    """Log-probability of each answer token, teacher-forced: logits (batch, pos, vocabulary) → (batch, n_answer)."""
    answer_logits = at_answer(logits, question).to(torch.float32)
    ids = torch.tensor(question.answer_ids, device=logits.device)
    log_probs = torch.log_softmax(answer_logits, dim=-1)
    return log_probs.gather(-1, ids.expand(len(logits), -1)[..., None])[..., 0]


def answer_log_prob(logits: Tensor, question: Question) -> Tensor:
    """log P(answer), the sum over its tokens: logits (batch, pos, vocabulary) → (batch,)."""
    return token_log_probs(logits, question).sum(dim=-1)


def probability(logits: Tensor, question: Question) -> float:
    """P(answer): logits (pos, vocabulary)."""
    return float(answer_log_prob(logits[None], question)[0].exp())


def is_top(logits: Tensor, question: Question) -> Tensor:
    """Whether greedy decoding gives the whole answer: logits (batch, pos, vocabulary) → (batch,) bool."""
    ids = torch.tensor(question.answer_ids, device=logits.device)
    return (at_answer(logits, question).argmax(dim=-1) == ids).all(dim=-1)


def answer_rank(logits: Tensor, question: Question) -> int:
    """Rank of the answer's first token among all next tokens, from 1: logits (pos, vocabulary)."""
    next_logits = at_answer(logits, question)[0]
    return int((next_logits > next_logits[question.answer_ids[0]]).sum()) + 1


def top_tokens(logits: Tensor, question: Question, lm: LanguageModel, count: int = 10) -> tuple[TokenProb, ...]:
    """The most probable tokens after the prompt: logits (pos, vocabulary)."""
    p = torch.softmax(at_answer(logits, question)[0].to(torch.float32), dim=-1)
    best = p.topk(min(count, len(p)))
    return tuple(
        TokenProb(lm.text(token), value)
        for token, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    )


@torch.no_grad()
def forward(lm: LanguageModel, question: Question) -> Tensor:
    """Logits of one question, (pos, vocabulary), through the model as it stands, hooks included."""
    logits: Tensor = lm.model(input_ids=lm.tensor([question.input_ids]), use_cache=False).logits[0]
    return logits


def batches(questions: Sequence[Question], size: int) -> list[list[int]]:
    """Indices of `questions` in batches of like length, so that little is spent on padding."""
    order = sorted(range(len(questions)), key=lambda index: len(questions[index].input_ids))
    return [order[start : start + size] for start in range(0, len(order), size)]
