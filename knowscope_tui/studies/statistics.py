"""Means, differences, ratios and effect sizes with 95 % intervals, and whether they bear a claim out.

Intervals come from the bootstrap (Efron 1979): the items are drawn again with replacement, `RESAMPLES` times, and the
middle 95 % of the figure over these draws is the interval, corrected for bias and skew (BCa, Efron 1987;
`scipy.stats.bootstrap`), or plainly the percentiles where that correction is not defined. All draws are seeded: the
same values always give the same interval. A value that is not finite was not measured, and is left out.

Where nothing can be said, nothing is said: no items have no value, one item has no interval, and a ratio whose
denominator could as well be zero has none either.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from knowscope_tui.core.studies import Estimate, PaperClaim, Verdict

CONFIDENCE, RESAMPLES, SEED = 0.95, 9999, 0
RESAMPLED_AT_ONCE = 1 << 21
"""Values of resamples that are in memory at a time."""

FEWEST = 6
"""Items from which on a claim is decided. Of five, even if all point the same way, a sign test gives p = .06."""

Values = NDArray[np.float64]
Figure = Callable[..., Any]
"""Works out a figure along `axis` of one sample or two."""


def mean_interval(values: Sequence[float]) -> Estimate:
    """The mean. Of values that are all 0 or 1 (a share) the interval is Wilson's (1927), no point at 0 or 1."""
    own = _finite(values)
    if len(own) < 2:
        return Estimate(_only(own), items=len(own))
    mean = float(own.mean())
    if np.isin(own, (0.0, 1.0)).all():
        interval = stats.binomtest(int(own.sum()), len(own)).proportion_ci(CONFIDENCE, method="wilson")
        return Estimate(mean, float(interval.low), float(interval.high), len(own))
    return _estimate((own,), np.mean, paired=False)


def difference_interval(a: Sequence[float], b: Sequence[float], paired: bool = False) -> Estimate:
    """mean(a) − mean(b); `paired`: a[i] and b[i] are of one item. Lengths must agree then (`ValueError`)."""
    if paired:
        left, right = _finite_pairs(a, b)
        differences = left - right
        if len(differences) < 2:
            return Estimate(_only(differences), items=len(differences))
        return _estimate((differences,), np.mean, paired=False)
    left, right = _finite(a), _finite(b)
    if min(len(left), len(right)) < 2:
        value = float(left.mean() - right.mean()) if len(left) and len(right) else None
        return Estimate(value, items=min(len(left), len(right)))
    return _estimate((left, right), _difference, paired=False)


def ratio_interval(a: Sequence[float], b: Sequence[float], paired: bool = True) -> Estimate:
    """mean(a) / mean(b), or no value where mean(b) is 0, and no interval where it is not clearly above 0 (Fieller 1954:
    the interval of such a ratio has no ends). `paired` as in `difference_interval`."""
    left, right = _finite_pairs(a, b) if paired else (_finite(a), _finite(b))
    items = min(len(left), len(right))
    if not items or right.mean() == 0.0:
        return Estimate(items=items)
    value = float(left.mean() / right.mean())
    below = mean_interval(list(right)).low
    if items < 2 or below is None or below <= 0.0:
        return Estimate(value, items=items)
    return _estimate((left, right), _ratio, paired=paired)


def effect_size(a: Sequence[float], b: Sequence[float]) -> float:
    """Cohen's d without an interval; NaN where nothing can be said."""
    left, right = _finite(a), _finite(b)
    if min(len(left), len(right)) < 2:
        return float("nan")
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(_standardized(left, right))
    if not np.isfinite(value):
        return 0.0 if left.mean() == right.mean() else float("nan")
    return value


def welch(a: Sequence[float], b: Sequence[float]) -> float:
    """The two-sided p of Welch's t-test (1947); NaN where a sample has less than two values or nothing varies."""
    left, right = _finite(a), _finite(b)
    if min(len(left), len(right)) < 2 or (np.ptp(left) == 0.0 and np.ptp(right) == 0.0):
        return float("nan")
    return float(stats.ttest_ind(left, right, equal_var=False).pvalue)


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> float:
    """The two-sided p of the Mann-Whitney U test (1947), ties allowed for; NaN where a sample is empty.

    With ties scipy takes the normal approximation however few the values are. The result is never below
    2 / C(n + m, n), the least that an exact test of as many values can give, so that samples with ties have no lead.
    """
    left, right = _finite(a), _finite(b)
    if not len(left) or not len(right):
        return float("nan")
    if np.ptp(np.concatenate([left, right])) == 0.0:
        return 1.0
    least = 2.0 / math.comb(len(left) + len(right), len(left))
    return max(float(stats.mannwhitneyu(left, right, alternative="two-sided").pvalue), min(least, 1.0))


def bimodality(values: Sequence[float]) -> float:
    """Sarle's coefficient with the finite-sample correction (SAS Institute 1990; Pfister et al. 2013): (skew² + 1) /
    (excess kurtosis + 3 (n − 1)² / ((n − 2)(n − 3))). Above 5/9, the uniform's, it suggests two modes; NaN for less
    than four values, or equal ones."""
    own = _finite(values)
    n = len(own)
    if n < 4 or np.ptp(own) == 0.0:
        return float("nan")
    skew = float(stats.skew(own, bias=False))
    kurtosis = float(stats.kurtosis(own, bias=False))
    return (skew**2 + 1.0) / (kurtosis + 3.0 * (n - 1) ** 2 / ((n - 2) * (n - 3)))


def decide(text: str, paper: str, ours: Estimate, threshold: float = 0.0, *, most: float = math.inf) -> PaperClaim:
    """A claim holds where the whole interval lies above `threshold`, does not hold where none of it does, and is
    undecided otherwise: also without an interval, with less than `FEWEST` items, and where `most`, the largest value
    that the figure can take on these items, is not above it, so that no result could have borne the claim out."""
    verdict = Verdict.UNDECIDED
    if ours.low is not None and ours.high is not None and ours.items >= FEWEST and most > threshold:
        if ours.low > threshold:
            verdict = Verdict.HOLDS
        elif ours.high <= threshold:
            verdict = Verdict.DOES_NOT
    return PaperClaim(text, paper, ours, threshold, verdict)


# --- the bootstrap --------------------------------------------------------------------------------------------------


def _estimate(samples: tuple[Values, ...], figure: Figure, *, paired: bool) -> Estimate:
    """`figure` of `samples`, which have two values at least, with its interval."""
    value = float(figure(*samples, axis=-1))
    low, high = _interval(samples, figure, paired=paired)
    items = min(len(sample) for sample in samples)
    return Estimate(value, min(low, value), max(high, value), items)


def _interval(samples: tuple[Values, ...], figure: Figure, *, paired: bool) -> tuple[float, float]:
    settings: dict[str, Any] = {
        "n_resamples": RESAMPLES,
        "batch": max(RESAMPLED_AT_ONCE // max(len(sample) for sample in samples), 1),
        "vectorized": True,
        "paired": paired,
        "confidence_level": CONFIDENCE,
    }
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        # A degenerate sample is told from its bounds, which are not finite.
        warnings.simplefilter("ignore")
        found = stats.bootstrap(samples, figure, method="BCa", random_state=np.random.default_rng(SEED), **settings)
    low, high = float(found.confidence_interval.low), float(found.confidence_interval.high)
    if np.isfinite(low) and np.isfinite(high):
        return low, high
    drawn = found.bootstrap_distribution[np.isfinite(found.bootstrap_distribution)]
    if not len(drawn):
        return float("nan"), float("nan")
    tail = (1.0 - CONFIDENCE) / 2.0
    return float(np.quantile(drawn, tail)), float(np.quantile(drawn, 1.0 - tail))


def _difference(a: Values, b: Values, axis: int = -1) -> Any:
    return a.mean(axis=axis) - b.mean(axis=axis)


def _ratio(a: Values, b: Values, axis: int = -1) -> Any:
    return a.mean(axis=axis) / b.mean(axis=axis)


def _standardized(a: Values, b: Values, axis: int = -1) -> Any:
    n, m = a.shape[axis], b.shape[axis]
    pooled = ((n - 1) * a.var(axis=axis, ddof=1) + (m - 1) * b.var(axis=axis, ddof=1)) / (n + m - 2)
    return (a.mean(axis=axis) - b.mean(axis=axis)) / np.sqrt(pooled)


def _finite(values: Sequence[float]) -> Values:
    own = np.asarray(values, dtype=np.float64)
    return own[np.isfinite(own)]


def _finite_pairs(a: Sequence[float], b: Sequence[float]) -> tuple[Values, Values]:
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if left.shape != right.shape:
        raise ValueError(f"Pairs were told of {len(left)} and {len(right)} values.")
    both = np.isfinite(left) & np.isfinite(right)
    return left[both], right[both]


def _only(values: Values) -> float | None:
    return float(values[0]) if len(values) else None
