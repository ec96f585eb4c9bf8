"""`knowscope-tui apply`: a delta file onto its base, as a folder that transformers loads."""

from __future__ import annotations

import click

from knowscope_tui.cli.options import as_json
from knowscope_tui.paths import typed_path

EPILOG = """\b
Example:
  knowscope-tui apply one.delta.safetensors --out edited

\b
The base's hashes are checked before anything is written."""


@click.command(epilog=EPILOG, short_help="Make a saved edit on its base.")
@click.argument("delta", metavar="DELTA")
@click.option("--base", metavar="MODEL", help="The base; without it the one that the file names.")
@click.option("--out", required=True, metavar="DIR", help="Save the edited model there.")
@click.option("--copy", is_flag=True, help="Copy files without an edit instead of linking them.")
@as_json
def apply(delta: str, base: str | None, out: str, copy: bool, json: bool) -> None:
    """Save the base of the delta file DELTA with the edit made."""
    from knowscope_tui.cli.progress import progress
    from knowscope_tui.cli.render_edit import say_saved

    with progress(as_json=json) as tell:
        from knowscope_tui.session.delta_files import apply_file

        saved = apply_file(typed_path(delta), typed_path(out), base, link=not copy, on_progress=tell)
    say_saved(saved, as_json=json)
