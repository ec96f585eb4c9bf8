"""What brings an answer down, or a new one up: per token, from log-probabilities or logits (tokens, vocabulary)."""

from __future__ import annotations

import torch
from torch import Tensor


def leads(log_probs: Tensor, tokens: Tensor, wins: Tensor) -> Tensor:
    """By how many nats each token is from where it should be: (tokens,). Logits will do as well.

    log P(token) − log P(best other) where it is to lose, the other way round where `wins`.
    """
    own = log_probs.gather(1, tokens[:, None])[:, 0]
    other = log_probs.scatter(1, tokens[:, None], -torch.inf).amax(dim=1)
    return torch.where(wins, other - own, own - other)


def hinge(log_probs: Tensor, tokens: Tensor, wins: Tensor, margins: Tensor) -> Tensor:
    """Mean of max(0, lead + margin)."""
    return torch.relu(leads(log_probs, tokens, wins) + margins).mean()


def unlikelihood(log_probs: Tensor, tokens: Tensor, wins: Tensor) -> Tensor:
    """Mean of −log(1 − P(token)) where it is to lose, of −log P(token) where `wins` (Welleck et al. 2020)."""
    own = log_probs.gather(1, tokens[:, None])[:, 0]
    down = -torch.log1p(-own.exp().clamp(max=1 - 1e-6))
    return torch.where(wins, -own, down).mean()


def divergence(log_probs: Tensor, base: Tensor) -> Tensor:
    """KL(base ‖ edited) in nats, the mean over tokens."""
    return torch.nn.functional.kl_div(log_probs, base, log_target=True, reduction="batchmean")
