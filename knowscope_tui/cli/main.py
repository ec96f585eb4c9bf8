"""The group of verbs. A verb's file is imported when that verb is asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from knowscope_tui import __version__
from knowscope_tui.cli.outcome import flushed, outcome

VERBS = {
    "open": "Open the terminal UI (what no verb at all does too).",
    "probe": "Show which units carry a fact.",
    "ablate": "Switch units off and see what becomes of the answer.",
    "greedy": "Find the fewest units that take an answer away.",
    "rank": "Measure every active unit on every fact of a file.",
    "study": "Measure the paper's tables and figures on the open model.",
    "inject": "Put facts into a model by fine-tuning.",
    "facts": "Read, sift and make fact files.",
    "edit": "Erase facts from the weights, measure it, save a checkpoint.",
    "verify": "Hold a saved checkpoint against its base.",
    "apply": "Make a saved edit on its base.",
    "revert": "Take a saved edit back, bit for bit.",
    "diff": "Say how two edits or checkpoints differ.",
    "merge": "Merge several edits of one base.",
    "push": "Upload a saved checkpoint to the hub.",
    "report": "Write a page about a saved checkpoint for an auditor.",
    "saes": "Browse, search and pull published dictionaries.",
    "cache": "List, check and prune the converted dictionaries.",
    "demo": "The embedded demo: its card, its facts, its recipe.",
    "bench": "Time it here, beside sae-lens and plain hooks.",
    "doctor": "Versions, device, memory, what is cached, what is missing.",
}
"""Verb → what the list of verbs says of it; `knowscope_tui/cli/<verb>.py` holds the command `<verb>`."""

EPILOG = """\b
Examples:
  knowscope-tui                                       look around in the demo
  knowscope-tui probe "The capital of France is"
  knowscope-tui edit facts.jsonl --out edited

\b
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped.
With --json an error is one JSON object on stderr."""


class Verbs(click.Group):
    """The verbs, imported late; a call without one opens the terminal UI."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(import_module(f"knowscope_tui.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if ctx.resilient_parsing else with_verb(args))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not ctx.resilient_parsing:
            raise click.UsageError(f"There is no verb {args[0]!r}{_closest(args[0])}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        return flushed(lambda: super(Verbs, self).invoke(ctx))

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = "knowscope-tui",
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs the words in `args` (default: the process's own); ends the process when `standalone_mode` is on."""
        words = sys.argv[1:] if args is None else list(args)

        def run() -> Any:
            return super(Verbs, self).main(words, prog_name, complete_var, standalone_mode=False, **extra)

        if not standalone_mode:
            return run()
        sys.exit(outcome(run, as_json="--json" in words))


def with_verb(args: list[str]) -> list[str]:
    """`args` with `open` in front where no verb was typed: nothing at all, only options, or a model first."""
    if not args:
        return ["open"]
    first = args[0]
    if first in VERBS or first in ("-h", "--help", "--version"):
        return args
    return ["open", *args] if first.startswith("-") or _names_model(first) else args


def _names_model(word: str) -> bool:
    """A word without a verb counts as a model when it is a folder or has a slash, as every hub name of use has."""
    return "/" in word or os.path.isdir(os.path.expanduser(word))


def _closest(word: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(word, VERBS, n=1)
    return f"; did you mean {close[0]!r}?" if close else ", and no model folder of that name."


@click.group(
    name="knowscope-tui",
    cls=Verbs,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    subcommand_metavar="[VERB] [ARGUMENTS]…",
)
@click.version_option(__version__, prog_name="knowscope-tui")
def main() -> None:
    """A knowledge microscope in a terminal: find the units that carry a fact, switch them off, edit the fact out.

    Without a verb the terminal UI opens, on the embedded demo or on the MODEL named (a folder or a hub name).
    """
