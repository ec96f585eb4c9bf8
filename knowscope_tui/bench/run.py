"""The measurement: one run, on one model, one prompt and one set of units, by this program and by its peers.

1. The machine's rates, while its memory is still empty.
2. A random model, random dictionaries, the bridge over the same weights, and the units: the strongest active ones.
3. Exact ranking, live toggles, first reading (see `tasks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import torch

from knowscope_tui.bench import ours
from knowscope_tui.bench.machine import machine, versions
from knowscope_tui.bench.peers import Peers
from knowscope_tui.bench.rates import measure_rates
from knowscope_tui.bench.result import Result, Setting
from knowscope_tui.bench.room import check_room, usual_kinds
from knowscope_tui.bench.shapes import KINDS, SHAPES
from knowscope_tui.bench.subject import Subject, make_subject
from knowscope_tui.bench.tasks import Bench, time_ranking, time_reading, time_toggles
from knowscope_tui.bench.units import drawn_by_layer, strongest
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.units import SiteKind
from knowscope_tui.engine.host import use_cores
from knowscope_tui.engine.loading import pick_device, pick_dtype
from knowscope_tui.errors import UsageError


@dataclass(frozen=True)
class Plan:
    """What a person chose; no `kinds` are those that suit shape and device."""

    shape: str = "small"
    device: str = "auto"
    dtype: str = "auto"
    kinds: tuple[SiteKind, ...] = ()
    units: int = 500
    sample: int = 20
    toggles: int = 9
    repeat: int = 3
    seed: int = 0
    saelens: bool = True


def measure(plan: Plan, on_progress: OnProgress = silent) -> Result:
    """Carries `plan` out.

    Raises `DoesNotFit`, `DeviceError`, or `UsageError` for kinds without dictionaries and more units than are active.
    """
    device = pick_device(plan.device)
    dtype, shape = pick_dtype(plan.dtype, device), SHAPES[plan.shape]
    kinds = _checked(plan.kinds) or usual_kinds(shape, device)
    check_room(shape, kinds, device, dtype)
    on_progress("Measuring the machine", None)
    rates = measure_rates(device, dtype)
    subject = make_subject(shape, kinds, device, dtype, plan.seed, on_progress)
    use_cores(subject.lm.model.num_parameters())
    on_progress("Choosing units", None)
    active = ours.active_features(subject)
    units = strongest(active, plan.units)
    toggled = drawn_by_layer(list(active), shape.layers, plan.toggles, plan.seed)
    on_progress("Loading sae-lens" if plan.saelens else "Warming up", None)
    bench = Bench(subject, Peers(subject, saelens=plan.saelens), rates, plan.repeat, on_progress)
    return Result(
        _setting(plan, subject, len(active)),
        rates,
        time_ranking(bench, units, plan.sample),
        time_toggles(bench, toggled),
        time_reading(bench),
    )


def _checked(kinds: Sequence[SiteKind]) -> Sequence[SiteKind]:
    for kind in kinds:
        if kind not in KINDS:
            usable = ", ".join(kind.value for kind in KINDS)
            raise UsageError(f"No dictionaries are made for {kind}.", f"Use some of: {usable}.")
    return tuple(dict.fromkeys(kinds))


def _setting(plan: Plan, subject: Subject, active: int) -> Setting:
    question, library = subject.question, subject.library
    return Setting(
        shape_name=plan.shape,
        shape=subject.shape,
        dtype=_name(subject.lm.dtype),
        sae_dtype=library.at(library.sites[0]).dtype,
        kinds=tuple(kind.value for kind in library.kinds),
        dictionaries=len(library),
        active=active,
        prompt=question.prompt,
        answer=question.answer,
        tokens=len(question.input_ids),
        repeat=plan.repeat,
        seed=plan.seed,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        machine=machine(subject.lm.device),
        versions=versions(),
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
