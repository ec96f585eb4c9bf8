"""The one door to the methods: from a spec to what it would change, and the changes themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from knowscope_tui.core.edits import EditPlan, EditSpec, Frontier, Method, NoTau2, ParameterChange, UnitChange
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.units import Unit
from knowscope_tui.engine.deltas.change import Change
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.methods import positions, refined, zeroing
from knowscope_tui.engine.methods.check import check
from knowscope_tui.engine.methods.conflicts import conflicts
from knowscope_tui.engine.methods.describe import described
from knowscope_tui.engine.methods.evidence import gathered
from knowscope_tui.engine.methods.factors import factored
from knowscope_tui.engine.methods.frontier import walk, yardstick_of
from knowscope_tui.engine.methods.material import Material
from knowscope_tui.engine.methods.precise import Factors, Solved, edited_layers, solve
from knowscope_tui.engine.methods.projection import project
from knowscope_tui.engine.methods.stopping import Watch
from knowscope_tui.engine.methods.task import Task
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.sites import down_proj, down_proj_name
from knowscope_tui.errors import EditError

ZEROING = (Method.POSITIONS, Method.ROWS, Method.NEURONS, Method.RANDOM)

Applied = Sequence[tuple[int, Sequence[Fact]]]
"""Edits in force: number in the journal, facts."""


class Planned(NamedTuple):
    """A plan with the changes that carry it out."""

    plan: EditPlan
    changes: list[Change]


def plan_edit(
    lm: LanguageModel,
    library: Library,
    spec: EditSpec,
    material: Material = Material(),
    applied: Applied = (),
    *,
    on_frontier: Callable[[Frontier, bool], None] = lambda frontier, final: None,
    on_progress: OnProgress = silent,
) -> Planned:
    """Works `spec` out for the model as it stands, which is left as it is.

    Raises `EditError` for a spec that changes nothing or cannot be carried out, `PromptError` and `UsageError`.
    """
    check(lm, library, spec)
    start = time.perf_counter()
    found = conflicts(lm, spec.facts, applied)
    on_progress("Planning", None)
    if spec.method in ZEROING:
        planned = _zeroed(lm, library, spec, material, on_frontier, on_progress)
    elif spec.method is Method.PROJECTION:
        planned = _projected(lm, library, spec)
    elif spec.method is Method.PRECISE:
        planned = _solved(lm, library, spec, material, on_progress)
    else:
        planned = _optimised(lm, library, spec, material, on_progress)
    if not planned.changes:
        raise EditError("This edit changes no weight.", "Lower τ2, or name more units.")
    return planned._replace(plan=replace(planned.plan, conflicts=found, seconds=time.perf_counter() - start))


def outline(lm: LanguageModel, library: Library, spec: EditSpec, applied: Applied = ()) -> EditPlan:
    """What `spec` would change, without working it out where that takes long.

    A method that solves or optimises says which layers it may change and how many positions at most.
    """
    if spec.method in ZEROING or spec.method is Method.PROJECTION:
        return plan_edit(lm, library, replace(spec, auto=False), applied=applied).plan
    check(lm, library, spec)
    layers = edited_layers(lm) if spec.method.solves else list(range(lm.n_layers))
    sizes = {layer: down_proj(lm.model, layer).numel() for layer in layers}
    whole = sum(sizes.values())
    most = min(positions.budgeted(lm, spec.budget), whole) if spec.method.has_budget else whole
    parameters = tuple(
        ParameterChange(
            down_proj_name(lm.model, layer), layer, _stored_shape(lm, layer), -(-size * most // whole), zeroed=0
        )
        for layer, size in sizes.items()
    )
    used = [unit for one in gathered(lm, library, spec) for unit in one.units(spec)] if spec.method.solves else []
    note = "At most so many: which ones they are is found when the edit is previewed or applied."
    return EditPlan(
        spec,
        None,
        tuple(dict.fromkeys(used)),
        parameters,
        model_weights(lm),
        conflicts=conflicts(lm, spec.facts, applied),
        notes=(note,),
    )


def frontier(
    lm: LanguageModel, library: Library, spec: EditSpec, material: Material
) -> Iterator[tuple[Frontier, bool]]:
    """The frontier of `spec` as it grows, and whether it is whole.

    Raises `EditError` for a method without a τ2, and where nothing would say which τ2 is good.
    """
    if not spec.method.has_tau2:
        raise EditError(f"The method {spec.method.value!r} has no τ2 to move.", "Choose positions, rows or random.")
    check(lm, library, spec)
    highest = zeroing.reach(zeroing.ratios(lm, library, spec, gathered(lm, library, spec)))
    yield from walk(lm, spec, highest, yardstick_of(lm, spec, material))


def model_weights(lm: LanguageModel) -> int:
    """Parameters of the whole model, a shared one counted once."""
    return sum(parameter.numel() for parameter in lm.model.parameters())


def _zeroed(
    lm: LanguageModel,
    library: Library,
    spec: EditSpec,
    material: Material,
    on_frontier: Callable[[Frontier, bool], None],
    on_progress: OnProgress,
) -> Planned:
    evidence = gathered(lm, library, spec)
    grown: Frontier | None = None
    notes: tuple[str, ...] = ()
    tau2 = zeroing.default_tau2(spec) if spec.tau2 is None else spec.tau2
    if spec.auto:
        yardstick = yardstick_of(lm, spec, material)
        highest = zeroing.reach(zeroing.ratios(lm, library, spec, evidence))
        for grown, final in walk(lm, spec, highest, yardstick):
            on_progress(f"Walking the frontier, {len(grown.points)} points", None)
            on_frontier(grown, final)
        if grown is None or grown.knee is None:
            raise NoTau2(grown or Frontier(spec.limits, (), None))
        tau2, notes = grown.knee.tau2, yardstick.unmeasured
    masks, reach = zeroing.marked(zeroing.ratios(lm, library, spec, evidence), tau2)
    if spec.method is Method.RANDOM:
        masks = zeroing.shuffled(masks, spec.seed)
    changes: list[Change] = list(zeroing.zeroing(lm, masks))
    plan = _plan(lm, spec, changes, (), notes)
    units = tuple(change.unit for change in reach)
    return Planned(replace(plan, tau2=tau2, units=units, reach=reach, frontier=grown), changes)


def _projected(lm: LanguageModel, library: Library, spec: EditSpec) -> Planned:
    changes, layers = project(lm, library, spec, gathered(lm, library, spec))
    plan = _plan(lm, spec, changes, tuple(layers), ())
    reach = tuple(
        replace(one, positions={layer: count for layer, count in one.positions.items() if layer in layers[one.unit]})
        for one in plan.reach
    )
    return Planned(replace(plan, reach=reach), changes)


def _solved(
    lm: LanguageModel, library: Library, spec: EditSpec, material: Material, on_progress: OnProgress
) -> Planned:
    solved = solve(lm, library, spec, material, on_progress)
    changes = [factored(lm, layer, left, right) for layer, (left, right) in solved.factors.items()]
    changes = [change for change in changes if change.positions]
    return Planned(_plan(lm, spec, changes, solved.all_units, _solved_notes(solved)), changes)


def _solved_notes(solved: Solved) -> tuple[str, ...]:
    notes = [f"Solved in {solved.rounds} rounds."]
    if solved.stubborn:
        notes.append(f"{solved.stubborn} facts did not give way as far as they should.")
    return tuple(notes)


def _optimised(
    lm: LanguageModel, library: Library, spec: EditSpec, material: Material, on_progress: OnProgress
) -> Planned:
    start: Mapping[int, Factors] | None = None
    units: tuple[Unit, ...] = ()
    if spec.method is Method.GRADIENT:
        task, where = Task.baseline(lm, spec, material), positions.everywhere(lm)
    else:
        watch = Watch.of(lm, spec, material)
        task = Task.watched(lm, spec, watch)
        if spec.method is Method.REFINED:
            solved = solve(lm, library, spec, watch.rest, on_progress)
            start, units = solved.factors, solved.all_units
            where = positions.chosen_by_features(lm, spec, solved.factors)
        else:
            where = positions.drawn(lm, spec)
    done = refined.optimise(lm, spec, task, where, on_progress, start)
    how = "within the limits" if done.stopped else "the last one there is"
    unmeasured = task.watch.yardstick.unmeasured if task.watch is not None else ()
    notes = (f"Optimised for {done.steps} steps, {how}.", *done.trail[-1:], *unmeasured)
    changes: list[Change] = list(done.changes)
    return Planned(_plan(lm, spec, changes, units, notes), changes)


def _plan(
    lm: LanguageModel, spec: EditSpec, changes: Sequence[Change], units: Sequence[Unit], notes: tuple[str, ...]
) -> EditPlan:
    """The plan of `changes` that reach each of `units` through every parameter they change."""
    parameters = tuple(described(lm, change) for change in changes)
    counts = {parameter.layer: parameter.positions for parameter in parameters}
    reach = tuple(UnitChange(unit, dict(counts)) for unit in units)
    return EditPlan(spec, None, tuple(units), parameters, model_weights(lm), reach, notes=notes)


def _stored_shape(lm: LanguageModel, layer: int) -> tuple[int, ...]:
    return tuple(lm.model.get_parameter(down_proj_name(lm.model, layer)).shape)
