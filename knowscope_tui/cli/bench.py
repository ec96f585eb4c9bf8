"""`knowscope-tui bench`: what exact ranking, a live toggle and a first reading cost here, beside the peers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from knowscope_tui.cli import words
from knowscope_tui.cli.options import DEVICE, Verb, as_json

if TYPE_CHECKING:
    from knowscope_tui.core.units import SiteKind

EPILOG = """\b
Examples:
  knowscope-tui bench
  knowscope-tui bench --shape 2b --device cuda --json > bench.json

\b
Nothing is loaded or fetched: weights and dictionaries are random
numbers, made in memory. Seconds do not depend on what they know."""

SHAPES = ("tiny", "small", "2b")


def site_kinds(text: str) -> tuple[SiteKind, ...]:
    """Kinds of site, as resid_post,mlp_out."""
    kinds = tuple(words.site_kind(word.strip()) for word in text.split(",") if word.strip())
    if not kinds:
        raise click.BadParameter("it names no kinds of site.")
    return kinds


@click.command(cls=Verb, epilog=EPILOG, short_help="Time it here, beside sae-lens and plain hooks.")
@click.option(
    "--shape",
    type=click.Choice(SHAPES),
    default="small",
    show_default=True,
    help="2b is Gemma-2-2B's; small has 12 layers of 768, tiny 4 of 128.",
)
@click.option(
    "--kinds",
    metavar="KIND,…",
    type=site_kinds,
    default=None,
    help="Sites with dictionaries.  [default: resid_post,mlp_out,attn_z; resid_post for 2b on a CPU]",
)
@click.option("--units", type=click.IntRange(min=1), default=500, show_default=True, help="How many are ranked.")
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="How many of them the peers are timed on; their time is scaled.",
)
@click.option(
    "--toggles", type=click.IntRange(min=1), default=9, show_default=True, help="How many are switched off one by one."
)
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How often each thing is done; the median counts.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seeds the random weights and dictionaries, and which units are switched off one by one.",
)
@click.option("--skip-saelens", is_flag=True, help="Leave sae-lens out.")
@DEVICE
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    help="auto is bfloat16 on a GPU and float32 on the CPU.",
)
@as_json
def bench(
    json: bool,
    kinds: tuple[SiteKind, ...] | None,
    device: str | None,
    dtype: str | None,
    skip_saelens: bool,
    **numbers: Any,
) -> None:
    """Time this program on this machine, side by side with sae-lens's bridge and with plain forward hooks.

    All three do the same to the same random model in one run: the exact effect of hundreds of features, one feature
    switched off live, and a first reading. Beside the ratios stands how far each is from what this machine could do
    at best.
    """
    from knowscope_tui.bench.threads import keep_apart
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress

    keep_apart()
    with progress(as_json=json, lines=True) as tell:
        tell("Loading torch", None)
        from knowscope_tui.bench.run import Plan, measure

        chosen = numbers | {"kinds": kinds or (), "saelens": not skip_saelens}
        plan = Plan(device=device or "auto", dtype=dtype or "auto", **chosen)
        result = measure(plan, tell)
    if json:
        output.write_json(result.as_json())
        return
    from knowscope_tui.cli.render_bench import show_bench

    show_bench(output.console(), result)
