"""τ2 found, not guessed: erasure against damage over a ladder of thresholds, and the knee within the limits.

Everything is measured on what an edit may see: the facts' prompts and edit prompts, the retained facts, and general
text. The held-out facts and phrasings that judge the edit play no part.

The knee is the point within the limits where erasure − damage is largest: erasure = 1 − P(answer) after / before,
damage = (1 − locality) + max(ΔPPL, 0), where locality is that of the worst ring; of equals the one that changes least.
What there is nothing to measure on adds no damage. Walking down, the ladder ends once 1 − locality or ΔPPL is past
2 · max(limit, `LENIENT`), since a lower τ2 only changes more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from torch import Tensor

from knowscope_tui.core.edits import EditSpec, Frontier, FrontierPoint, Limits, Method
from knowscope_tui.engine.deltas.change import SparseChange, made
from knowscope_tui.engine.methods.material import Material
from knowscope_tui.engine.methods.yardstick import Yardstick
from knowscope_tui.engine.methods.zeroing import shuffled, zeroing
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.errors import EditError

LADDER = tuple(round(0.5 * 0.72**step, 4) for step in range(18))
"""τ2 from .5 down to about .002, each 28 % below the one before."""

Thing = TypeVar("Thing")

MOST_RETAINED, MOST_TEXTS = 200, 60
"""How many retained facts and texts one point is measured on."""

LENIENT = 0.05
"""A limit below this is taken for this where it says when to stop: one fact among few would end the walk."""


def yardstick_of(lm: LanguageModel, spec: EditSpec, material: Material) -> Yardstick:
    """What the points of `spec` are measured with. Raises `EditError` where nothing would say which τ2 is good."""
    made = Yardstick(lm, spec.facts, _some(material.retained, MOST_RETAINED), _some(material.texts, MOST_TEXTS))
    if not made.measures_erasure:
        raise EditError(
            "The model gives the answer in none of the phrasings, so no τ2 can be seen to erase it.",
            "Give τ2 as a number, or check prompt and answer with `probe`.",
        )
    if not made.measures_damage:
        raise EditError(
            "There is neither a fact that the model is to keep nor any text, so no τ2 can be seen to do damage.",
            "Name facts that it knows with --retain, or give τ2 as a number.",
        )
    return made


def walk(
    lm: LanguageModel, spec: EditSpec, ratios: Mapping[int, Tensor], yardstick: Yardstick
) -> Iterator[tuple[Frontier, bool]]:
    """The frontier as it grows, a point at a time, and whether it is whole; the model is as it was in between.

    `ratios` are the highest of each entry, by layer (see `zeroing.reach`).
    """
    points: list[FrontierPoint] = []
    last_count = -1
    for tau2 in LADDER:
        masks = {layer: ratio > tau2 for layer, ratio in ratios.items()}
        if spec.method is Method.RANDOM:
            masks = shuffled(masks, spec.seed)
        changes = zeroing(lm, masks)
        count = sum(change.positions for change in changes)
        if not changes or count == last_count:
            continue
        last_count = count
        points.append(_measure(lm, yardstick, tau2, changes))
        yield frontier_of(spec.limits, points, yardstick.p_before), False
        if _ruined(points[-1], spec.limits):
            break
    yield frontier_of(spec.limits, points, yardstick.p_before), True


def _some(things: Sequence[Thing], most: int) -> tuple[Thing, ...]:
    """At most so many of `things`, evenly spread over them."""
    step = max(1, -(-len(things) // most))
    return tuple(things[::step])


def _measure(lm: LanguageModel, yardstick: Yardstick, tau2: float, changes: Sequence[SparseChange]) -> FrontierPoint:
    """One point: the changes made, measured, and taken back."""
    with made(lm.model, changes):
        seen = yardstick.look()
    return FrontierPoint(
        tau2=tau2,
        positions=sum(change.positions for change in changes),
        reliability=seen.reliability or 0.0,
        p_answer=seen.p_answer,
        locality=seen.locality,
        delta_ppl=seen.delta_ppl,
        rings=seen.rings,
    )


def frontier_of(limits: Limits, points: Sequence[FrontierPoint], p_before: float) -> Frontier:
    """The points with what is within the limits marked, and the knee among these.

    `p_before` is the mean P(answer) before anything was changed.
    """
    marked = tuple(
        replace(point, meets=limits.met_by(point.reliability, point.worst, point.delta_ppl)) for point in points
    )
    within = [index for index, point in enumerate(marked) if point.meets]
    chosen = max(within, key=lambda index: (_worth(marked[index], p_before), -index)) if within else None
    return Frontier(limits, marked, chosen)


def _worth(point: FrontierPoint, p_before: float) -> float:
    """Erasure less damage, to a hundredth: finer differences mean nothing."""
    erasure = 1 - point.p_answer / p_before if p_before > 0 else 0.0
    return round(erasure - _lost(point) - max(point.delta_ppl or 0.0, 0.0), 2)


def _lost(point: FrontierPoint) -> float:
    """1 − locality of the worst ring; 0 where there was none to measure on."""
    return 0.0 if point.worst is None else 1 - point.worst


def _ruined(point: FrontierPoint, limits: Limits) -> bool:
    past_locality = _lost(point) > 2 * max(1 - limits.min_locality, LENIENT)
    return past_locality or (point.delta_ppl or 0.0) > 2 * max(limits.max_delta_ppl, LENIENT)
