"""`knowscope-tui ablate`: units switched off, and what becomes of the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from knowscope_tui.cli.options import Shared, Verb, shared
from knowscope_tui.cli.words import finite, unit, utf8

if TYPE_CHECKING:
    from knowscope_tui.core.readings import Mode
    from knowscope_tui.core.units import Unit

POSITIONS = ("last", "all")

EPILOG = """\b
Examples:
  knowscope-tui ablate "The capital of France is" --answer Paris \\
      --unit 3.resid_post.f17
  knowscope-tui ablate "The capital of France is" --answer Paris \\
      --unit 2.mlp_act.n345 --mode scale=-1"""


def mode_and_factor(text: str) -> tuple[Mode, float]:
    """zero, mean, or scale=X."""
    from knowscope_tui.core.readings import Mode

    name, equals, number = text.partition("=")
    if name in (Mode.ZERO.value, Mode.MEAN.value) and not equals:
        return Mode(name), 0.0
    factor = finite(number)
    if name != Mode.SCALE.value or factor is None:
        raise click.BadParameter(f"{text!r} is none of zero, mean and scale=X (as in scale=2).")
    return Mode.SCALE, factor


@click.command(cls=Verb, epilog=EPILOG, short_help="Switch units off and see what becomes of the answer.")
@click.argument("prompt", type=utf8)
@click.option("--answer", metavar="TEXT", type=utf8, required=True, help="The answer to watch.")
@click.option(
    "--unit", "units", metavar="UNIT", type=unit, multiple=True, required=True, help="A unit; may be repeated."
)
@click.option(
    "--mode",
    metavar="zero|mean|scale=X",
    type=mode_and_factor,
    default="zero",
    show_default=True,
    help="What the unit's activation becomes.",
)
@click.option(
    "--positions",
    type=click.Choice(POSITIONS),
    default="last",
    show_default=True,
    help="The reading position alone, or every token but <bos>.",
)
@click.option(
    "--substitute",
    is_flag=True,
    help="Replace the activation by the reconstruction (the paper's way) before switching.",
)
@click.option("--position", type=int, metavar="N", help="Token to switch at; -1 (the default) is the last.")
@click.option(
    "--continuation",
    type=click.IntRange(min=0),
    metavar="N",
    default=12,
    show_default=True,
    help="Tokens to generate with and without.",
)
@shared
def ablate(
    options: Shared,
    prompt: str,
    answer: str,
    units: tuple[Unit, ...],
    mode: tuple[Mode, float],
    positions: str,
    substitute: bool,
    position: int | None,
    continuation: int,
) -> None:
    """Switch units off (or turn them) after PROMPT and see how probable the answer still is."""
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress
    from knowscope_tui.core.readings import Positions

    with progress(as_json=options.json) as tell:
        scope = options.open(tell)
        tell("Switching units off", None)
        effect = scope.ablate(
            prompt,
            answer,
            dict.fromkeys(units),
            mode=mode[0],
            factor=mode[1],
            positions=Positions(positions),
            substitute=substitute,
            position=position,
            continuation=continuation,
        )
    if options.json:
        from knowscope_tui.core.as_json import effect_json

        output.write_json(effect_json(effect))
        return
    from knowscope_tui.cli.render import show_effect

    show_effect(output.console(), effect)
