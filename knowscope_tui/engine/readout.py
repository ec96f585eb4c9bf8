"""From the residual stream to P(answer), without the logits of a whole vocabulary ever being there at once.

log P(token) = logit − log Σ exp(logits). The unembedding is taken a chunk of the vocabulary at a time; of each chunk
only the answer's logit and the log-sum-exp are kept. Norm, unembedding and softcap are the model's own, in its dtype;
the sums are in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from knowscope_tui.core.progress import unstopped
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.sites import final_norm, logit_softcap, unembedding
from knowscope_tui.engine.transfer import upload

CHUNK_BYTES = {"cpu": 1 << 23, "cuda": 1 << 28}
"""What the float32 logits of one chunk of the vocabulary may take: on a processor its caches should hold them, and on
a GPU each chunk is a launch of its own."""


@torch.no_grad()
def logits_of(lm: LanguageModel, hidden: Tensor) -> Tensor:
    """Logits of the whole vocabulary, as the model computes them: (..., d_model) → (..., vocabulary)."""
    return _capped_(lm, unembedding(lm.model)(final_norm(lm.model)(hidden)))


def _capped_(lm: LanguageModel, logits: Tensor) -> Tensor:
    """Logits as the model's softcap has them. What it is given is overwritten."""
    cap = logit_softcap(lm.model)
    return logits if cap is None else logits.div_(cap).tanh_().mul_(cap)


@torch.no_grad()
def token_log_probs(lm: LanguageModel, hidden: Tensor, tokens: Tensor, check: Callable[[], None] = unstopped) -> Tensor:
    """log P of one token a row: hidden (n, d_model), tokens (n,) → (n,), float32.

    `check` is called before each chunk and may raise to cancel.
    """
    head = unembedding(lm.model)
    normed = final_norm(lm.model)(hidden).to(head.weight.device)
    tokens = tokens.to(normed.device)
    vocabulary = head.weight.shape[0]
    chunk = CHUNK_BYTES.get(normed.device.type, CHUNK_BYTES["cpu"])
    width = max(1, min(vocabulary, chunk // (4 * max(1, len(hidden)))))
    answer = torch.zeros(len(hidden), device=normed.device)
    sums: list[Tensor] = []
    for start in range(0, vocabulary, width):
        check()
        end = min(start + width, vocabulary)
        bias = None if head.bias is None else head.bias[start:end]
        logits = _capped_(lm, torch.nn.functional.linear(normed, head.weight[start:end], bias)).to(torch.float32)
        inside = (tokens >= start) & (tokens < end)
        own = logits.gather(1, (tokens - start).clamp(0, end - start - 1)[:, None])[:, 0]
        answer = torch.where(inside, own, answer)
        sums.append(_log_sum_exp_(logits))
    return answer - torch.logsumexp(torch.stack(sums), dim=0)


def _log_sum_exp_(logits: Tensor) -> Tensor:
    """log Σ exp over the last dimension: (n, m) → (n,). What it is given is overwritten."""
    largest = logits.amax(dim=-1, keepdim=True)
    return logits.sub_(largest).exp_().sum(dim=-1).log_() + largest[:, 0]


class AnswerReadout:
    """log P(answer) for rows that each belong to one of `questions` and start at its token in `starts`."""

    def __init__(self, lm: LanguageModel, questions: Sequence[Question], starts: Sequence[int]) -> None:
        self._lm = lm
        n_most = max(len(question.answer_ids) for question in questions)
        self._tokens = torch.zeros(len(questions), n_most, dtype=torch.long)
        self._offsets = torch.full((len(questions), n_most), -1, dtype=torch.long)
        """Which of a row's tokens predicts each answer token; −1 behind the answer's end. (facts, n_answer) both."""
        for fact, (question, start) in enumerate(zip(questions, starts, strict=True)):
            n_answer = len(question.answer_ids)
            self._tokens[fact, :n_answer] = torch.tensor(question.answer_ids)
            self._offsets[fact, :n_answer] = torch.arange(question.last - start, question.last - start + n_answer)

    def log_probs(self, hidden: Tensor, facts: Tensor, check: Callable[[], None] = unstopped) -> Tensor:
        """hidden (rows, tokens, d_model), facts (rows,) on the host → (rows,), float32."""
        rows, tokens, d_model = hidden.shape
        offsets = self._offsets[facts]  # (rows, n_answer)
        row, slot = (offsets >= 0).nonzero(as_tuple=True)  # (n,) both
        places = upload(row * tokens + offsets[row, slot], hidden.device)
        wanted = upload(self._tokens[facts[row], slot], hidden.device)
        each = token_log_probs(self._lm, hidden.reshape(-1, d_model)[places], wanted, check)  # (n,)
        return torch.zeros(rows, device=each.device).index_add_(0, upload(row, each.device), each)
