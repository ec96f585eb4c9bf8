"""`knowscope-tui merge`: several edits of one base as one delta file."""

from __future__ import annotations

import click

from knowscope_tui.cli.options import as_json
from knowscope_tui.paths import typed_path

EPILOG = """\b
Example:
  knowscope-tui merge a.delta.safetensors b.delta.safetensors \\
      --out both.delta.safetensors"""


@click.command(epilog=EPILOG, short_help="Merge several edits of one base.")
@click.argument("deltas", nargs=-1, required=True, metavar="DELTA...")
@click.option("--out", required=True, metavar="DELTA", help="Write the merged edit there.")
@click.option("--later-wins", is_flag=True, help="Where two edits set an entry differently, take the later one's.")
@as_json
def merge(deltas: tuple[str, ...], out: str, later_wins: bool, json: bool) -> None:
    """Write the edits of several delta files as one; where two set an entry differently, say so."""
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress

    with progress(as_json=json) as tell:
        tell("Merging", None)
        from knowscope_tui.session.delta_files import merge_files

        info = merge_files([typed_path(path) for path in deltas], typed_path(out), later_wins=later_wins)
    if json:
        from knowscope_tui.core.edit_json import delta_json

        output.write_json(delta_json(info))
    else:
        from knowscope_tui.cli.render_edit import show_delta

        show_delta(output.console(), info)
