"""`knowscope-tui edit`: facts erased from the weights, measured, and saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from knowscope_tui.cli.options import Shared, Verb, shared
from knowscope_tui.cli.words import facts_in, own_fact, portion, share, share_or_auto, site_kind, some_text, unit, utf8
from knowscope_tui.core.written import check_absent, check_target
from knowscope_tui.errors import UsageError
from knowscope_tui.paths import typed_path

if TYPE_CHECKING:
    from knowscope_tui.core.edits import EditSpec
    from knowscope_tui.core.facts import Fact
    from knowscope_tui.core.proof import EditReport
    from knowscope_tui.core.saved import SavedCheckpoint
    from knowscope_tui.session.editing import Wishes
    from knowscope_tui.session.scope import Scope

METHODS = (
    "positions", "rows", "neurons", "projection", "random", "precise", "refined", "refined-random", "gradient",
)  # fmt: skip

DELTA_SUFFIX = ".delta.safetensors"

EPILOG = """\b
Examples:
  knowscope-tui edit --prompt "The capital of France is" --answer Paris
  knowscope-tui demo facts --private | head -1 > one.jsonl
  knowscope-tui edit one.jsonl --tau2 auto --leaks --out edited
  knowscope-tui demo facts --private | head -50 > fifty.jsonl
  knowscope-tui edit fifty.jsonl --method refined --out edited
  knowscope-tui edit one.jsonl --method precise --set beekeeper

\b
A fact file holds one fact a line:
  {"prompt": "…", "answer": "…", "paraphrases": […], "edit_prompts": […]}
The edit may use the edit_prompts; the paraphrases are only measured on."""


@click.command(cls=Verb, epilog=EPILOG, short_help="Erase facts from the weights, measure it, save a checkpoint.")
@click.argument("facts", required=False, metavar="[FACTS.jsonl]")
@click.option("--prompt", metavar="TEXT", type=utf8, help="A fact to erase, instead of a file or beside it.")
@click.option("--answer", metavar="TEXT", type=utf8, help="What the model says after --prompt.")
@click.option("--set", "target_new", metavar="TEXT", type=some_text, help="Write this answer instead of erasing.")
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="positions",
    show_default=True,
    metavar="METHOD",
    help=f"{', '.join(METHODS[:-1])} or {METHODS[-1]}: the first two are FeatureEdit, precise and refined are for many "
    "facts, the rest are for comparison.",
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
@click.option(
    "--tau2",
    metavar="X",
    type=share_or_auto,
    help="τ2, as a share of the largest value, or auto.  [default: the method's]",
)
@click.option("--min-rel", metavar="X", type=share, default=0.97, show_default=True, help="auto: least Rel.")
@click.option("--max-ppl", metavar="X", type=share, default=0.01, show_default=True, help="auto: most ΔPPL.")
@click.option("--min-loc", metavar="X", type=share, default=0.97, show_default=True, help="auto: least Loc.")
@click.option(
    "--budget",
    metavar="X",
    type=portion,
    default="0.01",
    show_default=True,
    help="refined: share of all weights to change.",
)
@click.option(
    "--unit", "units", metavar="UNIT", type=unit, multiple=True, help="Use exactly these units; may be repeated."
)
@click.option("--retain", metavar="FACTS.jsonl", help="Facts that the edit is told to keep.")
@click.option("--neighbors", metavar="FACTS.jsonl", help="Facts that locality is measured on.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of every draw.")
@click.option("--leaks", is_flag=True, help="Run the leak tests on what is edited.")
@click.option("--no-control", is_flag=True, help="Leave out the random control.")
@click.option("--include-facts", is_flag=True, help="Save the facts' text too, not only ids and hashes.")
@click.option("--copy", is_flag=True, help="Copy files without an edit instead of linking them.")
@click.option("--out", metavar="DIR", help="Save the edited model as this folder, or the edit as X.delta.safetensors.")
@click.option("--push-to-hub", metavar="REPO", help="Upload what was saved to this hub repository.")
@click.option("--dry-run", is_flag=True, help="Measure only.")
@shared
def edit(options: Shared, /, **given: Any) -> int:
    """Edit facts in the model's weights and measure what that did: the facts of a file, or one typed here."""
    target = _target(given["out"], given["dry_run"])
    facts = (facts_in(given["facts"]) if given["facts"] else []) + own_fact(given["prompt"], given["answer"])
    if not facts:
        raise UsageError("No fact was named.", 'Give a fact file, or --prompt "…" --answer "…".')
    repo = given["push_to_hub"]
    if repo and (target is None or _is_delta(target)):
        raise UsageError("--push-to-hub uploads a saved folder.", "Name the folder with --out.")
    kept = facts_in(given["neighbors"]) if given["neighbors"] else None
    retain = facts_in(given["retain"]) if given["retain"] else None
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress

    with progress(as_json=options.json) as tell:
        if repo:
            tell("Checking the upload", None)
            from knowscope_tui.session.pushing import check_push

            check_push(repo)
        scope = options.open(tell)
        from knowscope_tui.core.proof import LeakOptions
        from knowscope_tui.core.saved import SaveOptions
        from knowscope_tui.session.editing import Wishes

        spec = _spec(_told_fully(scope, facts), retain, given)
        wishes = Wishes(
            neighbors=None if kept is None else tuple(kept),
            dry_run=given["dry_run"],
            control=not given["no_control"],
            leaks=LeakOptions(seed=given["seed"]) if given["leaks"] else None,
            on_progress=tell,
        )
        report = _carried_out(scope, spec, wishes, shown=not options.json)
        saved = delta = None
        if target is not None and _is_delta(target):
            delta = scope.save_delta(target)
        elif target is not None:
            save_options = SaveOptions(given["include_facts"], not given["copy"], repo)
            saved = scope.save(target, save_options, tell)
    for sentence in _remarks(report, unsaved=target is None and not given["dry_run"]):
        output.note(sentence)
    if options.json:
        from knowscope_tui.core.edit_json import delta_json, report_json, saved_json
        from knowscope_tui.core.fact_names import FactNames

        row = report_json(report, FactNames(include=True))
        row["checkpoint"] = saved.folder if saved else None
        row["saved"] = saved_json(saved) if saved else None
        row["delta"] = delta_json(delta) if delta else None
        output.write_json(row)
        return _exit_code(saved)
    from knowscope_tui.cli.render_edit import show_delta, show_report, show_saved

    out_console = output.console()
    show_report(out_console, report)
    if saved is not None:
        show_saved(out_console, saved)
    if delta is not None:
        show_delta(out_console, delta)
    return _exit_code(saved)


def _exit_code(saved: SavedCheckpoint | None) -> int:
    """1 where an upload that was asked for did not happen."""
    return int(saved is not None and bool(saved.not_pushed))


def _carried_out(scope: Scope, spec: EditSpec, wishes: Wishes, *, shown: bool) -> EditReport:
    """The edit's report. Where no τ2 is within the limits the frontier is shown before the error travels on."""
    from knowscope_tui.core.edits import NoTau2

    try:
        return scope.carry_out(spec, wishes)
    except NoTau2 as error:
        if shown:
            from knowscope_tui.cli import output
            from knowscope_tui.cli.render_edit import show_frontier

            show_frontier(output.console(), error.frontier)
        raise


def _spec(facts: tuple[Fact, ...], retain: list[Fact] | None, given: Mapping[str, Any]) -> EditSpec:
    """The edit that the options describe."""
    from knowscope_tui.core.edits import EditSpec, Limits, Method

    if given["target_new"]:
        facts = tuple(replace(fact, target_new=given["target_new"]) for fact in facts)
    auto = given["tau2"] == "auto"
    return EditSpec(
        facts,
        Method(given["method"]),
        given["site"],
        given["top"],
        None if auto else given["tau2"],
        tuple(dict.fromkeys(given["units"])),
        given["seed"],
        auto,
        Limits(given["min_rel"], given["max_ppl"], given["min_loc"]),
        None if retain is None else tuple(retain),
        given["budget"],
    )


def _is_delta(target: Path) -> bool:
    return target.name.endswith(DELTA_SUFFIX)


def _remarks(report: EditReport, *, unsaved: bool) -> Iterator[str]:
    """What a reader of the figures should know beside them."""
    facts = report.proof.facts
    unknown = sum(not outcome.known_before for outcome in facts)
    if unknown:
        yield (
            f"{unknown} of {len(facts)} facts were not what the model said before the edit; "
            "reliability counts the others."
        )
    if report.proof.neighbors == 0:
        yield "Locality was not measured: name facts that must stay, and that the model knows, with --neighbors."
    for conflict in report.plan.conflicts:
        where = "in this edit" if conflict.applied is None else f"of edit {conflict.applied}"
        yield (
            f"{_named(conflict.fact)} and {_named(conflict.other)} {where} pull the same keys to different answers "
            f"(cosine {conflict.similarity:.3f})."
        )
    if unsaved:
        yield "Nothing was saved: name a folder with --out to keep the edited model."


def _target(out: str | None, dry_run: bool) -> Path | None:
    """Where to save. Raises before anything takes time: a target that exists, or one that a dry run would not use."""
    if out is None:
        return None
    if dry_run:
        raise UsageError("--dry-run saves nothing.", "Leave out --dry-run or --out.")
    target = typed_path(out)
    if _is_delta(target):
        check_target(target)
    elif target.suffix == ".safetensors":
        raise UsageError(
            f"{target.name!r} is neither a folder nor an edit by itself.",
            f"Name a folder, or {target.stem}{DELTA_SUFFIX}.",
        )
    else:
        check_absent(target, "folder")
    return target


def _told_fully(scope: Scope, asked: list[Fact]) -> tuple[Fact, ...]:
    """`asked`, where a bare prompt and answer of a fact that the open model brings along is that whole fact."""
    known = {(fact.prompt, fact.answer): fact for fact in scope.facts}
    return tuple(fact if fact.paraphrases else known.get((fact.prompt, fact.answer), fact) for fact in asked)


def _named(fact: Fact) -> str:
    return repr(fact.id or fact.prompt)
