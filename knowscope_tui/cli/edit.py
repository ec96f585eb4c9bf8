"""`knowscope-tui edit`: facts erased from the weights, measured, and saved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from knowscope_tui.cli.options import Shared, Verb, shared
from knowscope_tui.cli.words import facts_in, own_fact, share, site_kind, unit, utf8
from knowscope_tui.errors import SaveError, UsageError
from knowscope_tui.paths import typed_path

if TYPE_CHECKING:
    from knowscope_tui.core.edits import EditReport
    from knowscope_tui.core.facts import Fact
    from knowscope_tui.core.units import SiteKind, Unit
    from knowscope_tui.session.scope import Scope

METHODS = ("positions", "rows", "neurons", "random")

EPILOG = """\b
Examples:
  knowscope-tui edit --prompt "The capital of France is" --answer Paris
  knowscope-tui demo facts --private | head -1 > one.jsonl
  knowscope-tui edit one.jsonl --out edited

\b
A fact file holds one fact a line:
  {"prompt": "…", "answer": "…", "paraphrases": […], "edit_prompts": […]}
The edit may use the edit_prompts; the paraphrases are only measured on."""


@click.command(cls=Verb, epilog=EPILOG, short_help="Erase facts from the weights, measure it, save a checkpoint.")
@click.argument("facts", required=False, metavar="[FACTS.jsonl]")
@click.option("--prompt", metavar="TEXT", type=utf8, help="A fact to erase, instead of a file or beside it.")
@click.option("--answer", metavar="TEXT", type=utf8, help="What the model says after --prompt.")
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="positions",
    show_default=True,
    help="FeatureEdit (positions, or rows: the literal reading), or a baseline.",
)
@click.option(
    "--site",
    metavar="KIND",
    type=site_kind,
    default="resid_post",
    show_default=True,
    help="Site whose features are used.",
)
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Units a fact, by attribution.")
@click.option("--tau2", metavar="X", type=share, help="τ2, as a share of the largest value.  [default: the method's]")
@click.option(
    "--unit", "units", metavar="UNIT", type=unit, multiple=True, help="Use exactly these units; may be repeated."
)
@click.option("--neighbors", metavar="FACTS.jsonl", help="Facts that must stay; locality is measured on them.")
@click.option("--out", metavar="DIR", help="Save the edited model there, as a folder that transformers loads.")
@click.option("--dry-run", is_flag=True, help="Measure only.")
@shared
def edit(
    options: Shared,
    facts: str | None,
    prompt: str | None,
    answer: str | None,
    method: str,
    site: SiteKind,
    top: int,
    tau2: float | None,
    units: tuple[Unit, ...],
    neighbors: str | None,
    out: str | None,
    dry_run: bool,
) -> None:
    """Erase facts from the model's weights and measure what that did: the facts of a file, or one typed here."""
    target = _target(out, dry_run)
    asked = (facts_in(facts) if facts else []) + own_fact(prompt, answer)
    if not asked:
        raise UsageError("No fact was named.", 'Give a fact file, or --prompt "…" --answer "…".')
    kept = facts_in(neighbors) if neighbors else None
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress
    from knowscope_tui.core.edits import EditSpec, Method

    with progress(as_json=options.json) as tell:
        scope = options.open(tell)
        spec = EditSpec(_told_fully(scope, asked), Method(method), site, top, tau2, tuple(dict.fromkeys(units)))
        report = scope.carry_out(spec, neighbors=kept, dry_run=dry_run, on_progress=tell)
        saved = scope.save(target, tell) if target is not None else None
    for sentence in _remarks(report, unsaved=target is None and not dry_run):
        output.note(sentence)
    if options.json:
        from knowscope_tui.core.as_json import report_json

        output.write_json(report_json(report) | {"checkpoint": saved.folder if saved else None})
        return
    from knowscope_tui.cli.render_edit import show_report, show_saved

    out_console = output.console()
    show_report(out_console, report)
    if saved is not None:
        show_saved(out_console, saved)


def _remarks(report: EditReport, *, unsaved: bool) -> Iterator[str]:
    """What a reader of the figures should know beside them."""
    unknown = sum(not outcome.known_before for outcome in report.facts)
    if unknown:
        yield (
            f"{unknown} of {len(report.facts)} facts were not what the model said before the edit; "
            "reliability counts the others."
        )
    if report.neighbors == 0:
        yield "Locality was not measured: name facts that must stay, and that the model knows, with --neighbors."
    if unsaved:
        yield "Nothing was saved: name a folder with --out to keep the edited model."


def _target(out: str | None, dry_run: bool) -> Path | None:
    """Where to save. Raises before anything takes time: a target that exists, or one that a dry run would not use."""
    if out is None:
        return None
    if dry_run:
        raise UsageError("--dry-run saves nothing.", "Leave out --dry-run or --out.")
    target = typed_path(out)
    if target.exists() or target.is_symlink():
        raise SaveError(f"{str(target)!r} already exists.", "Choose a folder that does not exist.")
    return target


def _told_fully(scope: Scope, asked: list[Fact]) -> tuple[Fact, ...]:
    """`asked`, where a bare prompt and answer of a fact that the open model brings along is that whole fact."""
    known = {(fact.prompt, fact.answer): fact for fact in scope.facts}
    return tuple(fact if fact.paraphrases else known.get((fact.prompt, fact.answer), fact) for fact in asked)
