"""`knowscope-tui rank`: the exact effect of every active unit on every fact of a file, as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from knowscope_tui.cli import words
from knowscope_tui.cli.options import Shared, Verb, shared
from knowscope_tui.errors import Cancelled
from knowscope_tui.paths import typed_path

if TYPE_CHECKING:
    from knowscope_tui.core.ranks import RankSummary

MOST_SKIPPED = 10
"""Facts that are named one by one where some were left out."""

EPILOG = """\b
Examples:
  knowscope-tui demo facts --private > facts.jsonl
  knowscope-tui rank facts.jsonl --out ranks.parquet

\b
The table has a row for each active feature, and for the strongest neurons, of
each fact. A run that was stopped goes on where it was with the same command."""


@click.command(cls=Verb, epilog=EPILOG, short_help="Measure every active unit on every fact of a file.")
@click.argument("facts", metavar="FACTS.jsonl")
@click.option(
    "--out", metavar="FILE", required=True, help="The Parquet file to write; docs/ranking.md has its columns."
)
@click.option(
    "--neurons",
    metavar="N",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Neurons a fact, by attribution, beside all active features.",
)
@click.option(
    "--memory",
    metavar="SIZE",
    type=words.memory,
    default="1GiB",
    show_default=True,
    help="What may be taken beside model and dictionaries.",
)
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="Only the first N facts.")
@click.option("--restart", is_flag=True, help="Throw away what a run that was stopped has finished.")
@shared
def rank(options: Shared, facts: str, out: str, neurons: int, memory: str, limit: int | None, restart: bool) -> None:
    """Switch off every active unit of every fact alone, and write what each does to the answer.

    FACTS.jsonl holds one fact a line: {"prompt": "…", "answer": "…"}.
    """
    from knowscope_tui.core.written import check_target

    target = typed_path(out)
    check_target(target)
    asked = words.facts_in(facts)[:limit]
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress
    from knowscope_tui.core.dictionaries import parse_bytes

    try:
        with progress(as_json=options.json, lines=True) as tell:
            scope = options.open(tell)
            summary = scope.rank(
                asked, target, neurons=neurons, memory=parse_bytes(memory), restart=restart, on_progress=tell
            )
    except (KeyboardInterrupt, Cancelled):
        raise click.Abort("Stopped; what is finished is kept, and the same command goes on from there.") from None
    for sentence in _remarks(summary):
        output.note(sentence)
    if options.json:
        from knowscope_tui.core.as_json import ranks_json

        output.write_json(ranks_json(summary))
        return
    from knowscope_tui.cli.render_rank import show_ranks

    show_ranks(output.console(), summary)


def _remarks(summary: RankSummary) -> Iterator[str]:
    """What a reader of the table should know beside it."""
    yield from summary.remarks
    for skipped in summary.skipped[:MOST_SKIPPED]:
        name = skipped.fact.id or skipped.fact.prompt
        yield f"Left out: fact {skipped.number}, {name!r}. {skipped.why}"
    if len(summary.skipped) > MOST_SKIPPED:
        yield f"Left out: {len(summary.skipped) - MOST_SKIPPED:,} facts more, which the file's metadata lists."
