"""Rankings as Parquet: a row for each unit of each fact. Only here is pyarrow used.

The columns are described in docs/ranking.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from knowscope_tui.core.ranks import BestUnit, FactRanks
from knowscope_tui.core.units import SiteKind, Unit
from knowscope_tui.core.written import cannot_read

HEADER, FACTS = b"knowscope", b"knowscope.facts"
"""Keys of the file's metadata: JSON of what was asked, and of a part, [fact, units] of each fact in it."""

ROWS_A_GROUP = 1 << 17

Json = dict[str, Any]


def _schema() -> Any:
    import pyarrow as pa

    text = pa.dictionary(pa.int32(), pa.string())
    return pa.schema(
        [
            ("fact", pa.int32()),
            ("id", text),
            ("prompt", text),
            ("answer", text),
            ("p_answer", pa.float32()),
            ("rank", pa.int32()),
            ("says_answer", pa.bool_()),
            ("unit", text),
            ("layer", pa.int16()),
            ("kind", text),
            ("site", text),
            ("family", text),
            ("index", pa.int32()),
            ("activation", pa.float32()),
            ("attribution", pa.float32()),
            ("p_after", pa.float32()),
            ("delta_prob", pa.float32()),
        ]
    )


def _columns(ranks: FactRanks) -> dict[str, list[Any]]:
    fact, rows = ranks.fact, ranks.units
    of_fact = {
        "fact": ranks.number,
        "id": _storable(fact.id),
        "prompt": fact.prompt,
        "answer": fact.answer,
        "p_answer": ranks.p_answer,
        "rank": ranks.rank,
        "says_answer": ranks.says_answer,
    }
    return {name: [value] * len(rows) for name, value in of_fact.items()} | {
        "unit": [str(row.unit) for row in rows],
        "layer": [row.unit.site.layer for row in rows],
        "kind": [row.unit.site.kind.value for row in rows],
        "site": [str(row.unit.site) for row in rows],
        "family": [row.unit.family.name.lower() for row in rows],
        "index": [row.unit.index for row in rows],
        "activation": [row.activation for row in rows],
        "attribution": [row.attribution for row in rows],
        "p_after": [row.p_after for row in rows],
        "delta_prob": [row.delta_prob for row in rows],
    }


def _storable(text: str) -> str:
    """`text` with what no UTF-8 can hold spelled out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


# --- parts ----------------------------------------------------------------------------------------------------------


Groups = dict[int, int | None]
"""The row group of each fact in a part; None for one without units."""


def write_part(file: BinaryIO, facts: Sequence[FactRanks]) -> Groups:
    """Writes some facts; which row group each is in."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    counts = [(ranks.number, len(ranks.units)) for ranks in facts]
    schema = _schema().with_metadata({FACTS: json.dumps(counts)})
    with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
        for ranks in facts:
            if ranks.units:
                writer.write_table(pa.table(_columns(ranks), schema=schema), row_group_size=len(ranks.units))
    return _groups(counts)


@dataclass(frozen=True)
class Part:
    """A part file and where each fact is in it."""

    path: Path
    groups: Groups

    @property
    def facts(self) -> set[int]:
        return set(self.groups)


def read_part(path: Path) -> Part | None:
    """What `path` holds, every page of it read and checked; None where it is cut short or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            counts = json.loads(file.schema_arrow.metadata[FACTS])
            found = [file.read_row_group(group, use_threads=False).num_rows for group in range(file.num_row_groups)]
        whole = found == [units for _number, units in counts if units]
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException):
        return None
    return Part(path, _groups(counts)) if whole else None


def _groups(counts: Iterable[Sequence[int]]) -> Groups:
    """Row groups from the number of units of each fact: a fact without any has none."""
    groups: Groups = {}
    for number, units in counts:
        groups[number] = sum(group is not None for group in groups.values()) if units else None
    return groups


# --- the whole table ------------------------------------------------------------------------------------------------


def tables(parts: Iterable[Part]) -> Iterator[tuple[int, Any]]:
    """Number and table of each fact of `parts`, in the order of the file; None for a fact without units.

    Raises `SaveError` where a part cannot be read any more.
    """
    where = {number: (part.path, group) for part in parts for number, group in part.groups.items()}
    for number, (path, group) in sorted(where.items()):
        if group is None:
            yield number, None
            continue
        yield number, _row_group(path, group)


def _row_group(path: Path, group: int) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read_row_group(group, use_threads=False)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise cannot_read(
            path, error, "Give the same command again: facts whose part is damaged or gone are measured anew."
        ) from None


def write_whole(file: BinaryIO, header: Json, found: Iterable[Any]) -> None:
    """Writes the tables of facts one after the other, `header` beside them, a few facts in memory at a time."""
    import pyarrow.parquet as pq

    schema = _schema().with_metadata({HEADER: json.dumps(header)})
    with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
        waiting: list[Any] = []
        for table in found:
            waiting.append(table)
            if sum(table.num_rows for table in waiting) >= ROWS_A_GROUP:
                writer.write_table(_joined(waiting, schema))
                waiting = []
        if waiting:
            writer.write_table(_joined(waiting, schema))


def _joined(found: Sequence[Any], schema: Any) -> Any:
    """One table of several, their columns of text with one dictionary each: else they would be written without."""
    import pyarrow as pa

    joined = pa.concat_tables([table.replace_schema_metadata() for table in found])
    return joined.unify_dictionaries().combine_chunks().replace_schema_metadata(schema.metadata)


def best_of(number: int, table: Any) -> tuple[BestUnit, dict[SiteKind, float]]:
    """A fact's strongest unit, which is its first row, and the largest ΔProb at each kind of site."""
    first = table.slice(0, 1).to_pylist()[0]
    best = BestUnit(
        number=number,
        prompt=first["prompt"],
        answer=first["answer"],
        p_answer=first["p_answer"],
        says_answer=first["says_answer"],
        unit=Unit.parse(first["unit"]),
        p_after=first["p_after"],
        delta_prob=first["delta_prob"],
    )
    kinds = table.select(["kind", "delta_prob"]).group_by("kind").aggregate([("delta_prob", "max")]).to_pylist()
    return best, {SiteKind(row["kind"]): row["delta_prob_max"] for row in kinds}
