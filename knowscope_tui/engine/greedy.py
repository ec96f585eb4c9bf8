"""The smallest set of units that brings P(answer) below a target, found greedily.

1. Every candidate is zeroed alone, exactly; the one that leaves P lowest is taken.
2. The candidates that did most by themselves are each zeroed beside those taken, exactly again, and so on until P is
   low enough, until nothing lowers it, or until the set is as large as it may be.
3. Each unit whose return keeps P low enough is let go, the first taken first.

Features' effects do not add up, so a smaller set may exist; each step's number is exact all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from knowscope_tui.core.progress import unstopped
from knowscope_tui.core.readings import Ablation, UnitEffect, UnitSet, relative_drop
from knowscope_tui.core.units import Unit
from knowscope_tui.engine.look import NOTHING, Look

CANDIDATES = 100
"""How many of the units strongest at one step are tried at the next."""


def grow_set(
    look: Look,
    units: Sequence[Unit],
    *,
    below: float,
    most: int,
    candidates: int = CANDIDATES,
    check: Callable[[], None] = unstopped,
) -> Iterator[UnitSet]:
    """The set after each step, chosen from `units`, and last what is left of it when it is pruned.

    `check` is called between layers and may raise to cancel.
    """
    question = look.trace.questions[0]
    p_before = look.trace.p_answer[0]
    grown = UnitSet(question.prompt, question.answer, below, p_before, p_before, (), ())
    tried: Sequence[Unit] = units
    while not grown.reached and len(grown.units) < most and tried:
        for _part in look.exact(tried, Ablation(grown.units), check=check):
            pass
        p_after = look.measured(Ablation(grown.units))
        ranked = sorted((p_after[unit], unit) for unit in tried if unit in p_after)
        if not ranked or ranked[0][0] >= grown.p_after:
            break
        p, best = ranked[0]
        step = UnitEffect(best, p, relative_drop(p_before, p))
        grown = replace(grown, p_after=p, steps=(*grown.steps, step), units=(*grown.units, best))
        tried = [unit for _p, unit in ranked[1 : candidates + 1]]
        yield grown
    yield replace(_pruned(look, grown, check) if grown.reached else grown, final=True)


def _pruned(look: Look, grown: UnitSet, check: Callable[[], None]) -> UnitSet:
    for unit in grown.units[:-1]:
        check()
        left = tuple(other for other in grown.units if other != unit)
        p = look.live.measure(Ablation(left)).p_after if left else look.p_given(NOTHING)
        if p <= grown.below:
            grown = replace(grown, units=left, p_after=p)
    return grown
