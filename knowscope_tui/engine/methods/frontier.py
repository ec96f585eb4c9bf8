"""τ2 found, not guessed: erasure against damage over a ladder of thresholds, and the knee within the limits.

Everything is measured on what an edit may see: the facts' prompts and edit prompts, the retained facts, and general
text. The held-out facts and phrasings that judge the edit play no part.

The knee is the point within the limits where erasure − damage is largest: erasure = 1 − P(answer) after / before,
damage = (1 − locality) + max(ΔPPL, 0), where locality is that of the worst ring; of equals the one that changes least.
Walking down, the ladder ends once damage is past twice what the limits allow, since a lower τ2 only changes more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import Tensor

from knowscope_tui.core.edits import EditSpec, Frontier, FrontierPoint, Limits, Method
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.rings import rings_of
from knowscope_tui.engine.deltas.change import SparseChange, made
from knowscope_tui.engine.methods.evidence import questions_about
from knowscope_tui.engine.methods.material import Material
from knowscope_tui.engine.methods.zeroing import shuffled, zeroing
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.proof.evaluate import Known, know, perplexity

LADDER = tuple(round(0.5 * 0.72**step, 4) for step in range(18))
"""τ2 from .5 down to about .002, each 28 % below the one before."""

Thing = TypeVar("Thing")

MOST_RETAINED, MOST_TEXTS = 200, 60
"""How many retained facts and texts one point is measured on."""


@dataclass(frozen=True)
class _Yardstick:
    """What the model knew before, on everything a point is measured on."""

    spec: EditSpec
    asked_before: tuple[Known, ...]
    """Of each phrasing of each fact."""
    retained: tuple[Fact, ...]
    retained_before: tuple[Known, ...]
    texts: tuple[str, ...]
    perplexity_before: float | None


def walk(
    lm: LanguageModel, spec: EditSpec, ratios: Mapping[int, Tensor], material: Material
) -> Iterator[tuple[Frontier, bool]]:
    """The frontier as it grows, a point at a time, and whether it is whole; the model is as it was in between.

    `ratios` are the highest of each entry, by layer (see `zeroing.reach`).
    """
    yardstick = _yardstick(lm, spec, material)
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
        yield _frontier(spec.limits, points, yardstick), False
        if _ruined(points[-1], spec.limits):
            break
    yield _frontier(spec.limits, points, yardstick), True


def _yardstick(lm: LanguageModel, spec: EditSpec, material: Material) -> _Yardstick:
    questions = questions_about(lm, spec.facts)
    retained = _some(material.retained, MOST_RETAINED)
    texts = _some(material.texts, MOST_TEXTS)
    return _Yardstick(
        spec=spec,
        asked_before=tuple(know(lm, questions)),
        retained=retained,
        retained_before=tuple(know(lm, [lm.ask(fact.prompt, fact.answer) for fact in retained])),
        texts=texts,
        perplexity_before=perplexity(lm, texts) if texts else None,
    )


def _some(things: Sequence[Thing], most: int) -> tuple[Thing, ...]:
    """At most so many of `things`, evenly spread over them."""
    step = max(1, -(-len(things) // most))
    return tuple(things[::step])


def _measure(lm: LanguageModel, yardstick: _Yardstick, tau2: float, changes: Sequence[SparseChange]) -> FrontierPoint:
    """One point: the changes made, measured, and taken back."""
    with made(lm.model, changes):
        asked = know(lm, questions_about(lm, yardstick.spec.facts))
        retained = know(lm, [lm.ask(fact.prompt, fact.answer) for fact in yardstick.retained])
        after = perplexity(lm, yardstick.texts) if yardstick.texts else None
    kept = [
        (fact, float(now.top))
        for fact, was, now in zip(yardstick.retained, yardstick.retained_before, retained, strict=True)
        if was.top
    ]
    gone = [float(not now.top) for was, now in zip(yardstick.asked_before, asked, strict=True) if was.top]
    before = yardstick.perplexity_before
    return FrontierPoint(
        tau2=tau2,
        positions=sum(change.positions for change in changes),
        reliability=_mean(gone, 0.0),
        p_answer=_mean([now.p for now in asked], 0.0),
        locality=_mean([value for _fact, value in kept], 1.0),
        delta_ppl=after / before - 1 if before and after else 0.0,
        rings={ring: _mean(values, 1.0) for ring, values in rings_of(kept, yardstick.spec.facts).items()},
    )


def _mean(values: Sequence[float], empty: float) -> float:
    return sum(values) / len(values) if values else empty


def _frontier(limits: Limits, points: Sequence[FrontierPoint], yardstick: _Yardstick) -> Frontier:
    """The points with what is within the limits marked, and the knee among these."""
    marked = tuple(_marked(point, limits) for point in points)
    p_before = _mean([known.p for known in yardstick.asked_before], 0.0)
    within = [index for index, point in enumerate(marked) if point.meets]
    chosen = max(within, key=lambda index: (_worth(marked[index], p_before), -index)) if within else None
    return Frontier(limits, marked, chosen)


def _marked(point: FrontierPoint, limits: Limits) -> FrontierPoint:
    meets = (
        point.reliability >= limits.min_reliability
        and point.worst >= limits.min_locality
        and point.delta_ppl <= limits.max_delta_ppl
    )
    return replace(point, meets=meets)


def _worth(point: FrontierPoint, p_before: float) -> float:
    """Erasure less damage, to a hundredth: finer differences mean nothing."""
    erasure = 1 - point.p_answer / p_before if p_before > 0 else 0.0
    return round(erasure - (1 - point.worst) - max(point.delta_ppl, 0.0), 2)


def _ruined(point: FrontierPoint, limits: Limits) -> bool:
    """Whether damage is past twice what is allowed."""
    past_locality = 1 - point.worst > 2 * max(1 - limits.min_locality, 0.05)
    return past_locality or point.delta_ppl > 2 * max(limits.max_delta_ppl, 0.05)
