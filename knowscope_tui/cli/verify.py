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
Exits with 1 when the weights are not what the checkpoint's record says, or
when a figure is not what it claims."""


@click.command(cls=Verb, epilog=EPILOG, short_help="Hold a saved checkpoint against its base.")
@click.argument("folder", metavar="DIR")
@click.option("--facts", metavar="FACTS.jsonl", help="The facts that were edited; without it those in the record.")
@click.option("--neighbors", metavar="FACTS.jsonl", help="What --neighbors named for the edit.")
@click.option("--retain", metavar="FACTS.jsonl", help="What --retain named for the edit.")
@click.option("--quick", is_flag=True, help="Leave out the leak tests.")
@click.option("--base", "--model", "model", metavar="MODEL", help="The base; without it the one in the record.")
@shared_beside_model
def verify(
    options: Shared,
    folder: str,
    facts: str | None,
    neighbors: str | None,
    retain: str | None,
    quick: bool,
    model: str | None,
) -> int:
    """Compare the checkpoint in DIR with its base, tensor by tensor, and measure all it claims again.

    No dictionary is needed: what is said of them is understood, so that the same options fit every verb, and changes
    nothing.
    """
    asked = facts_in(facts) if facts else None
    kept = facts_in(neighbors) if neighbors else None
    told = facts_in(retain) if retain else None
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
            retain=told,
            quick=quick,
            device=source.device,
            dtype=source.dtype,
            offline=source.offline,
            on_progress=tell,
        )
    if options.json:
        from knowscope_tui.core.edit_json import verify_json
        from knowscope_tui.core.fact_names import FactNames

        output.write_json(verify_json(report, FactNames(include=True)))
    else:
        from knowscope_tui.cli.render_edit import show_verification

        show_verification(output.console(), report)
    return 0 if report.intact else 1
