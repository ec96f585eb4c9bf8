"""Plans, reports and proofs as JSON objects: one spelling for `--json`, for checkpoint records and for audit pages.

Numbers stay numbers and nothing is rounded; what was not measured is null. Facts go by their names; their text, and
what the model says in their place, appear only where `names.include` is set.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from knowscope_tui.core.edits import EditPlan, Frontier, ParameterChange
from knowscope_tui.core.fact_names import FactNames
from knowscope_tui.core.proof import Control, EditReport, FactOutcome, Figure, LeakResult, Proof, Scores, VerifyReport
from knowscope_tui.core.saved import DeltaInfo, Diff, SavedCheckpoint

Json = dict[str, Any]


def _number(value: float | None) -> float | None:
    """`value`, or None where JSON has no spelling for it."""
    return value if value is None or math.isfinite(value) else None


def figure_json(figure: Figure) -> Json:
    """A figure with its interval."""
    return {
        "value": _number(figure.value),
        "items": figure.items,
        "low": _number(figure.low),
        "high": _number(figure.high),
    }


def scores_json(scores: Scores) -> Json:
    """The figures of one moment."""
    return {
        "reliability": figure_json(scores.reliability),
        "generalization": figure_json(scores.generalization),
        "locality": figure_json(scores.locality),
        "delta_ppl": figure_json(scores.delta_ppl),
        "p_answer": _number(scores.p_answer),
        "p_paraphrases": _number(scores.p_paraphrases),
        "p_neighbors": _number(scores.p_neighbors),
        "rings": {ring: figure_json(figure) for ring, figure in scores.rings.items()},
        "retained": figure_json(scores.retained),
    }


def outcome_json(outcome: FactOutcome, names: FactNames) -> Json:
    """What became of one fact."""
    row: Json = {
        "fact": names.name(outcome.fact),
        "known_before": outcome.known_before,
        "erased": outcome.erased,
        "p_before": _number(outcome.p_before),
        "p_after": _number(outcome.p_after),
        "p_target": _number(outcome.p_target),
        "paraphrases_erased": outcome.paraphrases_erased,
        "paraphrases": outcome.paraphrases,
    }
    if names.include:
        fact = outcome.fact
        row |= {"prompt": fact.prompt, "answer": fact.answer, "subject": fact.subject, "says": outcome.says}
        row |= {"target_new": fact.target_new} if fact.target_new else {}
    return row


def leak_json(result: LeakResult, names: FactNames) -> Json:
    """One leak test, fact by fact."""
    return {
        "test": result.test.value,
        "tested": result.tested,
        "leaking": [names.name(leak.fact) for leak in result.leaking],
        "facts": [
            {
                "fact": names.name(leak.fact),
                "tried": leak.tried,
                "leaked": leak.leaked,
                "leaks": leak.leaks,
                "detail": leak.detail,
            }
            for leak in result.leaks
        ],
        "note": result.note,
        "seconds": _number(result.seconds),
    }


def control_json(control: Control) -> Json:
    """The random control."""
    return {
        "method": control.method,
        "positions": control.positions,
        "scores": scores_json(control.scores),
        "seconds": _number(control.seconds),
    }


def proof_json(proof: Proof, names: FactNames) -> Json:
    """Everything that was measured; a record claims it under `proof`."""
    return {
        "before": scores_json(proof.before),
        "after": scores_json(proof.after),
        "facts": [outcome_json(outcome, names) for outcome in proof.facts],
        "neighbors": proof.neighbors,
        "leaks": [leak_json(result, names) for result in proof.leaks],
        "control": control_json(proof.control) if proof.control else None,
    }


def parameters_json(parameters: Iterable[ParameterChange]) -> list[Json]:
    """What changes in each parameter."""
    return [
        {
            "name": change.name,
            "layer": change.layer,
            "shape": list(change.shape),
            "positions": change.positions,
            "zeroed": change.zeroed,
            "rank": change.rank,
            "relative_norm": _number(change.relative_norm),
            "picture": [list(row) for row in change.picture],
        }
        for change in parameters
    ]


def frontier_json(frontier: Frontier) -> Json:
    """The frontier with its limits; `chosen` is an index."""
    limits = frontier.limits
    return {
        "limits": {
            "min_reliability": limits.min_reliability,
            "max_delta_ppl": limits.max_delta_ppl,
            "min_locality": limits.min_locality,
        },
        "points": [
            {
                "tau2": point.tau2,
                "positions": point.positions,
                "reliability": _number(point.reliability),
                "p_answer": _number(point.p_answer),
                "locality": _number(point.locality),
                "worst": _number(point.worst),
                "delta_ppl": _number(point.delta_ppl),
                "rings": dict(point.rings),
                "meets": point.meets,
            }
            for point in frontier.points
        ],
        "chosen": frontier.chosen,
    }


def plan_json(plan: EditPlan, names: FactNames) -> Json:
    """A plan: how, by which units, where."""
    spec = plan.spec
    return {
        "method": spec.method.value,
        "edited": [names.name(fact) for fact in spec.facts],
        "updates": spec.updates,
        "sites": sorted({unit.site.kind.value for unit in plan.units}),
        "top": None if spec.units else spec.top,
        "tau2": plan.tau2,
        "auto": spec.auto,
        "budget": spec.budget,
        "seed": spec.seed,
        "units": [str(unit) for unit in plan.units],
        "reach": [
            {"unit": str(change.unit), "positions": {str(layer): count for layer, count in change.positions.items()}}
            for change in plan.reach
        ],
        "positions": plan.positions,
        "model_weights": plan.model_weights,
        "share": _number(plan.share),
        "parameters": parameters_json(plan.parameters),
        "frontier": frontier_json(plan.frontier) if plan.frontier else None,
        "conflicts": [
            {
                "fact": names.name(conflict.fact),
                "other": names.name(conflict.other),
                "similarity": _number(conflict.similarity),
                "applied": conflict.applied,
            }
            for conflict in plan.conflicts
        ],
        "seconds": _number(plan.seconds),
        "notes": list(plan.notes),
    }


def report_json(report: EditReport, names: FactNames) -> Json:
    """What `edit --json` prints, and what a checkpoint's record holds of each edit."""
    return {
        **plan_json(report.plan, names),
        **proof_json(report.proof, names),
        "applied": report.applied,
        "number": report.number,
        "checkpoint": report.checkpoint,
    }


def verify_json(report: VerifyReport, names: FactNames) -> Json:
    """What `verify --json` prints."""
    return {
        "checkpoint": report.checkpoint,
        "method": report.method,
        "units": list(report.units),
        "positions": report.positions,
        "parameters": parameters_json(report.parameters),
        "intact": report.intact,
        "problems": list(report.problems),
        "skipped": list(report.skipped),
        "unchecked": list(report.unchecked),
        "claims": [
            {"name": claim.name, "claimed": claim.claimed, "measured": claim.measured, "agrees": claim.agrees}
            for claim in report.claims
        ],
        **proof_json(report.proof, names),
    }


def saved_json(saved: SavedCheckpoint) -> Json:
    """A checkpoint as `edit --json` prints it under `saved`. Sizes are bytes."""
    return {
        "folder": saved.folder,
        "bytes": saved.size_bytes,
        "written": saved.written_bytes,
        "parameters": list(saved.parameters),
        "files": [{"name": file.name, "placed": file.placed.value, "bytes": file.bytes} for file in saved.files],
        "pushed_to": saved.pushed_to,
        "not_pushed": saved.not_pushed or None,
    }


def delta_json(info: DeltaInfo) -> Json:
    """A delta file as `apply`, `merge` and `edit` print it."""
    return {
        "file": info.file,
        "bytes": info.size_bytes,
        "base": info.base,
        "method": info.method,
        "facts": list(info.facts),
        "positions": info.positions,
        "parameters": [
            {
                "name": parameter.name,
                "shape": list(parameter.shape),
                "positions": parameter.positions,
                "rank": parameter.rank,
                "norm": _number(parameter.norm),
                "largest": _number(parameter.largest),
            }
            for parameter in info.parameters
        ],
    }


def diff_json(diff: Diff) -> Json:
    """What `diff --json` prints."""
    return {
        "a": diff.a,
        "b": diff.b,
        "compared": diff.compared,
        "same": not diff.parameters,
        "parameters": [
            {
                "name": parameter.name,
                "shape": list(parameter.shape),
                "positions": parameter.positions,
                "only_a": parameter.only_a,
                "only_b": parameter.only_b,
                "norm": _number(parameter.norm),
                "largest": _number(parameter.largest),
            }
            for parameter in diff.parameters
        ],
    }
