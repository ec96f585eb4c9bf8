"""The demo's card for a person. It is read generically: whatever is measured one day is shown that day."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from knowscope_tui.cli.render import QUIET, STRONG, table
from knowscope_tui.text import visible

Row = tuple[str, dict[str, Any]]


def show_card(console: Console, card: dict[str, Any]) -> None:
    """Each section of `card` under its name: single values in a line each, figures of the same kind as one table."""
    for number, (title, content) in enumerate(card.items()):
        if number:
            console.print()
        console.print(Text(_words(title), style=STRONG))
        for rows in _by_columns(_rows(content)):
            _show_rows(console, rows)


def _rows(content: Any, path: tuple[str, ...] = ()) -> Iterator[Row]:
    """The innermost tables of `content`: the words that lead there, and their figures."""
    if isinstance(content, list):
        if all(isinstance(entry, dict) for entry in content):
            for entry in content:
                yield " ".join(path), entry
            return
        content = {"": content}
    if not isinstance(content, dict):
        content = {"": content}
    leaves = {key: value for key, value in content.items() if not isinstance(value, dict) and not _is_table(value)}
    if leaves:
        yield " ".join(path), leaves
    for key, value in content.items():
        if key not in leaves:
            yield from _rows(value, (*path, _words(str(key))))


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)


def _by_columns(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Rows one after another that have the same columns, together."""
    block: list[Row] = []
    for row in rows:
        if block and list(block[-1][1]) != list(row[1]):
            yield block
            block = []
        block.append(row)
    if block:
        yield block


def _show_rows(console: Console, rows: list[Row]) -> None:
    if len(rows) == 1:
        label, figures = rows[0]
        made = table(("", "left"), ("", "left"))
        made.show_header = False
        for key, value in figures.items():
            made.columns[1].no_wrap = False
            made.add_row(Text(f"  {' '.join(filter(None, (label, _words(str(key)))))}", QUIET), Text(_value(value)))
        console.print(made)
        return
    labelled = any(label for label, _figures in rows)
    if labelled:  # The label says in words what such a row's text cells would say again.
        rows = [(label, {k: v for k, v in figures.items() if not isinstance(v, str)}) for label, figures in rows]
    columns = [(f"  {_words(str(key))}" if not labelled and not number else _words(str(key)), _side(value))
               for number, (key, value) in enumerate(rows[0][1].items())]  # fmt: skip
    made = table(*([("", "left")] if labelled else []), *columns)
    for column in made.columns[1:]:
        column.no_wrap = False
    for label, figures in rows:
        cells = [Text(_value(value)) for value in figures.values()]
        if labelled:
            made.add_row(Text(f"  {label}", QUIET), *cells)
        else:
            made.add_row(Text("  ").append(cells[0]), *cells[1:])
    console.print(made)


def _side(value: Any) -> str:
    return "right" if isinstance(value, (int, float)) and not isinstance(value, bool) else "left"


def _words(key: str) -> str:
    if key in _SHORT:
        return _SHORT[key]
    return visible(key) if "_" not in key or key in _KEPT else visible(key.replace("_", " "))


_SHORT = {
    "reliability": "Rel",
    "generalization": "Gen",
    "locality": "Loc",
    "delta_ppl": "ΔPPL",
    "delta_prob": "ΔProb",
    "fve": "FVE",
    "l0": "L0",
    "positions_zeroed": "zeroed",
    "p": "P",
}
"""The field's own short names for the figures of a card."""

_KEPT = {"resid_post", "resid_mid", "mlp_out", "mlp_act", "attn_z", "d_sae", "d_model", "d_mlp"}
"""Names that are spelled with an underscore everywhere."""


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if abs(value) >= 10:
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        return f"{value:.3f}".replace("-0.000", "0.000")
    if isinstance(value, list):
        return visible(", ".join(_value(entry) for entry in value))
    return visible(str(value))
