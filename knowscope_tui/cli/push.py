"""`knowscope-tui push`: a saved checkpoint onto the hub."""

from __future__ import annotations

import click

from knowscope_tui.cli.options import as_json
from knowscope_tui.paths import typed_path

EPILOG = """\b
Example:
  knowscope-tui push edited alice/gemma-without-it

\b
The whole folder becomes visible in one commit. A repository that is not there
is made, private unless --public says otherwise."""


@click.command(epilog=EPILOG, short_help="Upload a saved checkpoint to the hub.")
@click.argument("folder", metavar="DIR")
@click.argument("repo", metavar="REPO")
@click.option("--public", is_flag=True, help="Make a new repository public.")
@as_json
def push(folder: str, repo: str, public: bool, json: bool) -> None:
    """Upload the saved checkpoint DIR as the model repository REPO, owner/name."""
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress
    from knowscope_tui.text import visible

    with progress(as_json=json) as tell:
        tell("Loading torch", None)
        from knowscope_tui.session.pushing import push_folder

        address = push_folder(typed_path(folder), repo, private=not public, on_progress=tell)
    if json:
        output.write_json({"folder": folder, "pushed_to": address})
    else:
        output.console().print(f"Uploaded to {visible(address)}", markup=False, highlight=False, soft_wrap=True)
