"""Means with a bootstrap interval: how far a figure would move on other facts of the same kind.

The percentile bootstrap (Efron 1979): the items are drawn again with replacement, `RESAMPLES` times, the mean taken of
each, and the middle 95 % of these means is the interval. Items that belong together (the paraphrases of one fact) are
drawn together. The draw is seeded, so that the same items always give the same interval. Where all of a share's items
agree every draw is the same and says nothing of others: its interval is Wilson's (1927), with as many trials as there
are groups.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from knowscope_tui.core.proof import Figure

RESAMPLES, SEED = 1000, 0
LOW, HIGH = 0.025, 0.975
NORMAL = 1.959964
"""The 97.5 % quantile of the standard normal distribution."""


def share(values: Sequence[float], groups: Sequence[Hashable] | None = None) -> Figure:
    """The mean of `values`; those of one group are drawn together."""
    if not values:
        return Figure()
    totals, counts = _by_group(values, range(len(values)) if groups is None else groups)
    value = sum(values) / len(values)
    if value in (0.0, 1.0) and min(values) == max(values):
        return Figure(value, len(values), *_wilson(value, len(totals)))
    return Figure(value, len(values), *_interval(_resampled(totals, counts), value))


def ratio_less_one(after: Sequence[float], before: Sequence[float], tokens: Sequence[int]) -> Figure:
    """exp(Σ after / Σ tokens) / exp(Σ before / Σ tokens) − 1 over texts, each drawn as a whole.

    `after` and `before` are the texts' summed negative log-probabilities, in nats.
    """
    if not tokens:
        return Figure()
    difference = torch.tensor(after, dtype=torch.float64) - torch.tensor(before, dtype=torch.float64)
    counts = torch.tensor(tokens, dtype=torch.float64)
    value = float((difference.sum() / counts.sum()).expm1())
    return Figure(value, len(tokens), *_interval(_resampled(difference, counts).expm1(), value))


def _by_group(values: Sequence[float], groups: Sequence[Hashable]) -> tuple[Tensor, Tensor]:
    """The sum and the number of values in each group."""
    totals: dict[Hashable, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        totals.setdefault(group, []).append(value)
    sums = torch.tensor([sum(own) for own in totals.values()], dtype=torch.float64)
    return sums, torch.tensor([len(own) for own in totals.values()], dtype=torch.float64)


def _resampled(totals: Tensor, counts: Tensor) -> Tensor:
    """The means of `RESAMPLES` draws of all groups, with replacement."""
    generator = torch.Generator().manual_seed(SEED)
    drawn = torch.randint(len(totals), (RESAMPLES, len(totals)), generator=generator)
    return totals[drawn].sum(dim=1) / counts[drawn].sum(dim=1)


def _wilson(value: float, trials: int) -> tuple[float, float]:
    """The score interval of a share that is `value`, 0 or 1, of all `trials`."""
    width = NORMAL**2 / (trials + NORMAL**2)
    return (0.0, width) if value == 0.0 else (1.0 - width, 1.0)


def _interval(means: Tensor, value: float) -> tuple[float, float]:
    low, high = torch.quantile(means, torch.tensor([LOW, HIGH], dtype=torch.float64)).tolist()
    return min(low, value), max(high, value)
