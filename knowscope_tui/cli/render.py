"""Readings and effects for a person: tables with bars, plain when piped, whole at 80 columns.

All text that is not this program's own goes through `visible` into `Text`, never through markup.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from knowscope_tui.core.readings import Ablation, Effect, Mode, Rank, Reading, SiteReading, TokenProb
from knowscope_tui.text import bar, cut, figure, probability, shade, share, token_text, visible

STRONG, QUIET, HEAD = "bold", "dim", "bold"
_PLAIN_BARS = str.maketrans("█▉▊▋▌▍▎▏░▒▓·", "##########+.")


def drawn(console: Console, blocks: str) -> str:
    """`blocks` as the console's encoding can show them."""
    return blocks if console.encoding.lower().startswith("utf") else blocks.translate(_PLAIN_BARS)


def table(*columns: tuple[str, str]) -> Table:
    """A table without lines; each column is a title and `left` or `right`."""
    made = Table(box=None, header_style=HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for title, side in columns:
        made.add_column(title, justify="right" if side == "right" else "left", no_wrap=True, overflow="ellipsis")
    return made


def fact_line(prompt: str, answer: str) -> Text:
    return Text.assemble(visible(prompt), (" → ", QUIET), (visible(answer), STRONG))


def _scaled(value: float, largest: float) -> float:
    return value / largest if largest > 0 else 0.0


# --- a reading ------------------------------------------------------------------------------------------------------


def show_reading(console: Console, reading: Reading) -> None:
    """The fact, its tokens, what comes next, where it lives, and its units."""
    console.print(fact_line(reading.prompt, reading.answer))
    console.print(_answer_line(reading))
    console.print()
    console.print(_tokens(reading))
    console.print()
    console.print(_next_tokens(console, reading.top_tokens[:5]))
    if reading.sites:
        console.print()
        console.print(_where(console, reading.sites))
    console.print()
    if reading.beside:
        console.print(_beside(reading))
    console.print(_units(console, reading) if reading.units else Text("No unit is active here.", style=QUIET))


def _beside(reading: Reading) -> Text:
    """Beside what ΔProb is measured."""
    named = " ".join(str(unit) for unit in reading.beside)
    p = "" if reading.p_beside is None else f", which leaves P {probability(reading.p_beside)}"
    return Text(f"ΔProb with {named} off{p}", style=QUIET)


def _answer_line(reading: Reading) -> Text:
    line = Text.assemble(("P ", QUIET), probability(reading.p_answer), ("   rank ", QUIET), f"{reading.rank:,}")
    if not reading.says_answer and reading.rank == 1:
        line.append("   right at first, but the model goes on otherwise", style="yellow")
    elif reading.rank > 1 and reading.top_tokens:
        says = token_text(reading.top_tokens[0].token)
        line.append(f"   the model would rather say {says}", style="yellow")
    return line


def _tokens(reading: Reading) -> Text:
    line = Text("reading at ", style=QUIET, overflow="fold")
    for position, token in enumerate(reading.tokens):
        here = position == reading.position
        line.append(f"[{token_text(token)}]" if here else token_text(token), style="bold reverse" if here else QUIET)
        line.append(" ")
    return line


def _next_tokens(console: Console, tokens: Sequence[TokenProb]) -> Table:
    made = table(("next token", "left"), ("P", "right"), ("", "left"))
    for token in tokens:
        made.add_row(
            Text(cut(token_text(token.token), 24)), probability(token.p), Text(drawn(console, bar(token.p, 24)), "cyan")
        )
    return made


def _where(console: Console, sites: Sequence[SiteReading]) -> Table:
    """Kinds of site × layers; a cell's shade is its share of the strongest cell's summed attribution."""
    layers = sorted({site.site.layer for site in sites})
    kinds = list(dict.fromkeys(site.site.kind for site in sorted(sites, key=lambda site: site.site.kind.value)))
    strongest = max(site.attribution for site in sites)
    cells = {(site.site.kind, site.site.layer): site for site in sites}
    wide = len(layers) * 3 <= console.width - 16
    made = Table(box=None, header_style=QUIET, pad_edge=False, padding=(0, 1 if wide else 0, 0, 0))
    made.add_column("layer", no_wrap=True)
    for layer in layers:
        made.add_column(str(layer) if wide else str(layer % 10), justify="right", no_wrap=True)
    for kind in kinds:
        row = [cells.get((kind, layer)) for layer in layers]
        shades = [shade(_scaled(site.attribution, strongest)) * (2 if wide else 1) if site else " " for site in row]
        made.add_row(Text(kind.value.ljust(11)), *(Text(drawn(console, cell), "cyan") for cell in shades))
    return made


def _units(console: Console, reading: Reading) -> Table:
    width = 8 if console.width < 100 else 14
    most_active = max(abs(row.activation) for row in reading.units)
    most_attributed = max(row.attribution for row in reading.units)
    titles = {Rank.ACTIVATION: "activation", Rank.ATTRIBUTION: "attribution", Rank.DELTA_PROB: "ΔProb"}
    titles[reading.ranked_by] += "▾"
    made = table(
        ("unit", "left"), *(column for title in titles.values() for column in ((title, "left"), ("", "right")))
    )
    for row in reading.units:
        made.add_row(
            Text(str(row.unit), style=STRONG if row.selected else ""),
            Text(drawn(console, bar(_scaled(abs(row.activation), most_active), width)), "green"),
            figure(row.activation),
            Text(drawn(console, bar(_scaled(row.attribution, most_attributed), width)), "cyan"),
            figure(row.attribution),
            Text(drawn(console, bar(row.delta_prob or 0.0, width)), "magenta"),
            share(row.delta_prob),
        )
    return made


# --- an effect ------------------------------------------------------------------------------------------------------


def show_effect(console: Console, effect: Effect) -> None:
    """What an ablation did: the answer before and after, the next tokens, the continuations."""
    console.print(fact_line(effect.prompt, effect.answer))
    console.print(Text(_ablation_words(effect.ablation), style=QUIET))
    console.print()
    console.print(_before_after(console, effect))
    console.print()
    console.print(_tokens_before_after(console, effect))
    if effect.continuation_before or effect.continuation_after:
        console.print()
        for title, text in (("before  ", effect.continuation_before), ("after   ", effect.continuation_after)):
            console.print(Text.assemble((title, QUIET), visible(effect.prompt), (visible(text), STRONG)))


def _ablation_words(ablation: Ablation) -> str:
    what = {Mode.ZERO: "switched off", Mode.MEAN: "set to their mean"}.get(
        ablation.mode, f"turned × {ablation.factor:g}"
    )
    named = [str(unit) for unit in ablation.units]
    units = ", ".join(named[:6]) + (f" and {len(named) - 6} more" if len(named) > 6 else "")
    where = "at every token" if ablation.positions.value == "all" else "at the reading position"
    return f"{units}: {what} {where}" + (", reconstruction substituted" if ablation.substitute else "")


def _before_after(console: Console, effect: Effect) -> Table:
    made = table(("", "left"), ("P", "right"), ("", "left"), ("rank", "right"))
    for title, p, rank in (
        ("before", effect.p_before, effect.rank_before),
        ("after", effect.p_after, effect.rank_after),
    ):
        made.add_row(title, probability(p), Text(drawn(console, bar(p, 30)), "green"), f"{rank:,}")
    made.add_row(Text("ΔProb", STRONG), Text(share(effect.delta_prob), STRONG), "", "")
    return made


def _tokens_before_after(console: Console, effect: Effect) -> Table:
    made = table(
        ("says before", "left"), ("P", "right"), ("", "left"), ("says after", "left"), ("P", "right"), ("", "left")
    )
    for before, after in zip(effect.top_before[:5], effect.top_after[:5], strict=False):
        cells: list[Text | str] = []
        for token in (before, after):
            blocks = Text(drawn(console, bar(token.p, 10)), "cyan")
            cells += [Text(cut(token_text(token.token), 14)), probability(token.p), blocks]
        made.add_row(*cells)
    return made
