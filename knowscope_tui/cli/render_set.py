"""A set of units that takes an answer away, for a person."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from knowscope_tui.cli.render import QUIET, STRONG, drawn, fact_line, table
from knowscope_tui.core.readings import UnitSet
from knowscope_tui.text import bar, count, probability, share, visible


def show_set(console: Console, found: UnitSet) -> None:
    """Each step with what the set so far does, and the set that is left."""
    console.print(fact_line(found.prompt, found.answer))
    console.print()
    made = table(("off", "right"), ("unit added", "left"), ("P", "right"), ("", "left"), ("ΔProb", "right"))
    made.add_row("0", Text("none", QUIET), probability(found.p_before), *_bar(console, found.p_before), "")
    for number, step in enumerate(found.steps, start=1):
        unit = Text(str(step.unit), STRONG if step.unit in found.units else QUIET)
        made.add_row(str(number), unit, probability(step.p_after), *_bar(console, step.p_after), share(step.delta_prob))
    console.print(made)
    console.print()
    console.print(_verdict(found))
    if found.units:
        console.print(Text(" ".join(f"--unit {unit}" for unit in found.units), QUIET))


def _bar(console: Console, p: float) -> tuple[Text]:
    return (Text(drawn(console, bar(p, 24)), "green"),)


def _verdict(found: UnitSet) -> Text:
    if not found.units:
        return Text(f"No unit lowers P({visible(found.answer)}), which is {probability(found.p_before)}.", "yellow")
    units, answer = count(len(found.units), "unit"), visible(found.answer)
    brings = "brings" if len(found.units) == 1 else "bring"
    said = f"{units} {brings} P({answer}) from {probability(found.p_before)} to {probability(found.p_after)}"
    if found.reached:
        return Text(f"{said}.", STRONG)
    return Text(f"{said}, which is not below {found.below:g}: nothing more lowers it, or --most was reached.", "yellow")
