"""The record of a saved edit, `knowscope_edit.json`, read without its tensors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from knowscope_tui.errors import SaveError

Row = Mapping[str, Any]

RECORD, DELTA, CARD = "knowscope_edit.json", "knowscope_delta.safetensors", "README.md"
"""The files that a save adds to a model folder: what was done and measured, the way back, the model card."""

FORMAT = 3
"""Of the record."""


def read_record(folder: Path) -> Row:
    """What the record of the checkpoint `folder` says. Raises `SaveError`: no record, a broken one, another format."""
    path = folder / RECORD
    try:
        there = path.is_file()
    except OSError:
        there = False
    if not there:
        raise SaveError(f"{str(folder)!r} holds no {RECORD}.", "Name a folder that this program saved.")
    with unbroken(folder):
        record: Row = json.loads(path.read_text(encoding="utf-8"))
        made_by = record["format"]
        _ = record["base"]["name"], record["edits"]
    if made_by != FORMAT:
        raise SaveError(
            f"The record of {str(folder)!r} is of format {made_by!r}, and this version reads {FORMAT}.",
            "Save the edit again with this version.",
        )
    return record


@contextmanager
def unbroken(folder: Path) -> Iterator[None]:
    """Raises `SaveError` where a record in the block does not hold what a record holds."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise SaveError(f"The record of {str(folder)!r} is broken.", "Save the edit again.") from None


def public_name(record: Row) -> str:
    """What the base is called away from this machine: of a folder, the last part of its path."""
    name = str(record.get("base_name") or record["base"]["name"])
    return Path(name).name if Path(name).is_absolute() else name
