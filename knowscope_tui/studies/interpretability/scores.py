"""How good an explanation is, by what can be foretold with it.

- simulation (the interpretability score, IS; Bills et al. 2023): the Pearson correlation of foretold and real
  activations over the concatenated tokens of held-out sentences;
- detection and fuzzing (Paulo et al. 2024, arXiv 2410.13928): the area under the ROC curve of telling sentences in
  which the unit fires from others, and tokens on which it fires from others of the same sentence. .5 is chance.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from knowscope_tui.studies.interpretability.contexts import Shown, Values

SCORED = 10
"""Sentences with the highest activations that are scored, and as many drawn from the rest."""

FIRES, SILENT = 0.5, 0.1
"""Shares of a unit's largest activation: where it reaches the one it fires, where it stays below the other it is
silent."""

FEWEST = 3
"""Sentences of each sort below which nothing is said."""


def pearson(foretold: Sequence[float], real: Sequence[float]) -> float | None:
    """The correlation; None where the real values do not vary, 0 where only the foretold ones do not."""
    if len(real) < 2 or np.ptp(real) == 0.0:
        return None
    if np.ptp(foretold) == 0.0:
        return 0.0
    return float(np.corrcoef(foretold, real)[0, 1])


def area(foretold: Sequence[float], true: Sequence[bool]) -> float | None:
    """The area under the ROC curve, ties counted half (Mann-Whitney's U over n·m); None where one sort is missing."""
    values, sort = np.asarray(foretold, dtype=np.float64), np.asarray(true, dtype=bool)
    n, m = int(sort.sum()), int((~sort).sum())
    if not n or not m:
        return None
    ranks = stats.rankdata(values)
    return float((ranks[sort].sum() - n * (n + 1) / 2) / (n * m))


def scored(shown: Shown, rng: random.Random) -> list[int]:
    """The contexts that simulation is scored on: those with the highest activations, and a draw of the rest."""
    order = [int(index) for index in np.argsort(-shown.peaks, kind="stable")]
    rest = order[SCORED:]
    return sorted([*order[:SCORED], *rng.sample(rest, min(SCORED, len(rest)))])


def told_apart(shown: Shown, largest: float, rng: random.Random) -> tuple[list[int], list[bool]]:
    """Contexts in which the unit fires and in which it is silent, mixed, and which is which; () where there are few."""
    firing = [int(index) for index in np.nonzero(shown.peaks >= FIRES * largest)[0]]
    silent = [int(index) for index in np.nonzero(shown.peaks <= SILENT * largest)[0]]
    if largest <= 0 or min(len(firing), len(silent)) < FEWEST:
        return [], []
    pairs = [(index, True) for index in rng.sample(firing, min(SCORED, len(firing)))]
    pairs += [(index, False) for index in rng.sample(silent, min(SCORED, len(silent)))]
    rng.shuffle(pairs)
    return [index for index, _fires in pairs], [fires for _index, fires in pairs]


@dataclass(frozen=True)
class Marked:
    """A context with some tokens marked: those on which the unit fires (`right`), or as many others."""

    context: int
    places: tuple[int, ...]
    right: bool


def marked(shown: Shown, largest: float, rng: random.Random) -> list[Marked]:
    """Contexts in which the unit fires, half of them with the right tokens marked; () where there are few."""
    firing = [int(index) for index in np.nonzero(shown.peaks >= FIRES * largest)[0]]
    if largest <= 0 or len(firing) < 2 * FEWEST:
        return []
    made = []
    for number, index in enumerate(rng.sample(firing, min(2 * SCORED, len(firing)))):
        values: Values = shown.values[index]
        on = [int(place) for place in np.nonzero(values >= FIRES * values.max())[0]]
        off = [place for place in range(len(values)) if place not in on]
        if number % 2 == 0:
            made.append(Marked(index, tuple(on), True))
        elif off:
            made.append(Marked(index, tuple(sorted(rng.sample(off, min(len(on), len(off))))), False))
    return made
