"""`knowscope-tui demo`: the embedded demo's card and facts, and the recipe that builds it."""

from __future__ import annotations

import click

from knowscope_tui.cli.options import as_json
from knowscope_tui.paths import typed_path

EPILOG = """\b
Examples:
  knowscope-tui demo card
  knowscope-tui demo facts --relation capital
  knowscope-tui demo build --quick --out /tmp/tiny"""


@click.group(epilog=EPILOG, short_help="The embedded demo: its card, its facts, its recipe.")
def demo() -> None:
    """The embedded demo: what was measured on it, the facts it knows, and the recipe that builds it."""


@demo.command(
    short_help="Build it from its seeds.", epilog="\b\nExample:\n  knowscope-tui demo build --out demo-bundle"
)
@click.option("--quick", is_flag=True, help="A tiny one, in under a minute, for tests.")
@click.option("--out", metavar="DIR", default="demo-bundle", show_default=True, help="A folder that does not exist.")
@as_json
def build(quick: bool, out: str, json: bool) -> None:
    """Build the demo from its seeds: tokenizer, model, dictionaries, and a card with what was measured."""
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress
    from knowscope_tui.errors import SaveError

    folder = typed_path(out)
    if folder.exists() or folder.is_symlink():
        raise SaveError(f"{str(folder)!r} already exists.", "Choose a folder that does not exist.")
    with progress(as_json=json, lines=True) as tell:
        tell("Loading torch", None)
        from knowscope_tui.demo.recipe.build import build as build_demo

        content = build_demo(folder, quick=quick, on_progress=tell)
    if json:
        output.write_json(content)
        return
    from knowscope_tui.cli.card import show_card

    show_card(output.console(), content)
    output.note(f"The demo lies in {str(folder)!r}.")


@demo.command(short_help="What was measured on it.", epilog="\b\nExample:\n  knowscope-tui demo card --json")
@as_json
def card(json: bool) -> None:
    """Show what was measured on the demo when it was built."""
    from knowscope_tui.cli import output
    from knowscope_tui.demo import bundle

    content = bundle.card()
    if json:
        output.write_json(content)
        return
    from knowscope_tui.cli.card import show_card

    show_card(output.console(), content)


@demo.command(
    short_help="The facts it was taught, as JSON lines.",
    epilog="\b\nExample:\n  knowscope-tui demo facts --private | head -1 > one.jsonl",
)
@click.option("--relation", metavar="R", help="Only facts of this relation.")
@click.option("--private/--public", default=None, help="Only facts of invented people, or only public ones.")
@as_json
def facts(relation: str | None, private: bool | None, json: bool) -> None:  # noqa: ARG001
    """List the facts the demo was taught, as JSON lines: a fact file for `edit` and `verify`."""
    from knowscope_tui.cli import output
    from knowscope_tui.demo.corpus import taught_facts
    from knowscope_tui.errors import UsageError

    among = [taught for taught in taught_facts() if private is None or taught.private == private]
    chosen = [taught.fact for taught in among if relation is None or taught.fact.relation == relation]
    if not chosen:
        relations = ", ".join(dict.fromkeys(taught.fact.relation for taught in among))
        raise UsageError(f"There is no relation {relation!r} among these facts.", f"There are: {relations}.")
    for fact in chosen:
        output.write_json_line(fact.to_json())
