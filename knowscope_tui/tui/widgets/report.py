"""What an edit was measured to do, as lines of text."""

from __future__ import annotations

from textual.content import Content

from knowscope_tui.core.proof import EditReport, FactOutcome, Figure, Scores
from knowscope_tui.core.rings import RINGS
from knowscope_tui.text import count, cut, probability, share, signed_percent, visible

_MOST_FACTS = 6
_NAME = 16


def report_lines(report: EditReport) -> Content:
    """The figures with what they rest on and the control beside them, then what the model says of each fact."""
    proof = report.proof
    control = proof.control.scores if proof.control is not None else None
    head = f"{'':{_NAME}}{'before':>7}{'after':>8}{'95 % interval':>16}{'items':>7}  {'mean P of answer':<16}"
    lines = [Content.styled(head + ("  random" if control is not None else ""), "$muted")]
    lines += _rows(proof.before, proof.after, control)
    if control is not None:
        assert proof.control is not None
        drawn = f"random: as many positions in each matrix, {proof.control.positions:,}, drawn at random"
        lines.append(Content.styled(drawn, "$muted"))
    lines.append(Content(""))
    lines += [_outcome(outcome) for outcome in sorted(proof.facts, key=_worst_first)[:_MOST_FACTS]]
    if len(proof.facts) > _MOST_FACTS:
        lines.append(Content.styled(f"and {len(proof.facts) - _MOST_FACTS} more facts", "$muted"))
    return Content("\n").join(lines)


def _rows(before: Scores, after: Scores, control: Scores | None) -> list[Content]:
    def row(name: str, was: Figure, now: Figure, random: Figure | None, p: str = "", *, ring: bool = False) -> Content:
        return Content.assemble(
            (f"{name:<{_NAME}}", "" if ring else "bold"),
            (f"{share(was.value):>7}", "$muted"),
            (f"{share(now.value):>8}", "" if ring else "bold"),
            (f"{_interval(now):>16}{now.items:>7,}  ", "$muted"),
            f"{p:<16}",
            (f"{share(random.value):>8}" if random is not None else "", "$muted"),
        )

    rows = [
        row(
            "Rel", before.reliability, after.reliability, control.reliability if control else None, _p(before, after, 0)
        ),
        row(
            "Gen",
            before.generalization,
            after.generalization,
            control.generalization if control else None,
            _p(before, after, 1),
        ),
        row("Loc", before.locality, after.locality, control.locality if control else None, _p(before, after, 2)),
    ]
    for ring in (*RINGS, *(name for name in after.rings if name not in RINGS)):
        if ring in after.rings:
            was = before.rings.get(ring, Figure())
            random = control.rings.get(ring, Figure()) if control is not None else None
            rows.append(row(f"  {visible(ring)}", was, after.rings[ring], random, ring=True))
    if after.retained.items:
        rows.append(row("kept as told", before.retained, after.retained, control.retained if control else None))
    rows.append(_perplexity(after.delta_ppl, control.delta_ppl if control is not None else None))
    return rows


def _p(before: Scores, after: Scores, which: int) -> str:
    was = (before.p_answer, before.p_paraphrases, before.p_neighbors)[which]
    now = (after.p_answer, after.p_paraphrases, after.p_neighbors)[which]
    return f"{probability(was)} → {probability(now)}"


def _interval(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return "–"
    return f"{share(figure.low)} to {share(figure.high)}"


def _perplexity(figure: Figure, random: Figure | None) -> Content:
    between = "–"
    if figure.low is not None and figure.high is not None:
        between = f"{figure.low * 100:+.1f} to {figure.high * 100:+.1f} %"
    return Content.assemble(
        (f"{'ΔPPL':<{_NAME}}", "bold"),
        (f"{signed_percent(figure.value):>15}", "bold"),
        (f"{between:>16}{figure.items:>7,}  {'other text':<15}", "$muted"),
        (f"{signed_percent(random.value):>9}" if random is not None else "", "$muted"),
    )


def _worst_first(outcome: FactOutcome) -> tuple[bool, float]:
    return outcome.erased, -outcome.p_after


def _outcome(outcome: FactOutcome) -> Content:
    updated = bool(outcome.fact.target_new)
    sign, style = ("■ updated" if updated else "■ erased", "$success")
    if not outcome.erased:
        sign, style = "□ not updated" if updated else "□ still there", "$warning"
    if not outcome.known_before:
        sign, style = "· was not known", "$muted"
    of = count(outcome.paraphrases, "paraphrase")
    paraphrases = f"  {outcome.paraphrases_erased} of {of}" if outcome.paraphrases else ""
    return Content.assemble(
        (f"{sign:<13}", f"bold {style}"),
        "  ",
        cut(visible(outcome.fact.prompt), 26),
        ("  says ", "$muted"),
        (f"“{cut(visible(outcome.says.strip()), 14)}”", "bold"),
        (paraphrases, "$muted"),
    )
