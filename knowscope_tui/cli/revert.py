"""`knowscope-tui revert`: a saved edit taken back, bit for bit, without the base."""

from __future__ import annotations

import click

from knowscope_tui.cli.options import as_json
from knowscope_tui.paths import typed_path

EPILOG = """\b
Example:
  knowscope-tui revert edited --out base

\b
The folder's own delta is used, or the file that --delta names."""


@click.command(epilog=EPILOG, short_help="Take a saved edit back, bit for bit.")
@click.argument("folder", metavar="DIR")
@click.option("--delta", metavar="DELTA", help="The edit to take back; without it the folder's own.")
@click.option("--out", required=True, metavar="DIR", help="Save the base's weights there.")
@click.option("--copy", is_flag=True, help="Copy files without an edit instead of linking them.")
@as_json
def revert(folder: str, delta: str | None, out: str, copy: bool, json: bool) -> None:
    """Save the checkpoint in DIR with its edit taken back: the base's weights, bit for bit."""
    from knowscope_tui.cli.progress import progress
    from knowscope_tui.cli.render_edit import say_saved

    with progress(as_json=json) as tell:
        from knowscope_tui.session.delta_files import revert_folder

        named = typed_path(delta) if delta else None
        saved = revert_folder(typed_path(folder), typed_path(out), named, link=not copy, on_progress=tell)
    say_saved(saved, as_json=json)
