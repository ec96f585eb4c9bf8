"""Readings, effects and sets as JSON objects: one spelling for `--json` and for studies. Edits have `edit_json`.

Numbers stay numbers and nothing is rounded; what was not measured is null. Keys are added over time, never renamed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from knowscope_tui.core.checks import SelfTest
from knowscope_tui.core.dictionaries import CachedDictionary, EntryState, Pulled, ReleaseState
from knowscope_tui.core.memory import MemoryPlan
from knowscope_tui.core.ranks import RankSummary
from knowscope_tui.core.readings import Ablation, Effect, Reading, TokenProb, UnitSet

Json = dict[str, Any]


def _number(value: float | None) -> float | None:
    """`value`, or None where JSON has no spelling for it."""
    return value if value is None or math.isfinite(value) else None


def _tokens(tokens: Iterable[TokenProb]) -> list[Json]:
    return [{"token": token.token, "p": _number(token.p)} for token in tokens]


def reading_json(reading: Reading) -> Json:
    """What `probe --json` prints."""
    return {
        "prompt": reading.prompt,
        "answer": reading.answer,
        "tokens": list(reading.tokens),
        "position": reading.position,
        "p_answer": _number(reading.p_answer),
        "rank": reading.rank,
        "says_answer": reading.says_answer,
        "ranked_by": reading.ranked_by.value,
        "beside": [str(unit) for unit in reading.beside],
        "p_beside": _number(reading.p_beside),
        "top_tokens": _tokens(reading.top_tokens),
        "units": [
            {
                "unit": str(row.unit),
                "position": row.position,
                "activation": _number(row.activation),
                "attribution": _number(row.attribution),
                "delta_prob": _number(row.delta_prob),
                "selected": row.selected,
            }
            for row in reading.units
        ],
        "sites": [
            {
                "site": str(site.site),
                "active": site.active,
                "attribution": _number(site.attribution),
                "max_activation": _number(site.max_activation),
            }
            for site in reading.sites
        ],
    }


def ablation_json(ablation: Ablation) -> Json:
    return {
        "units": [str(unit) for unit in ablation.units],
        "mode": ablation.mode.value,
        "factor": _number(ablation.factor),
        "positions": ablation.positions.value,
        "substitute": ablation.substitute,
    }


def effect_json(effect: Effect) -> Json:
    """What `ablate --json` prints."""
    return {
        "prompt": effect.prompt,
        "answer": effect.answer,
        "ablation": ablation_json(effect.ablation),
        "p_before": _number(effect.p_before),
        "p_after": _number(effect.p_after),
        "delta_prob": _number(effect.delta_prob),
        "rank_before": effect.rank_before,
        "rank_after": effect.rank_after,
        "top_before": _tokens(effect.top_before),
        "top_after": _tokens(effect.top_after),
        "continuation_before": effect.continuation_before,
        "continuation_after": effect.continuation_after,
    }


def unit_set_json(found: UnitSet) -> Json:
    """What `greedy --json` prints."""
    return {
        "prompt": found.prompt,
        "answer": found.answer,
        "below": _number(found.below),
        "reached": found.reached,
        "p_before": _number(found.p_before),
        "p_after": _number(found.p_after),
        "delta_prob": _number(found.delta_prob),
        "units": [str(unit) for unit in found.units],
        "steps": [
            {"unit": str(step.unit), "p_after": _number(step.p_after), "delta_prob": _number(step.delta_prob)}
            for step in found.steps
        ],
    }


def ranks_json(summary: RankSummary) -> Json:
    """What `rank --json` prints. `measured` and `seconds` are of this run alone, where it went on from another."""
    return {
        "file": summary.file,
        "bytes": summary.size_bytes,
        "facts": summary.facts,
        "units": summary.units,
        "measured": summary.measured,
        "seconds": _number(summary.seconds),
        "kinds": [
            {"kind": row.kind.value, "strongest": row.strongest, "mean_delta_prob": _number(row.mean_delta_prob)}
            for row in summary.kinds
        ],
        "strongest": [
            {
                "fact": best.number,
                "prompt": best.prompt,
                "answer": best.answer,
                "p_answer": _number(best.p_answer),
                "says_answer": best.says_answer,
                "unit": str(best.unit),
                "p_after": _number(best.p_after),
                "delta_prob": _number(best.delta_prob),
            }
            for best in summary.strongest
        ],
        "skipped": [{"fact": one.number, "id": one.fact.id, "why": one.why} for one in summary.skipped],
        "remarks": list(summary.remarks),
    }


# --- models and dictionaries ----------------------------------------------------------------------------------------


def memory_json(plan: MemoryPlan) -> Json:
    """What `doctor --plan --json` prints under `plan`. Sizes are bytes."""
    return {
        "device": plan.device,
        "fits": not plan.problem,
        "needs": [{"what": need.what, "place": need.place.value, "bytes": need.bytes} for need in plan.needs],
        "free": {place.value: size for place, size in plan.room.items()},
        "encoder_bytes": plan.encoder_bytes,
        "encoder_budget": plan.encoder_budget,
        "problem": plan.problem or None,
        "hint": plan.hint or None,
    }


def self_test_json(test: SelfTest) -> Json:
    """What `doctor --json` prints under `self_test`."""
    return {
        "passed": test.passed,
        "parity": _number(test.parity),
        "ablation_gap": _number(test.ablation_gap),
        "tokens": test.tokens,
        "problems": list(test.problems),
        "dictionaries": [
            {
                "site": str(check.site),
                "source": check.source,
                "features": check.features,
                "dtype": check.dtype,
                "l0": _number(check.l0),
                "expected_l0": _number(check.expected_l0),
                "explained": _number(check.explained),
                "problem": check.problem or None,
            }
            for check in test.dictionaries
        ],
    }


def release_json(state: ReleaseState) -> Json:
    """A release as `saes list --json` prints it."""
    release = state.release
    return {
        "name": release.name,
        "model": release.model,
        "repo": release.repo,
        "sites": [kind.value for kind in release.kinds],
        "layers": list(release.layers),
        "widths": list(release.widths),
        "dictionaries": len(release.entries),
        "usual": state.usual,
        "usual_bytes": state.usual_bytes,
        "cached": state.cached,
        "converted": state.converted,
        "converted_bytes": state.converted_bytes,
        "why_not": release.why_not or None,
    }


def entry_json(state: EntryState) -> Json:
    """A dictionary of a release as `saes info --json` prints it."""
    entry = state.entry
    return {
        "id": entry.id,
        "site": str(entry.site) if entry.site else None,
        "width": entry.width,
        "l0": _number(entry.l0),
        "canonical": entry.canonical,
        "repo": entry.repo,
        "path": entry.path,
        "download_bytes": state.download_bytes,
        "downloaded": state.downloaded,
        "cached_bytes": state.cached_bytes,
    }


def pulled_json(pulled: Pulled) -> Json:
    """What `saes pull --json` prints."""
    return {"release": pulled.release, "made": pulled.made, "present": pulled.present, "bytes": pulled.bytes}


def cached_json(cached: CachedDictionary) -> Json:
    """A converted dictionary as `cache list --json` prints it; `used` is in seconds since 1970."""
    return {
        "name": cached.name,
        "file": cached.file,
        "site": str(cached.site),
        "width": cached.width,
        "dtype": cached.dtype,
        "bytes": cached.bytes,
        "used": _number(cached.used),
        "problem": cached.problem or None,
    }
