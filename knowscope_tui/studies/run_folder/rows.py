"""Rows as Parquet. A file holds the rows of some items, and knows which, also of those that yielded none."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from knowscope_tui.core.configuration import Json
from knowscope_tui.core.studies import Row, Value

HEADER, ITEMS, COLUMNS = b"knowscope", b"knowscope.items", b"knowscope.columns"
"""Keys of a file's metadata: JSON of what was asked, of [key, rows] for each item in it, and of the columns' names,
which no checksum of Parquet's covers."""

Items = Mapping[str, Sequence[Row]]
"""Key → rows."""


def write_rows(file: BinaryIO, items: Items, header: Json) -> None:
    """Writes `items` in their order. Raises `ValueError` for rows that differ in their keys."""
    import pyarrow.parquet as pq

    counts = [(storable(key), len(rows)) for key, rows in items.items()]
    table = _table([{"key": key, **row} for key, rows in items.items() for row in rows])
    schema = table.schema.with_metadata(
        {ITEMS: json.dumps(counts), HEADER: json.dumps(header), COLUMNS: json.dumps(table.schema.names)}
    )
    with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(table.replace_schema_metadata(schema.metadata))


def read_rows(path: Path, header: Json) -> dict[str, list[Row]] | None:
    """The items in `path`, every page read and checked; None where it is cut short, damaged, no such file, or of a
    run of which something else than `header` was asked."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            counts = json.loads(file.schema_arrow.metadata[ITEMS])
            named = json.loads(file.schema_arrow.metadata[COLUMNS])
            asked = json.loads(file.schema_arrow.metadata[HEADER])
            whole = named == file.schema_arrow.names and asked == json.loads(json.dumps(header))
            rows = file.read(use_threads=False).to_pylist()
        found: dict[str, list[Row]] = {}
        start = 0
        for key, count in counts:
            found[str(key)] = rows[start : start + count]
            start += count
        whole = whole and start == len(rows) and all(row["key"] == key for key, own in found.items() for row in own)
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException):
        return None
    return found if whole else None


def _table(rows: Sequence[Row]) -> Any:
    """`rows` as an Arrow table: whole numbers and others in one column are numbers with a fraction."""
    import pyarrow as pa

    if not rows:
        return pa.table({"key": pa.array([], pa.string())})
    names = list(rows[0])
    for row in rows:
        if list(row) != names:
            raise ValueError(f"A row has the keys {sorted(row)}, and another of the study {sorted(names)}.")
    return pa.table({name: _column(name, [row[name] for row in rows]) for name in names})


def _column(name: str, values: Iterable[Value]) -> Any:
    import pyarrow as pa

    told = [storable(value) if isinstance(value, str) else value for value in values]
    kinds = {_kind(value) for value in told if value is not None}
    if kinds == {int, float}:
        told = [None if value is None else float(value) for value in told]
    elif len(kinds) > 1 or not kinds <= {bool, int, float, str}:
        raise ValueError(f"The values of {name!r} are of kinds {sorted(kind.__name__ for kind in kinds)}.")
    return pa.array(told)


def _kind(value: object) -> type:
    return next((kind for kind in (bool, int, float, str) if isinstance(value, kind)), type(value))


def storable(text: str) -> str:
    """`text` with what no UTF-8 can hold spelled out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
