"""`knowscope-tui open`: the terminal UI."""

from __future__ import annotations

import sys

import click

from knowscope_tui.cli.options import Shared, Verb, shared
from knowscope_tui.errors import KnowscopeError, UsageError

EPILOG = """\b
Examples:
  knowscope-tui
  knowscope-tui open google/gemma-2-2b
  knowscope-tui open ~/models/gemma-2-2b --sae resid_post=~/saes/res"""


@click.command(cls=Verb, epilog=EPILOG, short_help="Open the terminal UI (what no verb at all does too).")
@click.argument("named", required=False, metavar="[MODEL]")
@shared
def open(options: Shared, named: str | None) -> None:
    """Open the terminal UI on MODEL (a folder or a hub name), or on the embedded demo.

    With --json nothing is drawn: what would be opened is opened, described, and closed again.
    """
    if named is not None and options.model is not None:
        raise UsageError("The model is named twice.", "Name it once: as MODEL or with --model.")
    chosen = options if named is None else options._replace(model=named)
    if options.json:
        _describe(chosen)
        return
    if not has_terminal():
        raise KnowscopeError(
            "The terminal UI needs a terminal.", "Use probe, ablate or edit in scripts: see knowscope-tui --help."
        )
    _run(chosen)


def _describe(options: Shared) -> None:
    from knowscope_tui.cli import output
    from knowscope_tui.cli.model_json import model_json
    from knowscope_tui.cli.progress import progress

    with progress(as_json=True) as tell:
        info = options.open(tell).info
    output.write_json(model_json(info))


def _run(options: Shared) -> None:
    from knowscope_tui.config import load_settings
    from knowscope_tui.tui.app import run

    settings = load_settings()
    run(options.source(), settings.theme, dict(settings.keymap))


def has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()
