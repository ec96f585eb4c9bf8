"""`knowscope-tui saes`: the published dictionaries that there are, what is in one release, and bringing it here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from knowscope_tui.cli import words
from knowscope_tui.cli.options import L0, LAYERS, OFFLINE, SAE_DTYPE, WIDTH, as_json
from knowscope_tui.errors import DictionaryError, UsageError

if TYPE_CHECKING:
    from knowscope_tui.core.dictionaries import ReleaseState

EPILOG = """\b
Examples:
  knowscope-tui saes list --model google/gemma-2-2b
  knowscope-tui saes search gemma-2-9b mlp_out
  knowscope-tui saes info gemma-scope-2b-pt-res-canonical
  knowscope-tui saes pull gemma-scope-2b-pt-res-canonical --layers 10-20

\b
A release is a published set of sparse autoencoders for one model, as
SAELens's registry names it."""

MODEL = click.option("--model", metavar="MODEL", help="Only releases for this model, or for what it was tuned from.")
EVERYTHING = click.option(
    "--all/--usable", "everything", default=False, help="Show those that cannot be used here too.  [default: usable]"
)


@click.group(epilog=EPILOG, short_help="Browse, search and pull published dictionaries.")
def saes() -> None:
    """Browse, search and pull published dictionaries."""


@saes.command(
    "list",
    short_help="The releases there are.",
    epilog="\b\nExamples:\n  knowscope-tui saes list --model google/gemma-2-2b"
    "\n  knowscope-tui saes list canonical --json",
)
@click.argument("searched", nargs=-1, metavar="[WORDS]…", type=words.utf8)
@MODEL
@EVERYTHING
@as_json
def list_(searched: tuple[str, ...], model: str | None, everything: bool, json: bool) -> None:
    """List the releases whose name, repository, model or site holds every one of WORDS."""
    _list(searched, model, everything, json)


@saes.command(
    short_help="Releases by words in their names.",
    epilog="\b\nExample:\n  knowscope-tui saes search gemma-2-9b mlp_out",
)
@click.argument("searched", nargs=-1, required=True, metavar="WORDS…", type=words.utf8)
@MODEL
@EVERYTHING
@as_json
def search(searched: tuple[str, ...], model: str | None, everything: bool, json: bool) -> None:
    """Search for releases whose name, repository, model or site holds every one of WORDS."""
    _list(searched, model, everything, json)


def _list(searched: tuple[str, ...], model: str | None, everything: bool, json: bool) -> None:
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress

    with progress(as_json=json) as tell:
        tell("Reading the registry", None)
        from knowscope_tui.session import shelf

        found = shelf.releases(" ".join(searched), model)
        if not found:
            raise _nothing(searched, model, shelf.releases())
    shown = [state for state in found if everything or not state.release.why_not]
    hidden = len(found) - len(shown)
    if json:
        from knowscope_tui.core.as_json import release_json

        output.write_json({"releases": [release_json(state) for state in shown], "hidden": hidden})
        return
    from knowscope_tui.cli.render_shelf import show_releases

    show_releases(output.console(), shown)
    if hidden:
        output.note(f"{hidden} that cannot be used here {'is' if hidden == 1 else 'are'} left out: --all shows why.")


def _nothing(searched: tuple[str, ...], model: str | None, among: tuple[ReleaseState, ...]) -> DictionaryError:
    """That nothing was found, with the closest names."""
    from difflib import get_close_matches

    names = [state.release.name for state in among]
    models = sorted({state.release.model for state in among})
    vocabulary = {name.lower(): name for name in (*names, *models)}
    asked = [*searched, "-".join(searched)] if searched else [model or ""]
    close = [
        vocabulary[name] for word in asked for name in get_close_matches(word.lower(), vocabulary, n=2, cutoff=0.6)
    ]
    hint = f"Did you mean {', '.join(dict.fromkeys(close))}?" if close else "`knowscope-tui saes list` shows all."
    words = f" matches {' '.join(searched)!r}" if searched else ""
    return DictionaryError(f"No release{f' for {model!r}' if model else ''}{words or ' is known'}.", hint)


@saes.command(
    short_help="What a release holds.",
    epilog="\b\nExamples:\n  knowscope-tui saes info gemma-scope-2b-pt-res-canonical"
    "\n  knowscope-tui saes info gemma-scope-2b-pt-res --ids",
)
@click.argument("release")
@click.option("--ids", is_flag=True, help="List every dictionary by its id.")
@OFFLINE
@as_json
def info(release: str, ids: bool, offline: bool, json: bool) -> None:
    """Say what RELEASE holds: model, sites, layers, widths, L0s, sizes, and what of it is on this machine.

    Sizes are asked from the hub; where it cannot be reached they are worked out from the widths.
    """
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress

    with progress(as_json=json) as tell:
        tell("Asking for sizes", None)
        from knowscope_tui.session import shelf

        state, entries = shelf.release(release, ask_hub=not offline)
    if json:
        from knowscope_tui.core.as_json import entry_json, release_json

        listed = [entry_json(entry) | {"usual": number < state.usual} for number, entry in enumerate(entries)]
        output.write_json(release_json(state) | {"entries": listed})
        return
    from knowscope_tui.cli.render_shelf import show_entries, show_release

    console = output.console()
    show_release(console, state, entries)
    if ids:
        show_entries(console, entries)


@saes.command(
    short_help="Download and convert dictionaries.",
    epilog="\b\nExamples:\n  knowscope-tui saes pull gemma-scope-2b-pt-res-canonical"
    "\n  knowscope-tui saes pull gemma-scope-2b-pt-res --width 65k --layers 10-20",
)
@click.argument("release")
@WIDTH
@L0
@LAYERS
@click.option("--id", "ids", metavar="ID", multiple=True, help="Exactly this dictionary; may be repeated.")
@SAE_DTYPE
@OFFLINE
@as_json
def pull(
    release: str,
    width: str | None,
    l0: str | None,
    layers: str | None,
    ids: tuple[str, ...],
    sae_dtype: str | None,
    offline: bool,
    json: bool,
) -> None:
    """Download the usual set of RELEASE, or what the options choose of it, and convert it for this program.

    What is here already is left as it is. A pull that was stopped goes on where it was.
    """
    if ids and (width or l0 or layers):
        raise UsageError("--id names dictionaries exactly.", "Leave out --width, --l0 and --layers, or --id.")
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress
    from knowscope_tui.cli.source import choice, configured
    from knowscope_tui.config import load_settings

    settings = configured(load_settings())
    try:
        with progress(as_json=json, lines=True) as tell:
            tell("Loading torch", None)
            from knowscope_tui.session import shelf

            pulled = shelf.pull(
                release,
                choice(width, l0, layers),
                tuple(dict.fromkeys(ids)),
                sae_dtype=sae_dtype or settings.sae_dtype,
                offline=offline or settings.offline,
                on_progress=tell,
            )
            state, _entries = shelf.release(release)
    except KeyboardInterrupt:
        raise click.Abort("Stopped; the same command goes on where it was.") from None
    if json:
        from knowscope_tui.core.as_json import pulled_json

        output.write_json(pulled_json(pulled))
        return
    from knowscope_tui.cli.render_shelf import show_pulled

    chosen = [f"--{name} {word}" for name, word in (("width", width), ("l0", l0), ("layers", layers)) if word]
    show_pulled(output.console(), pulled, state, [] if ids else chosen)
