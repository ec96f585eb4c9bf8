"""`knowscope-tui cache`: the converted dictionaries on this machine. What is removed is made again when needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from knowscope_tui.cli import words
from knowscope_tui.cli.options import as_json
from knowscope_tui.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowscope_tui.core.dictionaries import CachedDictionary

EPILOG = """\b
Examples:
  knowscope-tui cache list
  knowscope-tui cache verify
  knowscope-tui cache prune --older-than 90 --dry-run

\b
What was downloaded lies in the Hugging Face hub's own cache:
`hf cache ls` lists that."""


@click.group(epilog=EPILOG, short_help="List, check and prune the converted dictionaries.")
def cache() -> None:
    """List, check and prune the converted dictionaries. A pruned one is made again when it is needed."""


@cache.command("list", short_help="What is in it.", epilog="\b\nExample:\n  knowscope-tui cache list --json")
@as_json
def list_(json: bool) -> None:
    """List the converted dictionaries: what they were made from, their size, and when they were last used."""
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress

    with progress(as_json=json) as tell:
        tell("Looking", None)
        from knowscope_tui.session import shelf

        rows = shelf.cached()
    if json:
        output.write_json(_as_json(rows))
        return
    from knowscope_tui.cli.render_shelf import show_cached

    show_cached(output.console(), rows)
    output.note(f"{_amount(rows)} in {_folder()!r}.")


@cache.command(
    short_help="Read every byte and compare hashes.",
    epilog="\b\nExample:\n  knowscope-tui cache verify\n\n\b\nExits with 1 when a dictionary is broken.",
)
@as_json
def verify(json: bool) -> int:
    """Read every converted dictionary and hold it against the hash that was recorded when it was written."""
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress

    with progress(as_json=json) as tell:
        tell("Loading torch", None)
        from knowscope_tui.session import shelf

        rows = shelf.verify_cache(tell)
    broken = [row for row in rows if row.problem]
    if json:
        output.write_json(_as_json(rows) | {"broken": len(broken)})
        return 1 if broken else 0
    from rich.text import Text

    from knowscope_tui.cli.render_shelf import show_cached

    console = output.console()
    if not rows:
        output.note(f"There is no converted dictionary in {_folder()!r}.")
        return 0
    if not broken:
        console.print(Text(f"✓ {_amount(rows)}: every byte is as it was written.", style="green"))
        return 0
    show_cached(console, broken)
    output.note(f"{len(broken)} of {_amount(rows)} {'is' if len(broken) == 1 else 'are'} broken. {_mended(broken)}")
    return 1


@cache.command(
    short_help="Remove what is old, broken, or all.",
    epilog="\b\nExamples:\n  knowscope-tui cache prune --broken\n  knowscope-tui cache prune --older-than 90 --dry-run",
)
@click.option("--older-than", metavar="DAYS", type=words.share, help="What was not used for so many days.")
@click.option("--broken", is_flag=True, help="What is cut short or not valid (see `cache verify`).")
@click.option("--all", "everything", is_flag=True, help="All of it.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@as_json
def prune(older_than: float | None, broken: bool, everything: bool, dry_run: bool, json: bool) -> None:
    """Remove converted dictionaries. What an interrupted conversion left behind goes too."""
    if older_than is None and not broken and not everything:
        raise UsageError("What is to go was not said.", "Name --older-than DAYS, --broken or --all.")
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress

    with progress(as_json=json) as tell:
        tell("Pruning", None)
        from knowscope_tui.session import shelf

        rows = shelf.prune_cache(older_than_days=older_than, broken=broken, everything=everything, dry_run=dry_run)
    if json:
        output.write_json(_as_json(rows, "removed") | {"dry_run": dry_run})
        return
    from knowscope_tui.cli.render_shelf import show_cached

    show_cached(output.console(), rows)
    output.note(f"{_amount(rows)} {'would be ' if dry_run else ''}removed.")


@cache.command(short_help="Where it lies.", epilog="\b\nExample:\n  du -sh $(knowscope-tui cache path)")
@as_json
def path(json: bool) -> None:
    """Print the folder that holds what this program can make again."""
    from knowscope_tui.cli import output

    if json:
        output.write_json({"path": _folder()})
    else:
        click.echo(_folder())


def _folder() -> str:
    from knowscope_tui.paths import cache_folder

    return str(cache_folder())


def _amount(rows: Sequence[CachedDictionary]) -> str:
    from knowscope_tui.text import count, file_size

    return f"{count(len(rows), 'dictionary', 'dictionaries')} ({file_size(sum(row.bytes for row in rows))})"


def _as_json(rows: Sequence[CachedDictionary], key: str = "dictionaries") -> dict[str, Any]:
    from knowscope_tui.core.as_json import cached_json

    return {key: [cached_json(row) for row in rows], "bytes": sum(row.bytes for row in rows), "folder": _folder()}


def _mended(broken: Sequence[CachedDictionary]) -> str:
    """What to do about broken dictionaries."""
    releases = dict.fromkeys(row.name.partition(" ")[0] for row in broken if " " in row.name and row.width)
    pulls = "; ".join(f"`knowscope-tui saes pull {release}`" for release in releases)
    return f"Remove them: `knowscope-tui cache prune --broken`. Then make them again: {pulls or 'open the model'}."
