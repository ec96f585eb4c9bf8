"""The one door to the methods: from a spec to what it would change, and the changes themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from knowscope_tui.core.edits import EditPlan, EditSpec, Frontier, Method, NoTau2, ParameterChange, UnitChange
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.units import Site, SiteKind, Unit
from knowscope_tui.engine.deltas.change import Change, LowRankChange, SparseChange, added
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.methods import refined, zeroing
from knowscope_tui.engine.methods.check import check
from knowscope_tui.engine.methods.conflicts import conflicts
from knowscope_tui.engine.methods.evidence import Evidence, gather
from knowscope_tui.engine.methods.factors import dense
from knowscope_tui.engine.methods.frontier import walk
from knowscope_tui.engine.methods.material import Material
from knowscope_tui.engine.methods.picture import picture
from knowscope_tui.engine.methods.precise import Solved, edited_layers, solve
from knowscope_tui.engine.methods.projection import project
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.sites import down_proj, down_proj_name, stored_layout
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
    layers = edited_layers(lm) if spec.method in (Method.PRECISE, Method.REFINED) else list(range(lm.n_layers))
    sizes = {layer: down_proj(lm.model, layer).numel() for layer in layers}
    whole = sum(sizes.values())
    most = whole if spec.method in (Method.PRECISE, Method.GRADIENT) else min(refined.budgeted(lm, spec.budget), whole)
    parameters = tuple(
        ParameterChange(
            down_proj_name(lm.model, layer), layer, _stored_shape(lm, layer), -(-size * most // whole), zeroed=0
        )
        for layer, size in sizes.items()
    )
    units: tuple[Unit, ...] = ()
    if spec.method is not Method.GRADIENT:
        units = tuple(dict.fromkeys(unit for one in _evidence(lm, library, spec) for unit in _used(spec, one)))
    note = "At most so many: which ones they are is found when the edit is previewed or applied."
    return EditPlan(
        spec,
        None,
        units,
        parameters,
        model_weights(lm),
        conflicts=conflicts(lm, spec.facts, applied),
        notes=(note,),
    )


def frontier(
    lm: LanguageModel, library: Library, spec: EditSpec, material: Material
) -> Iterator[tuple[Frontier, bool]]:
    """The frontier of `spec` as it grows, and whether it is whole. Raises `EditError` for a method without a τ2."""
    if not spec.method.has_tau2:
        raise EditError(f"The method {spec.method.value!r} has no τ2 to move.", "Choose positions, rows or random.")
    check(lm, library, spec)
    yield from walk(lm, spec, zeroing.reach(zeroing.ratios(lm, library, spec, _evidence(lm, library, spec))), material)


def model_weights(lm: LanguageModel) -> int:
    """Parameters of the whole model, a shared one counted once."""
    return sum(parameter.numel() for parameter in lm.model.parameters())


def _evidence(lm: LanguageModel, library: Library, spec: EditSpec) -> list[Evidence]:
    if spec.method is Method.NEURONS:
        sites = [Site(layer, SiteKind.MLP_ACT) for layer in range(lm.n_layers)]
    else:
        sites = [site for site in library.sites if site.kind is spec.site]
    return [gather(lm, library, sites, fact) for fact in spec.facts]


def _used(spec: EditSpec, evidence: Evidence) -> tuple[Unit, ...]:
    return spec.units or evidence.units(spec.top)


def _zeroed(
    lm: LanguageModel,
    library: Library,
    spec: EditSpec,
    material: Material,
    on_frontier: Callable[[Frontier, bool], None],
    on_progress: OnProgress,
) -> Planned:
    evidence = _evidence(lm, library, spec)
    grown: Frontier | None = None
    tau2 = zeroing.default_tau2(spec) if spec.tau2 is None else spec.tau2
    if spec.auto:
        highest = zeroing.reach(zeroing.ratios(lm, library, spec, evidence))
        for grown, final in walk(lm, spec, highest, material):
            on_progress(f"Walking the frontier, {len(grown.points)} points", None)
            on_frontier(grown, final)
        if grown is None or grown.knee is None:
            raise NoTau2(grown or Frontier(spec.limits, (), None))
        tau2 = grown.knee.tau2
    by_unit = zeroing.masks_by_unit(zeroing.ratios(lm, library, spec, evidence), tau2)
    masks = zeroing.union(by_unit.values())
    if spec.method is Method.RANDOM:
        masks = zeroing.shuffled(masks, spec.seed)
    changes: list[Change] = list(zeroing.zeroing(lm, masks))
    reach = tuple(
        UnitChange(unit, {layer: int(mask.sum()) for layer, mask in sorted(own.items()) if mask.any()})
        for unit, own in by_unit.items()
    )
    return Planned(_plan(lm, spec, tau2, changes, reach, frontier=grown), changes)


def _projected(lm: LanguageModel, library: Library, spec: EditSpec) -> Planned:
    changes, layers = project(lm, library, spec, _evidence(lm, library, spec))
    sizes = {layer: down_proj(lm.model, layer).numel() for named in layers.values() for layer in named}
    reach = tuple(UnitChange(unit, {layer: sizes[layer] for layer in named}) for unit, named in layers.items())
    return Planned(_plan(lm, spec, None, changes, reach), changes)


def _solved(
    lm: LanguageModel, library: Library, spec: EditSpec, material: Material, on_progress: OnProgress
) -> Planned:
    solved = solve(lm, library, spec, material, on_progress)
    changes: list[Change] = [dense(lm, layer, weight) for layer, weight in solved.weights.items()]
    changes = [change for change in changes if change.positions]
    reach = _reach_of(solved, changes)
    return Planned(_plan(lm, spec, None, changes, reach, notes=_solved_notes(solved)), changes)


def _solved_notes(solved: Solved) -> tuple[str, ...]:
    notes = [f"Solved in {solved.rounds} rounds."]
    if solved.stubborn:
        notes.append(f"{solved.stubborn} facts did not give way as far as they should.")
    return tuple(notes)


def _reach_of(solved: Solved, changes: Sequence[Change]) -> tuple[UnitChange, ...]:
    """Every unit is reached through every changed layer."""
    counts = {layer: change.positions for layer, change in zip(solved.weights, changes, strict=False)}
    units = dict.fromkeys(unit for used in solved.units.values() for unit in used)
    return tuple(UnitChange(unit, dict(counts)) for unit in units)


def _optimised(
    lm: LanguageModel, library: Library, spec: EditSpec, material: Material, on_progress: OnProgress
) -> Planned:
    start: Mapping[int, Tensor] | None = None
    units: tuple[Unit, ...] = ()
    if spec.method is Method.REFINED:
        solved = solve(lm, library, spec, material, on_progress)
        start = solved.weights
        units = tuple(dict.fromkeys(unit for used in solved.units.values() for unit in used))
        positions = refined.chosen_by_features(lm, spec, solved.weights)
    elif spec.method is Method.REFINED_RANDOM:
        positions = refined.drawn(lm, spec)
    else:
        positions = refined.everywhere(lm)
    done = refined.optimise(lm, spec, material, positions, on_progress, start)
    changes: list[Change] = list(done.changes)
    counts = {layer: len(indices) for layer, indices in positions.items()}
    reach = tuple(UnitChange(unit, dict(counts)) for unit in units)
    how = "within the limits" if done.stopped else "the last one there is"
    notes = (f"Optimised for {done.steps} steps, {how}.", *done.trail[-1:])
    return Planned(_plan(lm, spec, None, changes, reach, notes=notes), changes)


def _plan(
    lm: LanguageModel,
    spec: EditSpec,
    tau2: float | None,
    changes: Sequence[Change],
    reach: tuple[UnitChange, ...],
    *,
    frontier: Frontier | None = None,
    notes: tuple[str, ...] = (),
) -> EditPlan:
    return EditPlan(
        spec,
        tau2,
        tuple(change.unit for change in reach),
        tuple(described(lm, change) for change in changes),
        model_weights(lm),
        reach,
        frontier,
        notes=notes,
    )


def described(lm: LanguageModel, change: Change) -> ParameterChange:
    """`change` in numbers, against the model as it stands."""
    layer = next(layer for layer in range(lm.n_layers) if down_proj_name(lm.model, layer) == change.name)
    weight = lm.model.get_parameter(change.name).detach()
    size = float(torch.linalg.vector_norm(weight.to(torch.float32)))
    if isinstance(change, LowRankChange):
        moved = added(change).to(torch.float32)
        zeroed, rank, cells = 0, change.rank, torch.ones(change.shape, dtype=torch.bool)
    else:
        moved = (change.values.to(torch.float32) - weight.view(-1)[change.indices].to(torch.float32)).cpu()
        zeroed, rank, cells = int((change.values == 0).sum()), None, _marked(change)
    return ParameterChange(
        change.name,
        layer,
        change.shape,
        change.positions,
        zeroed,
        rank,
        float(torch.linalg.vector_norm(moved)) / size if size else 0.0,
        picture(stored_layout(lm.model, cells)),
    )


def _marked(change: SparseChange) -> Tensor:
    """Which entries `change` writes to, in the parameter's own layout."""
    flat = torch.zeros(change.shape[0] * change.shape[1], dtype=torch.bool)
    flat[change.indices.cpu()] = True
    return flat.view(change.shape)


def _stored_shape(lm: LanguageModel, layer: int) -> tuple[int, ...]:
    return tuple(lm.model.get_parameter(down_proj_name(lm.model, layer)).shape)
