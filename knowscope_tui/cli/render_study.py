"""Studies for a person: what the paper claims, what was measured of it, and where the pages lie."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from knowscope_tui.cli.render import HEAD, QUIET, STRONG
from knowscope_tui.core.studies import PaperClaim, StudyReport, StudyResult, Verdict
from knowscope_tui.session.study_pages.cells import interval, number
from knowscope_tui.text import count, visible

VERDICTS = {Verdict.HOLDS: ("✓", "green"), Verdict.DOES_NOT: ("✗", "red"), Verdict.UNDECIDED: ("?", "yellow")}


def show_report(console: Console, report: StudyReport) -> None:
    """Each study's claims and remarks, then those that were left out."""
    for result in report.results:
        _show(console, result)
        console.print()
    for name, why in report.left_out:
        console.print(Text(visible(f"Left out: {name.value}. {why}"), style="red"))
    console.print(Text(visible(f"Wrote {report.page}"), style="green"), soft_wrap=True)


def _show(console: Console, result: StudyResult) -> None:
    head = Text.assemble((f"{result.name.value} ", STRONG), visible(result.title))
    console.print(head.append(f" · {count(result.items, 'item')}", style=QUIET))
    console.print(Text(visible(result.question), style=QUIET))
    if result.findings.claims:
        console.print(_claims(result.findings.claims))
    for remark in (*result.findings.remarks, *result.remarks):
        console.print(Text(visible(remark), style=QUIET))


def _claims(claims: tuple[PaperClaim, ...]) -> Table:
    made = Table(box=None, header_style=HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for title, side, kept in (
        ("", "left", True),
        ("claim", "left", False),
        ("the paper", "left", False),
        ("here", "right", True),
        ("95 %", "left", True),
    ):
        made.add_column(title, justify="right" if side == "right" else "left", overflow="fold", no_wrap=kept)
    for claim in claims:
        sign, colour = VERDICTS[claim.verdict]
        made.add_row(
            Text(f"{sign} {claim.verdict.value}", colour),
            _claim(claim),
            Text(visible(claim.paper)),
            number(claim.ours.value),
            Text(interval(claim.ours), QUIET),
        )
    return made


def _claim(claim: PaperClaim) -> Text:
    """The claim, with what its figure has to be above where that is not 0."""
    told = Text(visible(claim.text))
    return told.append(f" (above {number(claim.threshold)})", QUIET) if claim.threshold else told
