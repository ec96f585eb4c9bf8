"""Writing results: strict JSON in UTF-8, and a console that is plain when piped."""

from __future__ import annotations

import json
import math
import sys
from io import TextIOWrapper
from typing import Any

import click
from rich.console import Console

NARROWEST, WIDEST = 60, 120
"""Columns that results are laid out for, whatever the terminal's size; what is piped gets 80."""


class ResultConsole(Console):
    """A rich console whose reader may go away: the error travels on, to be met in one place."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    """Where results for a person go. What stdout's encoding cannot show is spelled out as an escape."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    out = ResultConsole(file=sys.stdout, highlight=False, markup=False, emoji=False)
    out.width = min(max(out.width, NARROWEST), WIDEST)
    return out


def note(sentence: str) -> None:
    """Says something that is no result, on stderr."""
    from knowscope_tui.text import visible

    click.echo(visible(sentence), err=True)


def json_line(value: Any) -> str:
    """`value` as one line of strict JSON: no NaN, and nothing that UTF-8 cannot hold."""
    return json.dumps(_strict(value), ensure_ascii=False, allow_nan=False)


def write_json(value: Any) -> None:
    """Writes `value` to stdout as indented JSON, in UTF-8 whatever the locale."""
    _write(json.dumps(_strict(value), ensure_ascii=False, allow_nan=False, indent=2))


def write_json_line(value: Any) -> None:
    """Writes `value` to stdout as one line of JSON Lines."""
    _write(json_line(value))


def _write(text: str) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8") + b"\n")


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_strict(key): _strict(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(entry) for entry in value]
    return value
