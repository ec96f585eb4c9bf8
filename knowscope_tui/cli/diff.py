"""`knowscope-tui diff`: how two edits, or two checkpoints, differ."""

from __future__ import annotations

import click

from knowscope_tui.cli.options import as_json
from knowscope_tui.paths import typed_path

EPILOG = """\b
Examples:
  knowscope-tui diff edited other
  knowscope-tui diff one.delta.safetensors two.delta.safetensors

\b
Exits with 1 when they differ."""


@click.command(epilog=EPILOG, short_help="Say how two edits or checkpoints differ.")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@as_json
def diff(a: str, b: str, json: bool) -> int:
    """Compare two checkpoint folders, or two delta files: which parameters, how many positions, how large."""
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress

    with progress(as_json=json) as tell:
        tell("Comparing", None)
        from knowscope_tui.session.delta_files import compare

        found = compare(typed_path(a), typed_path(b))
    if json:
        from knowscope_tui.core.edit_json import diff_json

        output.write_json(diff_json(found))
    else:
        from knowscope_tui.cli.render_edit import show_diff

        show_diff(output.console(), found)
    return 1 if found.parameters else 0
