"""`knowscope-tui greedy`: units switched off one after the other, until the answer is gone."""

from __future__ import annotations

import click

from knowscope_tui.cli.options import Shared, Verb, shared
from knowscope_tui.cli.words import families_of, probability, utf8

EPILOG = """\b
Examples:
  knowscope-tui greedy "The capital of France is"
  knowscope-tui greedy "The capital of France is" --below 1% --most 5

\b
At each step the unit is taken that lowers P(answer) most beside those taken
before; units that turn out not to be needed are let go at the end. Every
probability is exact. A smaller set may exist that this search does not find."""


@click.command(cls=Verb, epilog=EPILOG, short_help="Find the fewest units that take an answer away.")
@click.argument("prompt", type=utf8)
@click.option("--answer", metavar="TEXT", type=utf8, help="What should go; without it the model's own next word.")
@click.option(
    "--below",
    metavar="P",
    type=probability,
    default="0.05",
    show_default=True,
    help="How low the answer's probability is to be brought.",
)
@click.option("--most", type=click.IntRange(min=1), default=20, show_default=True, help="Units to take at most.")
@click.option(
    "--kinds",
    metavar="LIST",
    default="features",
    show_default=True,
    help="What may be taken: features, neurons or features,neurons; of neurons the 1,000 strongest by attribution.",
)
@click.option("--position", type=int, metavar="N", help="Token to switch at; -1 (the default) is the last.")
@shared
def greedy(
    options: Shared, prompt: str, answer: str | None, below: float, most: int, kinds: str, position: int | None
) -> None:
    """Find the fewest units that, switched off together, bring the answer after PROMPT below a probability."""
    families = families_of(kinds)
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress

    with progress(as_json=options.json) as tell:
        scope = options.open(tell)
        doing = "Measuring every unit"

        def check() -> None:
            tell(doing, None)

        for found in scope.smallest_set(
            prompt, answer, below=below, most=most, position=position, families=families, check=check
        ):
            doing = f"{len(found.units)} off, P {found.p_after:.3f}: looking for the next"
    if options.json:
        from knowscope_tui.core.as_json import unit_set_json

        output.write_json(unit_set_json(found))
        return
    from knowscope_tui.cli.render_set import show_set

    show_set(output.console(), found, most, families)
