"""`knowscope-tui verify`: a saved checkpoint held against its base."""

from __future__ import annotations

import click

from knowscope_tui.cli.options import Shared, Verb, shared_beside_model
from knowscope_tui.cli.words import facts_in
from knowscope_tui.paths import typed_path

EPILOG = """\b
Examples:
  knowscope-tui verify edited --facts one.jsonl
  knowscope-tui verify edited --facts one.jsonl --neighbors others.jsonl

\b
Exits with 1 when the weights are not what the checkpoint's record says."""


@click.command(cls=Verb, epilog=EPILOG, short_help="Hold a saved checkpoint against its base.")
@click.argument("folder", metavar="DIR")
@click.option("--facts", required=True, metavar="FACTS.jsonl", help="The facts that should be gone.")
@click.option("--neighbors", metavar="FACTS.jsonl", help="Facts that must have stayed.")
@click.option("--base", "--model", "model", metavar="MODEL", help="The base; without it the one in the record.")
@shared_beside_model
def verify(options: Shared, folder: str, facts: str, neighbors: str | None, model: str | None) -> int:
    """Compare the checkpoint in DIR with its base, tensor by tensor and fact by fact.

    No dictionary is needed: what is said of them is understood, so that the same options fit every verb, and changes
    nothing.
    """
    asked = facts_in(facts)
    kept = facts_in(neighbors) if neighbors else None
    source = options.source()
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress

    with progress(as_json=options.json) as tell:
        tell("Loading torch", None)
        from knowscope_tui.session.verify import verify_checkpoint

        report = verify_checkpoint(
            typed_path(folder),
            asked,
            kept,
            model,
            device=source.device,
            dtype=source.dtype,
            offline=source.offline,
            on_progress=tell,
        )
    if options.json:
        from knowscope_tui.core.as_json import verify_json

        output.write_json(verify_json(report))
    else:
        from knowscope_tui.cli.render_edit import show_verification

        show_verification(output.console(), report)
    return 0 if report.intact else 1
