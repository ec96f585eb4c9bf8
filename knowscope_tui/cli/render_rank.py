"""A ranking for a person: what each kind of site does, and the facts that one unit carries most."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from knowscope_tui.cli.render import QUIET, STRONG, drawn, table
from knowscope_tui.core.ranks import BestUnit, KindRanks, RankSummary
from knowscope_tui.text import bar, count, cut, cut_middle, file_size, probability, share, visible


def show_ranks(console: Console, summary: RankSummary) -> None:
    """What a ranking came to, and where it lies; long paths are folded, never cut."""
    head = f"{count(summary.facts, 'fact')} · {count(summary.units, 'unit')}"
    console.print(Text(head, style=STRONG))
    if summary.measured and summary.seconds > 0:
        rate = f"{summary.measured / summary.seconds:,.0f} units/s over {summary.seconds:,.1f} s of measuring"
        console.print(Text(rate, style=QUIET))
    console.print()
    console.print(_kinds(console, summary.kinds))
    console.print()
    console.print(_strongest(console, summary.strongest))
    console.print()
    console.print(Text(f"Saved to {visible(summary.file)} ({file_size(summary.size_bytes)}).", style="green"))


def _kinds(console: Console, kinds: Sequence[KindRanks]) -> Table:
    made = table(("site", "left"), ("strongest in", "right"), ("mean ΔProb of its best unit", "right"), ("", "left"))
    for row in sorted(kinds, key=lambda row: -row.mean_delta_prob):
        blocks = Text(drawn(console, bar(row.mean_delta_prob, 20)), "magenta")
        made.add_row(row.kind.value, count(row.strongest, "fact"), share(row.mean_delta_prob), blocks)
    return made


def _strongest(console: Console, facts: Sequence[BestUnit]) -> Table:
    room = max(console.width - 58, 16)
    made = table(
        ("fact", "left"), ("answer", "left"), ("P", "right"), ("after", "right"), ("ΔProb", "right"), ("unit", "left")
    )
    for best in facts:
        made.add_row(
            Text(cut_middle(visible(best.prompt), room)),
            Text(cut(visible(best.answer), 12)),
            probability(best.p_answer),
            probability(best.p_after),
            share(best.delta_prob),
            Text(str(best.unit)),
        )
    return made
