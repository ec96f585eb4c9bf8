"""Files of JSON, line by line or as one list."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from knowscope_tui.errors import FactFileError


def json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Each line's number and value; blank lines are skipped. Raises `FactFileError` that names the line at fault."""
    for number, line in enumerate(text_of(path).split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                raise FactFileError(
                    f"Line {number} of {str(path)!r} is no JSON.", "Mend it, or leave it out."
                ) from None


def text_of(path: Path) -> str:
    """The file's text, without a byte order mark. Raises `FactFileError`."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise FactFileError(f"Cannot read the fact file {str(path)!r}: {reason}.", "Name a file of facts.") from None
