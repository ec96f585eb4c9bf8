"""The same figures by this program: the only file here that knows how its engine is asked for them."""

from __future__ import annotations

from collections.abc import Sequence

from knowscope_tui.bench.subject import Subject
from knowscope_tui.core.readings import Ablation, Reading
from knowscope_tui.core.units import Family, Unit
from knowscope_tui.engine.attribution import unit_attribution
from knowscope_tui.engine.live import Live
from knowscope_tui.engine.look import open_look
from knowscope_tui.engine.sweep import Sweep
from knowscope_tui.engine.trace import Trace, record


def traced(subject: Subject, *, slopes: bool = False) -> Trace:
    """One forward, and what it leaves behind."""
    question = subject.question
    return record(subject.lm, [question], [question.last], subject.library.sites, slopes=slopes)


def active_features(subject: Subject) -> dict[Unit, float]:
    """Every feature that fires at the prompt's last token → its gradient × activation."""
    trace, found = traced(subject, slopes=True), dict[Unit, float]()
    for site in subject.library.sites:
        z, attribution = (values[0] for values in unit_attribution(subject.library, site, trace))  # (d_sae,) both
        active = z.nonzero()[:, 0]
        for index, value in zip(active.tolist(), attribution[active].tolist(), strict=True):
            found[Unit(site, Family.FEATURE, index)] = value
    return found


def rank(subject: Subject, units: Sequence[Unit]) -> list[float]:
    """P(answer) with each of `units` alone zeroed, from a prompt that nothing is known of yet."""
    return Sweep(subject.lm, subject.library, traced(subject)).run([(0, unit) for unit in units])


class Toggle:
    """Units switched off one by one on a prompt that was read before."""

    def __init__(self, subject: Subject) -> None:
        self._live = Live(subject.lm, subject.library, traced(subject))

    def p_without(self, unit: Unit) -> float:
        """P(answer) with `unit` zeroed."""
        return self._live.measure(Ablation((unit,))).p_after


def reading(subject: Subject) -> Reading:
    """A first look: every feature and every neuron by attribution, none measured."""
    question = subject.question
    return open_look(subject.lm, subject.library, question.prompt, question.answer).reading()
