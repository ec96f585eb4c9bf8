"""`knowscope-tui probe`: one look at one fact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from knowscope_tui.cli.options import Shared, Verb, shared
from knowscope_tui.cli.words import families_of, share, unit, utf8
from knowscope_tui.errors import UsageError

if TYPE_CHECKING:
    from knowscope_tui.core.units import Unit

RANKS = ("activation", "attribution", "delta-prob")
NEURON_ATTRIBUTIONS = ("gradient", "integrated")

EPILOG = """\b
Examples:
  knowscope-tui probe "The capital of France is"
  knowscope-tui probe "The capital of France is" --exact 0
  knowscope-tui probe "The capital of France is" --beside 0.resid_post.f705

\b
ΔProb is exact: the share of P(answer) that is gone when the unit alone is
switched off. It is measured for every active feature, then for neurons."""


@click.command(cls=Verb, epilog=EPILOG, short_help="Show which units carry a fact.")
@click.argument("prompt", type=utf8)
@click.option("--answer", metavar="TEXT", type=utf8, help="What should follow; without it the model's own next word.")
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="Units to show.")
@click.option(
    "--kinds",
    metavar="LIST",
    default="features,neurons",
    show_default=True,
    help="Units to read: features, neurons or features,neurons.",
)
@click.option(
    "--rank",
    type=click.Choice(RANKS),
    default="delta-prob",
    show_default=True,
    help="What units are sorted by.",
)
@click.option("--position", type=int, metavar="N", help="Token to read at; 0 is <bos>, -1 (the default) the last.")
@click.option(
    "--exact",
    type=click.IntRange(min=0),
    metavar="N",
    help="Measure ΔProb of N units only, picked by attribution; 0 measures none and is quick.",
)
@click.option(
    "--neuron-seconds",
    metavar="X",
    type=share,
    default=10.0,
    show_default=True,
    help="How long neurons are measured, the strongest by attribution first.",
)
@click.option(
    "--beside",
    metavar="UNIT",
    type=unit,
    multiple=True,
    help="Show what each unit does once this one is off; may be repeated.",
)
@click.option(
    "--neuron-attribution",
    type=click.Choice(NEURON_ATTRIBUTIONS),
    default="gradient",
    show_default=True,
    help="Gradient × activation, or integrated gradients in 20 steps.",
)
@click.option(
    "--tau1",
    metavar="X",
    type=share,
    default=0.2,
    show_default=True,
    help="Units in bold are more active than X times the most active one at the same kind of site, in any layer.",
)
@shared
def probe(
    options: Shared,
    prompt: str,
    answer: str | None,
    top: int,
    kinds: str,
    rank: str,
    position: int | None,
    exact: int | None,
    neuron_seconds: float,
    beside: tuple[Unit, ...],
    neuron_attribution: str,
    tau1: float,
) -> None:
    """Show how probable the answer is after PROMPT, and which features and neurons carry it."""
    families = families_of(kinds)
    if beside and exact == 0:
        raise UsageError(
            "--beside shows measured effects, and --exact 0 measures none.", "Leave out --exact, or give it a number."
        )
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress
    from knowscope_tui.core.readings import NeuronAttribution, Rank

    with progress(as_json=options.json) as tell:
        scope = options.open(tell)
        reading = scope.probe(
            prompt,
            answer,
            position=position,
            families=families,
            rank=Rank(rank),
            neuron_attribution=NeuronAttribution(neuron_attribution),
            top=top,
            exact=exact,
            neuron_seconds=neuron_seconds,
            beside=dict.fromkeys(beside),
            tau1=tau1,
            on_progress=tell,
        )
    if options.json:
        from knowscope_tui.core.as_json import reading_json

        output.write_json(reading_json(reading))
        return
    from knowscope_tui.cli.render import show_reading

    show_reading(output.console(), reading)
