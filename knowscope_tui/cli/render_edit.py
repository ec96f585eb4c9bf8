"""Edits and verifications for a person: what was changed, what it did, fact by fact."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from knowscope_tui.cli.render import QUIET, STRONG, drawn, table
from knowscope_tui.core.edits import (
    EditReport,
    FactOutcome,
    Method,
    ParameterChange,
    SavedCheckpoint,
    Scores,
    VerifyReport,
)
from knowscope_tui.core.units import Unit
from knowscope_tui.text import bar, count, cut, file_size, percent, probability, share, signed_percent, visible

MOST_FACTS, MOST_UNITS = 20, 12


def show_report(console: Console, report: EditReport) -> None:
    """What an edit changed and what that did."""
    plan = report.plan
    sites = ", ".join(sorted({unit.site.kind.value for unit in plan.units}))
    threshold = "" if plan.spec.method is Method.NEURONS else f" · τ2 {plan.tau2:g}"
    head = f"method {plan.spec.method.value} · site {sites}{threshold}"
    console.print(Text(head, style=STRONG))
    _show_changes(console, plan.units, plan.parameters)
    _show_measured(console, report.before, report.after, report.facts, report.neighbors)
    if not report.applied:
        console.print(Text("A dry run: the model is as it was.", style=QUIET))


def show_saved(console: Console, saved: SavedCheckpoint) -> None:
    """Where a checkpoint lies and how to load it; long paths are folded, never cut."""
    console.print(Text(f"Saved to {visible(saved.folder)} ({file_size(saved.size_bytes)}).", style="green"))
    console.print(Text(f"Load it: {visible(saved.load_command)}"), soft_wrap=True)


def show_verification(console: Console, report: VerifyReport) -> None:
    """Whether a checkpoint is what its record says, and what it knows."""
    console.print(Text(f"{visible(report.checkpoint)} · method {visible(report.method)}", style=STRONG))
    if report.intact:
        console.print(
            Text(
                "✓ Every edited entry is as recorded; every other tensor and file is the base's, bit for bit.", "green"
            )
        )
    for problem in report.problems:
        console.print(Text(f"✗ {visible(problem)}", style="red"))
    _show_changes(console, report.units, report.parameters)
    _show_measured(console, report.before, report.after, report.facts, report.neighbors)


def _show_changes(console: Console, units: Sequence[Unit | str], parameters: Sequence[ParameterChange]) -> None:
    named = ", ".join(visible(str(unit)) for unit in units[:MOST_UNITS])
    more = f" and {len(units) - MOST_UNITS} more" if len(units) > MOST_UNITS else ""
    console.print(Text.assemble((f"{count(len(units), 'unit')}: ", QUIET), named, more))
    console.print()
    made = table(("parameter", "left"), ("entries zeroed", "right"), ("share", "right"))
    for change in parameters:
        entries = 1
        for size in change.shape:
            entries *= size
        made.add_row(
            Text(visible(change.name)), f"{change.positions_zeroed:,}", percent(change.positions_zeroed, entries)
        )
    console.print(made)
    console.print()


def _show_measured(
    console: Console, before: Scores, after: Scores, facts: Sequence[FactOutcome], neighbors: int
) -> None:
    console.print(_scores(console, before, after))
    console.print(Text(f"Locality is measured on {count(neighbors, 'neighbor')} known before.", style=QUIET))
    console.print()
    console.print(_facts(console, facts))
    if len(facts) > MOST_FACTS:
        console.print(Text(f"and {len(facts) - MOST_FACTS:,} more facts (all of them with --json)", style=QUIET))


def _scores(console: Console, before: Scores, after: Scores) -> Table:
    """The four figures, and the mean probabilities behind them."""
    made = table(("", "left"), ("before", "right"), ("after", "right"), ("", "left"))
    shares = [
        ("Reliability", before.reliability, after.reliability),
        ("Generalization", before.generalization, after.generalization),
        ("Locality", before.locality, after.locality),
    ]
    for title, was, now in shares:
        made.add_row(Text(title, STRONG), share(was), share(now), Text(drawn(console, bar(now or 0.0, 20)), "green"))
        if title == "Locality":
            for ring, value in after.locality_rings.items():
                made.add_row(
                    Text(f"  {ring.replace('_', ' ')}"), share(before.locality_rings.get(ring)), share(value), ""
                )
    made.add_row(Text("ΔPPL", STRONG), "", signed_percent(after.delta_ppl), "")
    for title, was, now in (
        ("P(answer)", before.p_answer, after.p_answer),
        ("P(answer), paraphrases", before.p_paraphrases, after.p_paraphrases),
        ("P(answer), neighbors", before.p_neighbors, after.p_neighbors),
    ):
        made.add_row(title, probability(was), probability(now), "")
    return made


def _facts(console: Console, facts: Sequence[FactOutcome]) -> Table:
    room = max(console.width - 56, 20)
    made = table(
        ("fact", "left"), ("answer", "left"), ("P before", "right"), ("after", "right"), ("paraphrases", "right"),
        ("says now", "left"),
    )  # fmt: skip
    for outcome in facts[:MOST_FACTS]:
        style = "" if outcome.erased else "yellow"
        gone = f"{outcome.paraphrases_erased}/{outcome.paraphrases} gone" if outcome.paraphrases else "–"
        made.add_row(
            Text(_tail(visible(outcome.fact.prompt), room)),
            Text(cut(visible(outcome.fact.answer), 12)),
            probability(outcome.p_before),
            probability(outcome.p_after),
            gone,
            Text(f"{_sign(outcome)} {cut(visible(outcome.says.strip()), 10)}", style=style),
        )
    return made


def _tail(text: str, room: int) -> str:
    """The end of `text`, where prompts differ; a sign in front says that something is left out."""
    return text if len(text) <= room else "…" + text[len(text) - room + 1 :]


def _sign(outcome: FactOutcome) -> str:
    """Whether the fact is gone; a dash where there was nothing to erase."""
    if not outcome.known_before:
        return "–"
    return "✓" if outcome.erased else "✗"
