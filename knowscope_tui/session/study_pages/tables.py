"""A study's tables as blocks of a page, and as CSV with every bound in a column of its own."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence

from knowscope_tui.core.studies import Cell, Estimate, PaperClaim, Table
from knowscope_tui.session.pages import blocks
from knowscope_tui.session.study_pages.cells import cell, interval, number

CLAIM_HEAD = ("Claim", "The paper", "Here", "95 % interval", "Has to be above", "Items", "Verdict")
CLAIM_NUMBERS = (2, 3, 4, 5)


def table_block(table: Table) -> blocks.Table:
    """`table` for a page; its title is the caption."""
    rows = tuple(tuple(cell(value) for value in row) for row in table.rows)
    return blocks.Table(table.title, table.columns, rows, _numbers(table))


def claim_cells(claim: PaperClaim) -> tuple[str, ...]:
    """A claim as a row under `CLAIM_HEAD`."""
    ours = claim.ours
    return (
        claim.text,
        claim.paper,
        number(ours.value),
        interval(ours),
        number(claim.threshold),
        f"{ours.items:,}",
        claim.verdict.value,
    )


def claims_block(claims: Iterable[PaperClaim]) -> blocks.Table:
    """What the paper says beside what was measured."""
    rows = tuple(claim_cells(claim) for claim in claims)
    return blocks.Table("The paper's claims, and what decides each", CLAIM_HEAD, rows, CLAIM_NUMBERS)


def as_csv(table: Table) -> str:
    """`table` as CSV; an estimate is four columns: itself, `_low`, `_high` and `_items`."""
    spread = _estimates(table)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head: list[str] = []
    for column, name in enumerate(table.columns):
        head += [name, f"{name}_low", f"{name}_high", f"{name}_items"] if column in spread else [name]
    writer.writerow(head)
    for row in table.rows:
        writer.writerow(list(_plain(row, spread)))
    return out.getvalue()


def _plain(row: Sequence[Cell], spread: set[int]) -> Iterator[str]:
    for column, value in enumerate(row):
        if column not in spread:
            yield _exact(value)
        elif isinstance(value, Estimate):
            yield from (_exact(value.value), _exact(value.low), _exact(value.high), str(value.items))
        else:
            yield from (_exact(value), "", "", "")


def _exact(value: Cell) -> str:
    """A value without rounding; nothing where nothing was measured."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return repr(float(value)) if isinstance(value, float) else str(value)


def _estimates(table: Table) -> set[int]:
    return {column for row in table.rows for column, value in enumerate(row) if isinstance(value, Estimate)}


def _numbers(table: Table) -> tuple[int, ...]:
    """Columns that hold figures."""
    return tuple(
        column for column in range(1, len(table.columns)) if all(not isinstance(row[column], str) for row in table.rows)
    )
