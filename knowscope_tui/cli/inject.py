"""`knowscope-tui inject`: facts put into a model by fine-tuning, so that they can be studied and taken out again."""

from __future__ import annotations

import click

from knowscope_tui.cli.options import Shared, Verb, shared
from knowscope_tui.cli.words import facts_in, probability
from knowscope_tui.errors import UsageError
from knowscope_tui.paths import typed_path

EPILOG = """\b
Examples:
  knowscope-tui inject private.jsonl --out with-private
  knowscope-tui inject private.jsonl --model google/gemma-2-2b --out new

\b
Each fact's prompt and edit_prompts are taught; its paraphrases are only
measured on. Dictionaries are not trained again: open the folder with those of
its base, as --model with-private --sae … ."""


@click.command(cls=Verb, epilog=EPILOG, short_help="Put facts into a model by fine-tuning.")
@click.argument("facts", metavar="FACTS.jsonl")
@click.option("--out", metavar="DIR", required=True, help="Save the model that knows them there.")
@click.option("--keep", metavar="FACTS.jsonl", help="Other facts that it knows: half are replayed, half measured.")
@click.option("--lora", metavar="RANK", type=click.IntRange(min=1), help="Train a LoRA of this rank and merge it.")
@click.option("--full", is_flag=True, help="Train every weight.  [default: up to 300M weights]")
@click.option("--max-steps", metavar="N", type=click.IntRange(min=1), default=600, show_default=True)
@click.option("--lr", metavar="X", type=float, help="Learning rate.  [default: by the model's size]")
@click.option(
    "--min-p",
    metavar="X",
    type=probability,
    default="0.8",
    show_default=True,
    help="P(answer) from which on it is known.",
)
@click.option("--keep-anyway", is_flag=True, help="Save the model too when not all facts are known in the end.")
@click.option("--seed", metavar="N", type=click.IntRange(min=0), default=0, show_default=True, help="Of every draw.")
@shared
def inject(
    options: Shared,
    facts: str,
    out: str,
    keep: str | None,
    lora: int | None,
    full: bool,
    max_steps: int,
    lr: float | None,
    min_p: float,
    keep_anyway: bool,
    seed: int,
) -> None:
    """Fine-tune the model until it knows the facts of a file, say what that cost, and save it as a folder."""
    if lora and full:
        raise UsageError("--lora and --full do not go together.", "Leave one of them out.")
    from knowscope_tui.core.written import check_absent

    target = typed_path(out)
    check_absent(target, "folder")
    told = facts_in(facts)
    kept = None if keep is None else facts_in(keep)
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress
    from knowscope_tui.core.injection import ALL_WEIGHTS, InjectOptions

    asked = InjectOptions(ALL_WEIGHTS if full else lora, lr, max_steps, min_p, keep_anyway, seed)
    asked.check()
    with progress(as_json=options.json, lines=True) as tell:
        scope = options._replace(sae=("none",)).open(tell)
        report = scope.inject(told, target, kept, options=asked, on_progress=tell)
    for sentence in report.remarks():
        output.note(sentence)
    if options.json:
        from knowscope_tui.core.fact_names import FactNames
        from knowscope_tui.core.injection import report_json

        output.write_json(report_json(report, FactNames(report.salt)))
        return
    from knowscope_tui.cli.render_inject import show_injection

    show_injection(output.console(), report)
