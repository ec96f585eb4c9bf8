"""Which form a file has, told from what it holds, and its facts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from knowscope_tui.core.fact_formats import counterfact, pararel, zsre
from knowscope_tui.core.fact_formats.fact_set import FactSet
from knowscope_tui.core.fact_formats.lines import text_of
from knowscope_tui.core.facts import Fact, facts_of_lines
from knowscope_tui.errors import FactFileError

OWN = "JSON lines"

FORMS: tuple[tuple[str, Callable[[object], bool], Callable[[Sequence[Any]], FactSet]], ...] = (
    (counterfact.FORM, counterfact.is_row, counterfact.fact_set),
    (zsre.FORM, zsre.is_row, zsre.fact_set),
)
"""Forms that are a list of rows: name, whether a row is of it, and the facts of all rows."""


def read_fact_set(path: Path) -> FactSet:
    """The facts of a file, or of a folder of ParaRel files, whatever its form.

    Raises `FactFileError`: unreadable, no fact in it, a form that is none of these, or a broken line or row.
    """
    if path.is_dir():
        return pararel.read_folder(path)
    text = text_of(path)
    start = text.lstrip()
    if start.startswith("["):
        return _of_list(_list_in(start, path), path)
    row = _first(start)
    if pararel.is_pattern(row) or pararel.is_fact(row):
        return pararel.read_relation(path)
    if counterfact.is_row(row) or zsre.is_row(row):
        return _of_list([_row(line, number, path) for number, line in _lines(text)], path)
    return FactSet(OWN, tuple(facts_of_lines(text, path)))


def _of_list(rows: Sequence[Any], path: Path) -> FactSet:
    if not rows:
        raise FactFileError(f"There is no fact in {str(path)!r}.", "Name another file.")
    for form, is_row, fact_set in FORMS:
        if is_row(rows[0]):
            try:
                return fact_set(rows)
            except ValueError as error:
                raise FactFileError(
                    f"{str(path)!r} looks like {form}, but {error}.", "Fetch it again, or leave the row out."
                ) from None
    facts = []
    for number, row in enumerate(rows, start=1):
        try:
            facts.append(Fact.from_json(row))
        except ValueError as error:
            raise FactFileError(
                f"Entry {number} of {str(path)!r} is no fact: {error}.",
                "Lists of CounterFact, zsRE, or of this program's facts are understood.",
            ) from None
    return FactSet("JSON list", tuple(facts))


def _list_in(text: str, path: Path) -> list[Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise FactFileError(f"{str(path)!r} begins like a JSON list and is none.", "Fetch it again.") from None
    return list(found)


def _first(text: str) -> Any:
    try:
        return json.loads(text.split("\n", 1)[0])
    except (ValueError, RecursionError):
        return None


def _lines(text: str) -> list[tuple[int, str]]:
    return [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _row(line: str, number: int, path: Path) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise FactFileError(f"Line {number} of {str(path)!r} is no JSON.", "Mend it, or leave it out.") from None
