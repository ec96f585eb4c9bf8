"""Figures with their intervals, against what can be worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from knowscope_tui.core.proof import Figure
from knowscope_tui.engine.proof.figures import NORMAL, RESAMPLES, SEED, ratio_less_one, share


def test_nothing_is_no_figure() -> None:
    assert share([]) == Figure()
    assert ratio_less_one([], [], []) == Figure()


def test_items_of_one_group_are_drawn_together() -> None:
    """Two groups, one all right and one all wrong: a draw of two gives 0, ½ or 1, and the interval says so."""
    values, groups = [1.0] * 50 + [0.0] * 50, ["a"] * 50 + ["b"] * 50
    together = share(values, groups)
    assert (together.value, together.items) == (0.5, 100)
    assert (together.low, together.high) == (0.0, 1.0)
    apart = share(values)
    assert apart.low is not None
    assert apart.high is not None
    assert 0.38 < apart.low < 0.44 < 0.56 < apart.high < 0.62


def test_a_group_counts_by_its_size() -> None:
    """By hand: the mean of a draw is the drawn items' sum over their number, not the mean of means."""
    values, groups = [1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"]
    drawn = torch.randint(2, (RESAMPLES, 2), generator=torch.Generator().manual_seed(SEED))
    means = torch.tensor([3.0, 0.0])[drawn].sum(1) / torch.tensor([3.0, 1.0])[drawn].sum(1)
    expected = torch.quantile(means.double(), torch.tensor([0.025, 0.975], dtype=torch.float64))
    found = share(values, groups)
    assert (found.low, found.high) == pytest.approx(tuple(expected.tolist()))
    assert found.value == 0.75


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_items_that_all_agree_still_leave_a_doubt(value: float) -> None:
    """Wilson's interval solves (p − v)² = z² p (1 − p) / n for p: its inner end is put back into that equation."""
    found = share([value] * 20)
    assert found.low is not None
    assert found.high is not None
    inner = found.high if value == 0.0 else found.low
    assert (inner - value) ** 2 == pytest.approx(NORMAL**2 * inner * (1 - inner) / 20)
    assert (found.low if value == 0.0 else found.high) == value
    grouped = share([value] * 20, [number // 5 for number in range(20)])
    assert grouped.low is not None
    assert grouped.high is not None
    assert grouped.high - grouped.low > found.high - found.low, "four groups say less than twenty items"


def test_perplexity_moves_by_what_is_added_to_every_token() -> None:
    before, tokens = [10.0, 30.0, 20.0], [5, 10, 5]
    after = [nats + 0.01 * count for nats, count in zip(before, tokens, strict=True)]
    found = ratio_less_one(after, before, tokens)
    assert found.value == pytest.approx(math.expm1(0.01))
    assert (found.low, found.high) == pytest.approx((found.value, found.value))
    assert found.items == 3
