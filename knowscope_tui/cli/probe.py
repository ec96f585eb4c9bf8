"""`knowscope-tui probe`: one look at one fact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from knowscope_tui.cli.options import Shared, Verb, shared
from knowscope_tui.cli.words import share, utf8
from knowscope_tui.errors import UsageError

if TYPE_CHECKING:
    from knowscope_tui.core.units import Family

RANKS = ("activation", "attribution", "delta-prob")
NEURON_ATTRIBUTIONS = ("gradient", "integrated")

EPILOG = """\b
Examples:
  knowscope-tui probe "The capital of France is"
  knowscope-tui probe "The capital of France is" --rank delta-prob --json"""


@click.command(cls=Verb, epilog=EPILOG, short_help="Show which units carry a fact.")
@click.argument("prompt", type=utf8)
@click.option("--answer", metavar="TEXT", type=utf8, help="What should follow; without it the model's own next word.")
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="Units to show.")
@click.option("--kinds", metavar="LIST", default="features,neurons", show_default=True, help="Which units to read.")
@click.option(
    "--rank",
    type=click.Choice(RANKS),
    default="attribution",
    show_default=True,
    help="What units are sorted by.",
)
@click.option("--position", type=int, metavar="N", help="Token to read at; 0 is <bos>, -1 (the default) the last.")
@click.option(
    "--exact",
    type=click.IntRange(min=0),
    metavar="N",
    help="Measure ΔProb exactly for the N units strongest by attribution.  [default: as many as --top]",
)
@click.option(
    "--neuron-attribution",
    type=click.Choice(NEURON_ATTRIBUTIONS),
    default="gradient",
    show_default=True,
    help="Gradient × activation, or integrated gradients in 20 steps.",
)
@click.option(
    "--tau1", metavar="X", type=share, default=0.2, show_default=True, help="τ1: selected units exceed this share."
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
    neuron_attribution: str,
    tau1: float,
) -> None:
    """Show how probable the answer is after PROMPT, and which features and neurons carry it."""
    families = _families(kinds)
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
            exact=top if exact is None else exact,
            tau1=tau1,
            on_progress=tell,
        )
    if options.json:
        from knowscope_tui.core.as_json import reading_json

        output.write_json(reading_json(reading))
        return
    from knowscope_tui.cli.render import show_reading

    show_reading(output.console(), reading)


def _families(kinds: str) -> tuple[Family, ...]:
    from knowscope_tui.core.units import Family

    known = {family.plural: family for family in Family}
    words = [word.strip() for word in kinds.split(",") if word.strip()]
    for word in words:
        if word not in known:
            raise UsageError(f"There are no units called {word!r}.", f"Use {' or '.join(known)}, or both.")
    if not words:
        raise UsageError("--kinds names no units.", f"Use {' or '.join(known)}, or both.")
    return tuple(dict.fromkeys(known[word] for word in words))
