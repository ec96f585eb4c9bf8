"""`knowscope-tui report`: what a saved checkpoint's record says, as pages for an auditor."""

from __future__ import annotations

import click

from knowscope_tui.cli.options import as_json
from knowscope_tui.paths import typed_path

EPILOG = """\b
Examples:
  knowscope-tui report edited
  knowscope-tui report edited --out audit/edited --force

\b
No model is loaded: the pages say what was measured when the checkpoint was
saved. `knowscope-tui verify` measures it again."""


@click.command(epilog=EPILOG, short_help="Write a page about a saved checkpoint for an auditor.")
@click.argument("folder", metavar="DIR")
@click.option("--out", metavar="NAME", help="Write NAME.html and NAME.md.  [default: DIR-report]")
@click.option("--force", is_flag=True, help="Write over pages that are there.")
@as_json
def report(folder: str, out: str | None, force: bool, json: bool) -> None:
    """Write an HTML page and a Markdown page about the checkpoint in DIR, from its record alone."""
    from knowscope_tui.cli import output
    from knowscope_tui.session.audit.write import audit

    pages = audit(typed_path(folder), typed_path(out) if out else None, force=force)
    if json:
        output.write_json(
            {
                "html": str(pages.html),
                "markdown": str(pages.markdown),
                "verdict": pages.verdict,
                "summary": pages.summary,
            }
        )
        return
    from rich.text import Text

    from knowscope_tui.text import visible

    console = output.console()
    console.print(Text(visible(f"{pages.verdict}. {pages.summary}")))
    for page in (pages.html, pages.markdown):
        console.print(Text(visible(f"Wrote {page}")), soft_wrap=True)
