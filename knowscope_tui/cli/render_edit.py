"""Edits and verifications for a person: what was changed, what it did, fact by fact."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from knowscope_tui.cli import output
from knowscope_tui.cli.render import QUIET, STRONG, table
from knowscope_tui.core.edit_json import saved_json
from knowscope_tui.core.edits import Frontier, Method, ParameterChange
from knowscope_tui.core.proof import EditReport, FactOutcome, Figure, Proof, VerifyReport
from knowscope_tui.core.saved import DeltaInfo, Diff, SavedCheckpoint
from knowscope_tui.core.units import Unit
from knowscope_tui.text import count, cut, file_size, percent, probability, share, signed_percent, visible

MOST_FACTS, MOST_UNITS = 20, 12


def show_report(console: Console, report: EditReport) -> None:
    """What an edit changed and what that did."""
    plan = report.plan
    sites = ", ".join(sorted({unit.site.kind.value for unit in plan.units}))
    threshold = "" if plan.tau2 is None or plan.spec.method is Method.NEURONS else f" · τ2 {plan.tau2:g}"
    head = f"method {plan.spec.method.value}{f' · site {sites}' if sites else ''}{threshold}"
    console.print(Text(head, style=STRONG))
    for note in plan.notes:
        console.print(Text(visible(note), style=QUIET))
    _show_changes(console, plan.units, plan.parameters, plan.share)
    if plan.frontier is not None:
        show_frontier(console, plan.frontier)
    _show_proof(console, report.proof)
    if not report.applied:
        console.print(Text("A dry run: the model is as it was.", style=QUIET))


def show_saved(console: Console, saved: SavedCheckpoint) -> None:
    """Where a checkpoint lies and how to load it; long paths are folded, never cut."""
    written = f"{file_size(saved.size_bytes)}, of which {file_size(saved.written_bytes)} were written"
    console.print(Text(f"Saved to {visible(saved.folder)} ({written}).", style="green"))
    console.print(Text(f"Load it: {visible(saved.load_command)}"), soft_wrap=True)
    if saved.pushed_to:
        console.print(Text(f"Uploaded to {visible(saved.pushed_to)}"), soft_wrap=True)
    if saved.not_pushed:
        console.print(Text(f"✗ {visible(saved.not_pushed)}", style="red"), soft_wrap=True)


def say_saved(saved: SavedCheckpoint, *, as_json: bool) -> None:
    """A checkpoint as the result of a verb."""
    if as_json:
        output.write_json(saved_json(saved))
    else:
        show_saved(output.console(), saved)


def show_diff(console: Console, diff: Diff) -> None:
    """How two edits or checkpoints differ, parameter by parameter."""
    console.print(Text(f"A {visible(diff.a)}", style=STRONG), soft_wrap=True)
    console.print(Text(f"B {visible(diff.b)}", style=STRONG), soft_wrap=True)
    if not diff.parameters:
        console.print(Text(f"✓ The same, bit for bit, in {count(diff.compared, 'parameter')}.", style="green"))
        return
    made = table(
        ("parameter", "left"), ("positions", "right"), ("only A", "right"), ("only B", "right"), ("‖A − B‖", "right"),
        ("largest", "right"),
    )  # fmt: skip
    for parameter in diff.parameters:
        made.add_row(
            Text(visible(parameter.name)),
            f"{parameter.positions:,}",
            f"{parameter.only_a:,}",
            f"{parameter.only_b:,}",
            f"{parameter.norm:.3g}",
            f"{parameter.largest:.3g}",
        )
    console.print(made)
    console.print(Text(f"{len(diff.parameters)} of {count(diff.compared, 'parameter')} differ.", style=QUIET))


def show_delta(console: Console, delta: DeltaInfo) -> None:
    """What a delta file holds."""
    size = file_size(delta.size_bytes)
    console.print(Text(f"Wrote {visible(delta.file)} ({size}, {delta.positions:,} positions).", style="green"))


def show_verification(console: Console, report: VerifyReport) -> None:
    """Whether a checkpoint is what its record says, and does what it claims."""
    console.print(Text(f"{visible(report.checkpoint)} · method {visible(report.method)}", style=STRONG))
    if not report.problems:
        console.print(
            Text(
                "✓ Every edited entry is as recorded; every other tensor and file is the base's, bit for bit.", "green"
            )
        )
    for problem in report.problems:
        console.print(Text(f"✗ {visible(problem)}", style="red"))
    if report.claims and all(claim.agrees for claim in report.claims):
        told = "All" if not report.skipped else "The other"
        console.print(Text(f"✓ {told} {len(report.claims)} figures it claims were measured again.", "green"))
    if report.skipped:
        console.print(Text(f"– Left out: {', '.join(report.skipped)}.", "yellow"))
    if report.unchecked:
        console.print(Text(f"– Not checked: {', '.join(report.unchecked)}.", QUIET))
    for claim in report.claims:
        if not claim.agrees:
            console.print(
                Text(f"✗ {claim.name}: {visible(claim.claimed)} claimed, {visible(claim.measured)} measured", "red")
            )
    _show_changes(console, report.units, report.parameters, None)
    _show_proof(console, report.proof)


def _show_changes(
    console: Console, units: Sequence[Unit | str], parameters: Sequence[ParameterChange], whole: float | None
) -> None:
    if units:
        named = ", ".join(visible(str(unit)) for unit in units[:MOST_UNITS])
        more = f" and {len(units) - MOST_UNITS} more" if len(units) > MOST_UNITS else ""
        console.print(Text.assemble((f"{count(len(units), 'unit')}: ", QUIET), named, more))
    console.print()
    made = table(("parameter", "left"), ("positions", "right"), ("share", "right"), ("zeroed", "right"))
    for change in parameters:
        entries = math.prod(change.shape)
        made.add_row(
            Text(visible(change.name)),
            f"{change.positions:,}",
            percent(change.positions, entries),
            f"{change.zeroed:,}",
        )
    console.print(made)
    if whole is not None:
        console.print(Text(f"{whole:.3%} of the model's weights.", style=QUIET))
    console.print()


def show_frontier(console: Console, frontier: Frontier) -> None:
    """Erasure and damage by τ2, with the knee marked."""
    made = table(
        ("τ2", "right"),
        ("positions", "right"),
        ("Rel", "right"),
        ("Loc, worst ring", "right"),
        ("ΔPPL", "right"),
        ("", "left"),
    )
    for index, point in enumerate(frontier.points):
        mark = "← chosen" if index == frontier.chosen else "within the limits" if point.meets else ""
        made.add_row(
            f"{point.tau2:.4g}",
            f"{point.positions:,}",
            share(point.reliability),
            share(point.worst),
            signed_percent(point.delta_ppl),
            Text(mark, style="green" if index == frontier.chosen else QUIET),
        )
    console.print(made)
    console.print(Text("Measured on phrasings, facts and text that the edit may see.", style=QUIET))
    console.print()


def _show_proof(console: Console, proof: Proof) -> None:
    console.print(_scores(proof))
    console.print(Text(f"Locality is measured on {count(proof.neighbors, 'neighbor')} known before.", style=QUIET))
    console.print()
    console.print(_facts(console, proof.facts))
    if len(proof.facts) > MOST_FACTS:
        console.print(Text(f"and {len(proof.facts) - MOST_FACTS:,} more facts (all of them with --json)", style=QUIET))
    if proof.leaks:
        console.print()
        _show_leaks(console, proof)


def _scores(proof: Proof) -> Table:
    """The figures with their intervals, the random control beside, and the mean probabilities behind them."""
    before, after = proof.before, proof.after
    control = proof.control.scores if proof.control else None
    made = table(("", "left"), ("before", "right"), ("after", "right"), ("95 %", "right"), ("items", "right"),
                 *([("random", "right")] if control else []))  # fmt: skip
    rows: list[tuple[str, Figure, Figure, Figure | None]] = [
        ("Reliability", before.reliability, after.reliability, control.reliability if control else None),
        ("Generalization", before.generalization, after.generalization, control.generalization if control else None),
        ("Locality", before.locality, after.locality, control.locality if control else None),
    ]
    for ring, figure in after.rings.items():
        rows.append(
            (f"  {ring}", before.rings.get(ring, Figure()), figure, control.rings.get(ring) if control else None)
        )
    if after.retained.items:
        rows.append(("  told to keep", before.retained, after.retained, control.retained if control else None))
    for title, was, now, random in rows:
        style = "" if title.startswith(" ") else STRONG
        cells: list[Text | str] = [
            Text(title, style),
            share(was.value),
            share(now.value),
            _interval(now),
            f"{now.items:,}",
        ]
        made.add_row(*cells, *([share(random.value if random else None)] if control else []))
    ppl = after.delta_ppl
    low_high = "" if ppl.low is None or ppl.high is None else f"{signed_percent(ppl.low)} – {signed_percent(ppl.high)}"
    made.add_row(
        Text("ΔPPL", STRONG), "", signed_percent(ppl.value), low_high, f"{ppl.items:,}",
        *([signed_percent(control.delta_ppl.value)] if control else []),
    )  # fmt: skip
    for title, p_was, p_now in (
        ("P(answer)", before.p_answer, after.p_answer),
        ("P(answer), paraphrases", before.p_paraphrases, after.p_paraphrases),
        ("P(answer), neighbors", before.p_neighbors, after.p_neighbors),
    ):
        made.add_row(title, probability(p_was), probability(p_now), "", "", *([""] if control else []))
    return made


def _interval(figure: Figure) -> str:
    return "" if figure.low is None else f"{share(figure.low)} – {share(figure.high)}"


def _show_leaks(console: Console, proof: Proof) -> None:
    made = table(("leak test", "left"), ("tested", "right"), ("leak", "right"), ("which", "left"))
    for result in proof.leaks:
        names = ", ".join(visible(leak.fact.id or leak.fact.prompt) for leak in result.leaking[:3])
        more = f" and {len(result.leaking) - 3} more" if len(result.leaking) > 3 else ""
        made.add_row(
            result.test.value,
            f"{result.tested:,}",
            Text(f"{len(result.leaking):,}", style="yellow" if result.leaking else "green"),
            Text(names + more if result.tested else "not known that way before either", style=QUIET),
        )
    console.print(made)


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
