"""Intervals and tests against scipy and numpy by hand, and what is said where nothing can be said."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from knowscope_tui.core.studies import Estimate, Verdict
from knowscope_tui.studies import statistics as of

A = [0.9, 0.4, 0.75, 0.2, 0.66, 0.81, 0.35, 0.5, 0.95, 0.12]
B = [0.3, 0.1, 0.45, 0.15, 0.26, 0.41, 0.2, 0.33, 0.5, 0.05]


def whole(estimate: Estimate) -> tuple[float, float, float]:
    """Value and bounds of an estimate that has them."""
    assert estimate.value is not None
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.value, estimate.low, estimate.high


def test_mean_is_scipys_bootstrap():
    found = of.mean_interval(A)
    own = stats.bootstrap((A,), np.mean, method="BCa", random_state=np.random.default_rng(of.SEED))
    assert found.value == pytest.approx(np.mean(A))
    assert (found.low, found.high) == pytest.approx(tuple(own.confidence_interval))
    assert found.items == len(A)
    assert of.mean_interval(A) == found


def test_a_share_has_wilsons_interval_and_is_never_certain():
    every = of.mean_interval([1.0] * 10)
    z2 = stats.norm.ppf(0.975) ** 2
    assert every.high == pytest.approx(1.0)
    assert every.low == pytest.approx(10 / (10 + z2))


def test_paired_difference_is_the_mean_of_differences():
    paired = of.difference_interval(A, B, paired=True)
    assert paired == of.mean_interval([a - b for a, b in zip(A, B, strict=True)])
    (mean, low, high), (_, below, above) = whole(of.difference_interval(A, B)), whole(paired)
    assert mean == pytest.approx(paired.value)
    assert high - low > above - below
    other, start, end = whole(of.difference_interval(B, A))
    assert (other, start, end) == pytest.approx((-mean, -high, -low), abs=0.03)
    with pytest.raises(ValueError, match="10 and 9"):
        of.difference_interval(A, B[:-1], paired=True)


def test_ratio_of_a_multiple_is_that_multiple():
    tripled = of.ratio_interval([3 * b for b in B], B)
    assert (tripled.value, tripled.low, tripled.high) == pytest.approx((3.0, 3.0, 3.0))
    value, low, high = whole(of.ratio_interval(A, B))
    assert value == pytest.approx(sum(A) / sum(B))
    assert low < value < high


def test_ratio_to_what_may_be_zero_has_no_interval():
    around_zero = [0.1, -0.1, 0.2, -0.15, 0.05, -0.02, 0.01, 0.0]
    found = of.ratio_interval(A[:8], around_zero)
    assert found.value == pytest.approx(sum(A[:8]) / sum(around_zero))
    assert (found.low, found.high) == (None, None)
    assert of.ratio_interval(A, [0.0] * len(A)) == Estimate(items=len(A))
    assert of.decide("more", "–", found).verdict is Verdict.UNDECIDED


def test_effect_size_and_its_signs():
    pooled = math.sqrt((np.var(A, ddof=1) + np.var(B, ddof=1)) / 2)
    assert of.effect_size(A, B) == pytest.approx((np.mean(A) - np.mean(B)) / pooled)
    assert of.effect_size(B, A) == pytest.approx(-of.effect_size(A, B))
    assert of.effect_size([1.0] * 4, [1.0] * 4) == 0.0
    assert math.isnan(of.effect_size([2.0] * 4, [1.0] * 4))


def test_ties_have_no_lead_over_values_that_are_as_far_apart():
    without_ties = of.mann_whitney([2.0, 3.0], list(np.linspace(0, 1, 40)))
    assert without_ties == pytest.approx(2 / math.comb(42, 2))
    assert of.mann_whitney([2.0, 3.0], [0.0] * 40) == pytest.approx(without_ties)


def test_p_values_are_scipys():
    assert of.welch(A, B) == stats.ttest_ind(A, B, equal_var=False).pvalue
    assert of.mann_whitney(A, B) == stats.mannwhitneyu(A, B).pvalue
    assert of.mann_whitney([1.0] * 5, [1.0] * 5) == 1.0
    assert math.isnan(of.welch([1.0], B))
    assert math.isnan(of.mann_whitney([], B))


def test_two_heaps_are_more_bimodal_than_one():
    draw = np.random.default_rng(0)
    one = draw.normal(size=4000)
    two = np.concatenate([draw.normal(-4, 1, 2000), draw.normal(4, 1, 2000)])
    assert of.bimodality(list(draw.uniform(size=4000))) == pytest.approx(5 / 9, abs=0.01)
    assert of.bimodality(list(one)) == pytest.approx(1 / 3, abs=0.02)
    assert of.bimodality(list(two)) > 5 / 9
    assert math.isnan(of.bimodality([1.0] * 10))
    assert math.isnan(of.bimodality([1.0, 2.0, 3.0]))


@pytest.mark.parametrize("figure", [of.mean_interval, lambda v: of.difference_interval(v, v, paired=True)])
def test_few_values_give_no_interval(figure):
    assert figure([]) == Estimate()
    assert figure([0.5]).items == 1
    assert (figure([0.5]).low, figure([0.5]).high) == (None, None)
    assert figure([0.5, 0.5, float("nan")]).items == 2


def test_equal_values_have_a_point_and_do_not_fail():
    assert of.mean_interval([0.25] * 8) == Estimate(0.25, 0.25, 0.25, 8)
    assert of.difference_interval([0.25] * 8, [0.5] * 8) == Estimate(-0.25, -0.25, -0.25, 8)


@pytest.mark.parametrize(
    ("low", "high", "items", "verdict"),
    [
        (0.1, 0.5, 20, Verdict.HOLDS),
        (-0.1, 0.5, 20, Verdict.UNDECIDED),
        (-0.5, -0.1, 20, Verdict.DOES_NOT),
        (0.1, 0.5, of.FEWEST - 1, Verdict.UNDECIDED),
        (None, None, 20, Verdict.UNDECIDED),
    ],
)
def test_what_decides(low, high, items, verdict):
    assert of.decide("a > b", "–", Estimate(0.2, low, high, items)).verdict is verdict


def test_intervals_cover_about_as_often_as_they_say(monkeypatch):
    monkeypatch.setattr(of, "RESAMPLES", 999)
    draw = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        _value, low, high = whole(of.mean_interval(list(draw.exponential(size=30))))
        covered += low <= 1.0 <= high
    assert 0.87 <= covered / 200 <= 0.99
