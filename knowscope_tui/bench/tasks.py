"""The three tasks, each done by all ways in turn, so that what else the machine does meets all of them.

What runs first warms up and is not timed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from knowscope_tui.bench import ours
from knowscope_tui.bench.floor import floor_seconds
from knowscope_tui.bench.peak import peak_extra_bytes
from knowscope_tui.bench.peers import OnePass, Peers
from knowscope_tui.bench.result import FirstReading, Ranking, Rates, Seconds, Toggle, Toggles
from knowscope_tui.bench.subject import Subject
from knowscope_tui.bench.units import per_layer, spread
from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.units import Unit
from knowscope_tui.engine.answers import forward


@dataclass(frozen=True)
class Bench:
    """What the tasks are done on. `repeat` is how often this program does each."""

    subject: Subject
    peers: Peers
    rates: Rates
    repeat: int
    on_progress: OnProgress

    def floor(self, units: Sequence[Unit]) -> float:
        lm = self.subject.lm
        return floor_seconds(self.subject.shape, units, lm.dtype.itemsize, self.rates)


def time_ranking(bench: Bench, units: Sequence[Unit], sample: int) -> Ranking:
    """All `units` by this program, `repeat` times; in between, the peers go through a share of `sample` of them."""
    subject, chosen = bench.subject, spread(units, sample)
    bench.on_progress("Exact ranking: warming up", None)
    peak = peak_extra_bytes(subject.lm.device, lambda: ours.rank(subject, units))
    bench.peers.run(chosen[0])
    seconds: list[float] = []
    passes: list[OnePass] = []
    disagreement = 0.0
    for number in range(bench.repeat):
        bench.on_progress("Exact ranking", number / bench.repeat)
        taken, ranked = subject.timed(lambda: ours.rank(subject, units))
        seconds.append(taken)
        by_unit = dict(zip(units, ranked, strict=True))
        for unit in chosen[number :: bench.repeat]:
            passes.append(bench.peers.run(unit))
            disagreement = max(disagreement, _disagreement([by_unit[unit], *passes[-1].probabilities]))
    return Ranking(
        seconds=_seconds(seconds, passes, len(units)),
        units=len(units),
        sampled=len(passes),
        per_layer=per_layer(units, subject.shape.layers),
        floor=bench.floor(units),
        peak_extra_bytes=peak,
        disagreement=disagreement,
    )


def time_toggles(bench: Bench, units: Sequence[Unit]) -> Toggles:
    """Each of `units` alone, on a prompt that was read before."""
    toggle = ours.Toggle(bench.subject)
    rows: list[Toggle] = []
    for number, unit in enumerate(units):
        bench.on_progress("Live toggles", number / len(units))
        rows.append(_time_toggle(bench, toggle, unit))
    return Toggles(tuple(rows))


def _time_toggle(bench: Bench, toggle: ours.Toggle, unit: Unit) -> Toggle:
    first, _p = bench.subject.timed(lambda: toggle.p_without(unit))
    seconds: list[float] = []
    passes: list[OnePass] = []
    disagreement = 0.0
    for _ in range(bench.repeat):
        passes.append(bench.peers.run(unit))
        taken, p = bench.subject.timed(lambda: toggle.p_without(unit))
        seconds.append(taken)
        disagreement = max(disagreement, _disagreement([p, *passes[-1].probabilities]))
    return Toggle(str(unit), _seconds(seconds, passes, 1), first, bench.floor([unit]), disagreement)


def time_reading(bench: Bench) -> FirstReading:
    """A look at everything, beside a plain forward of the same tokens."""
    subject = bench.subject
    ours.reading(subject)
    readings: list[float] = []
    forwards: list[float] = []
    for number in range(bench.repeat):
        bench.on_progress("First reading", number / bench.repeat)
        forwards.append(subject.timed(lambda: forward(subject.lm, subject.question))[0])
        readings.append(subject.timed(lambda: ours.reading(subject))[0])
    return FirstReading(median(readings), median(forwards))


def _seconds(own: Iterable[float], passes: Sequence[OnePass], count: int) -> Seconds:
    """The median of `own`, and `count` times that of what a peer takes for a unit."""
    saelens = [each.saelens.seconds for each in passes if each.saelens is not None]
    hooks = median(each.hooks.seconds for each in passes)
    return Seconds(median(own), count * hooks, count * median(saelens) if saelens else None)


def _disagreement(probabilities: Sequence[float]) -> float:
    """How far the largest is above the smallest, as a share of the smallest."""
    return max(probabilities) / min(probabilities) - 1
