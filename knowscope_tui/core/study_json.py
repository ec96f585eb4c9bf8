"""Findings of studies as JSON objects: one spelling for `--json` and for the files of a run.

Numbers stay numbers and nothing is rounded; what was not measured is null. Keys are added over time, never renamed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from knowscope_tui.core.studies import Cell, Estimate, PaperClaim, Plot, StudyReport, StudyResult, Table

Json = dict[str, Any]


def result_json(result: StudyResult) -> Json:
    """A finished run, as one of those of `study --json`, and as `findings.json` holds it."""
    found = result.findings
    return {
        "study": result.name.value,
        "title": result.title,
        "question": result.question,
        "folder": result.folder,
        "items": result.items,
        "claims": [claim_json(claim) for claim in found.claims],
        "tables": [_table(table) for table in found.tables],
        "plots": [_plot(plot) for plot in found.plots],
        "remarks": [*found.remarks, *result.remarks],
        "command": result.made_with.get("command"),
    }


def report_json(report: StudyReport) -> Json:
    """What `study --json` prints."""
    return {
        "page": report.page,
        "studies": [result_json(result) for result in report.results],
        "left_out": [{"study": name.value, "why": why} for name, why in report.left_out],
    }


def claim_json(claim: PaperClaim) -> Json:
    return {
        "claim": claim.text,
        "paper": claim.paper,
        "ours": estimate_json(claim.ours),
        "threshold": claim.threshold,
        "verdict": claim.verdict.value,
    }


def estimate_json(estimate: Estimate) -> Json:
    return {
        "value": _number(estimate.value),
        "low": _number(estimate.low),
        "high": _number(estimate.high),
        "items": estimate.items,
    }


def _table(table: Table) -> Json:
    return {
        "name": table.name,
        "title": table.title,
        "columns": list(table.columns),
        "rows": [[_cell(cell) for cell in row] for row in table.rows],
        "note": table.note,
    }


def _cell(cell: Cell) -> Any:
    if isinstance(cell, Estimate):
        return estimate_json(cell)
    return _number(cell) if isinstance(cell, float) else cell


def _plot(plot: Plot) -> Json:
    return {
        "name": plot.name,
        "title": plot.title,
        "kind": plot.kind.value,
        "x": plot.x,
        "y": plot.y,
        "series": [
            {
                "name": series.name,
                "x": [_cell(x) for x in series.x],
                "y": _numbers(series.y),
                "low": _numbers(series.low),
                "high": _numbers(series.high),
                "units": list(series.units),
            }
            for series in plot.series
        ],
    }


def _numbers(values: Sequence[float]) -> list[float | None]:
    return [_number(value) for value in values]


def _number(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None
