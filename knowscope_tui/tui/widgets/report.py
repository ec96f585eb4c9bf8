"""A plan and a report of an edit as lines of text."""

from __future__ import annotations

import math

from textual.content import Content

from knowscope_tui.core.edits import EditPlan, EditReport, FactOutcome
from knowscope_tui.text import bar, count, cut, percent, probability, share, signed_percent, visible


def plan_lines(plan: EditPlan, most: int) -> Content:
    """How many positions the edit zeroes, in all and in the `most` changed parameters."""
    entries = sum(math.prod(parameter.shape) for parameter in plan.parameters)
    units = f" by {count(len(plan.units), 'unit')}" if plan.units else ""
    matrices = count(len(plan.parameters), "matrix", "matrices")
    lines = [
        Content.assemble(
            ("would zero  ", "$muted"),
            (f"{plan.positions_zeroed:,} positions", "bold $warning"),
            f" = {percent(plan.positions_zeroed, entries)} of {matrices}{units}",
        )
    ]
    ordered = sorted(plan.parameters, key=lambda parameter: parameter.positions_zeroed, reverse=True)
    for parameter in ordered[:most]:
        whole = math.prod(parameter.shape)
        largest = max(ordered[0].positions_zeroed, 1)
        lines.append(
            Content.assemble(
                ("            ", ""),
                (bar(parameter.positions_zeroed / largest, 8), "$accent"),
                f" {parameter.positions_zeroed:>8,}  {percent(parameter.positions_zeroed, whole):>8}  ",
                (visible(parameter.name.removeprefix("model.").removesuffix(".weight")), "$muted"),
            )
        )
    if len(ordered) > most:
        rest = sum(parameter.positions_zeroed for parameter in ordered[most:])
        more = f"            {'':8} {rest:>8,}  in {count(len(ordered) - most, 'more matrix', 'more matrices')}"
        lines.append(Content.styled(more, "$muted"))
    return Content("\n").join(lines)


def report_lines(report: EditReport) -> Content:
    """What the model says afterwards, the four figures with the mean probabilities behind them, the rings of Loc."""
    after, before = report.after, report.before
    others = count(report.neighbors, "other fact")
    kept = f"kept, of {others}" if report.neighbors else "no other facts to measure on"
    lines = [
        *(_outcome(outcome) for outcome in report.facts[:8]),
        Content.styled(f"{'':6}{'before':>7}{'after':>8}{'':12}mean P of the answer", "$muted"),
        _figure("Rel", before.reliability, after.reliability, before.p_answer, after.p_answer, "answer gone"),
        _figure(
            "Gen",
            before.generalization,
            after.generalization,
            before.p_paraphrases,
            after.p_paraphrases,
            "gone when rephrased",
        ),
        _figure("Loc", before.locality, after.locality, before.p_neighbors, after.p_neighbors, kept),
        *_rings(after.locality_rings),
        Content.assemble(
            ("ΔPPL  ", "bold"),
            (f"{signed_percent(after.delta_ppl):>15}", "bold"),
            ("            perplexity on text about other things", "$muted"),
        ),
    ]
    return Content("\n").join(lines)


def _figure(
    name: str, before: float | None, after: float | None, p_before: float | None, p_after: float | None, means: str
) -> Content:
    return Content.assemble(
        (f"{name:<6}", "bold"),
        (f"{share(before):>7}", "$muted"),
        (f"{share(after):>8}  ", "bold"),
        (bar(after or 0.0, 8), "$accent"),
        f"  {probability(p_before)} → {probability(p_after):<5}",
        (f"  {means}", "$muted"),
    )


def _rings(rings: dict[str, float]) -> list[Content]:
    """Loc split by how near the other facts are."""
    if not rings:
        return []
    text = " · ".join(f"{visible(name)} {share(value)}" for name, value in rings.items())
    return [Content.styled(f"{'':6}{text}", "$muted")]


def _outcome(outcome: FactOutcome) -> Content:
    sign, style = ("■ erased", "$success") if outcome.erased else ("□ still there", "$warning")
    if not outcome.known_before:
        sign, style = "· was not known", "$muted"
    paraphrases = f"  {outcome.paraphrases_erased}/{outcome.paraphrases} rephrased" if outcome.paraphrases else ""
    return Content.assemble(
        (sign, f"bold {style}"),
        "  ",
        cut(visible(outcome.fact.prompt), 32),
        ("  says ", "$muted"),
        (f"“{cut(visible(outcome.says.strip()), 24)}”", "bold"),
        (paraphrases, "$muted"),
    )
