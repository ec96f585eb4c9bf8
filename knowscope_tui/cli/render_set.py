"""A set of units that takes an answer away, for a person."""

from __future__ import annotations

from collections.abc import Collection

from rich.console import Console
from rich.text import Text

from knowscope_tui.cli.render import QUIET, STRONG, drawn, fact_line, table
from knowscope_tui.core.readings import UnitSet
from knowscope_tui.core.units import Family
from knowscope_tui.text import bar, count, probability, share, visible


def show_set(console: Console, found: UnitSet, most: int, families: Collection[Family]) -> None:
    """Each step with what the set so far does, and the set that is left of at most `most` units of `families`."""
    console.print(fact_line(found.prompt, found.answer))
    console.print()
    made = table(("off", "right"), ("unit added", "left"), ("P", "right"), ("", "left"), ("ΔProb", "right"))
    made.add_row("0", Text("none", QUIET), probability(found.p_before), *_bar(console, found.p_before), "")
    for number, step in enumerate(found.steps, start=1):
        unit = Text(str(step.unit), STRONG if step.unit in found.units else QUIET)
        made.add_row(str(number), unit, probability(step.p_after), *_bar(console, step.p_after), share(step.delta_prob))
    console.print(made)
    console.print()
    console.print(_verdict(found, most, families))
    if found.units:
        console.print(Text(" ".join(f"--unit {unit}" for unit in found.units), QUIET))


def _bar(console: Console, p: float) -> tuple[Text]:
    return (Text(drawn(console, bar(p, 24)), "green"),)


def _verdict(found: UnitSet, most: int, families: Collection[Family]) -> Text:
    answer, before = visible(found.answer), probability(found.p_before)
    if not found.units:
        if found.reached:
            return Text(f"P({answer}) is {before} already: no unit has to be switched off.", STRONG)
        return Text(f"No unit lowers P({answer}), which is {before}.{_other_kinds(families)}", "yellow")
    units = count(len(found.units), "unit")
    brings = "brings" if len(found.units) == 1 else "bring"
    said = f"{units} {brings} P({answer}) from {before} to {probability(found.p_after)}"
    if found.reached:
        return Text(f"{said}.", STRONG)
    if len(found.steps) >= most:
        why = f"--most {most} is reached. Raise it to go on."
    else:
        why = f"none of the units tried next lowers it further.{_other_kinds(families)}"
    return Text(f"{said}, which is not below {found.below:g}: {why}", "yellow")


def _other_kinds(families: Collection[Family]) -> str:
    """What to do where the units that may be taken do not suffice; nothing where all kinds may be taken."""
    if set(families) == set(Family):
        return ""
    return f" Try --kinds {','.join(family.plural for family in Family)}."
