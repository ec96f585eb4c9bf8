"""What is open: one row for each dictionary, with what the self-test made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from knowscope_tui.core.checks import DictionaryCheck, SelfTest
from knowscope_tui.session.protocol import DictionaryInUse, ModelInfo
from knowscope_tui.text import count, figure, fit, share, visible
from knowscope_tui.tui.widgets.rows import RowsTable, moving_keys
from knowscope_tui.tui.words import done, model_problems, plan_line, verdicts


@dataclass(frozen=True)
class Tested:
    """An open dictionary, and what the self-test found once it was made."""

    used: DictionaryInUse
    check: DictionaryCheck | None

    @property
    def wrong(self) -> bool:
        return self.check is not None and bool(self.check.problem)

    @property
    def sign(self) -> str:
        return "·" if self.check is None else "!" if self.wrong else "✓"

    @property
    def verdict(self) -> str:
        if self.check is None:
            return "untested"
        return visible(self.check.problem) if self.wrong else "as named"

    @property
    def finding(self) -> str:
        """The verdict, and where it is a good one the figures behind it."""
        if self.check is None or self.wrong:
            return self.verdict
        fire, explained = figure(self.check.l0), share(self.check.explained)
        return f"{self.verdict}: {fire} features fire at a token and explain {explained} of the variance"


def tested(info: ModelInfo, test: SelfTest | None) -> list[Tested]:
    """Every open dictionary, those that are off first, then by site."""
    checks = {check.site: check for check in test.dictionaries} if test is not None else {}
    rows = [Tested(used, checks.get(used.site)) for used in info.dictionaries]
    return sorted(rows, key=lambda row: (not row.wrong, row.used.site.layer, row.used.site.kind.value))


class InUseTable(RowsTable[Tested], inherit_bindings=False):
    """Sites down; what was found beside what the names say."""

    BINDINGS: ClassVar[list[BindingType]] = moving_keys("inuse", "dictionary")

    LEFT, SITE, FEATURES, DTYPE, L0, EXPLAINED = 4, 15, 9, 6, 10, 11

    def __init__(self) -> None:
        super().__init__("in-use", "No dictionary is open.")

    def show(self, rows: list[Tested]) -> None:
        """Shows `rows`; the cursor stays on its site, if that is still open."""
        sites = [row.used.site for row in rows]
        at = self.row.used.site if self.row is not None else None
        self.set_rows(rows, sites.index(at) if at in sites else 0)
        self.cursor_moved()

    def cursor_moved(self) -> None:
        self.query_ancestor(InUsePanel).show_row(self.row)

    def heading(self, width: int) -> Content:
        return Content.styled(
            f"{'':{self.LEFT}}{'site':{self.SITE}}{'features':>{self.FEATURES}}{'dtype':>{self.DTYPE}}"
            f"{'L0 found':>{self.L0}}{'L0 named':>{self.L0}}{'explained':>{self.EXPLAINED}}  verdict",
            "$muted",
        )

    def line(self, row: Tested, width: int, at_cursor: bool) -> Content:
        used, check = row.used, row.check
        dtype = used.dtype.replace("bfloat", "bf").replace("float", "f")
        named = figure(used.expected_l0) if used.expected_l0 is not None else "–"
        found = figure(check.l0) if check is not None else "…"
        explained = share(check.explained) if check is not None else "…"
        style = "" if at_cursor else "bold $error" if row.wrong else "$success" if check is not None else "$muted"
        return Content.assemble(
            ("▸" if at_cursor else " ", "bold"),
            (f" {row.sign} ", style),
            (fit(str(used.site), self.SITE), "bold" if row.wrong else ""),
            f"{used.features:>{self.FEATURES},}{dtype:>{self.DTYPE}}{found:>{self.L0}}",
            (f"{named:>{self.L0}}", "" if at_cursor else "$muted"),
            f"{explained:>{self.EXPLAINED}}",
            (f"  {row.verdict}", style),
        )


class InUsePanel(Vertical):
    """The table between what holds for all of it and what holds for the row under the cursor."""

    def __init__(self) -> None:
        super().__init__(id="in-use-view")
        self.border_title = "In use"

    def compose(self) -> ComposeResult:
        yield Static("", id="in-use-summary")
        yield InUseTable()
        yield Static("", id="in-use-row")

    def show(
        self, info: ModelInfo | None, test: SelfTest | None, progress: tuple[str, float | None] | None, otherwise: str
    ) -> None:
        """Shows what is open; without a result yet, how far the self-test is, or `otherwise` why there is none."""
        self.query_one("#in-use-summary", Static).update(_summary(info, test, progress, otherwise))
        rows = tested(info, test) if info is not None else []
        self.query_one(InUseTable).show(rows)
        self.border_subtitle = count(len(rows), "dictionary", "dictionaries")

    def show_row(self, row: Tested | None) -> None:
        text = Content("")
        if row is not None:
            used = row.used
            where = Content.styled(f"{used.site} · {visible(used.source)} · {visible(used.architecture)}", "$muted")
            style = "bold $error" if row.wrong else ""
            text = Content("\n").join([where, Content.styled(f"{row.sign} {row.finding}", style)])
        self.query_one("#in-use-row", Static).update(text)


def _summary(
    info: ModelInfo | None, test: SelfTest | None, progress: tuple[str, float | None] | None, otherwise: str
) -> Content:
    if info is None:
        return Content.styled("No model is open yet.", "$muted")
    lines = [Content.styled(plan_line(info.plan), "$muted")]
    if test is not None:
        style = "bold $success" if test.passed else "bold $error"
        exact = f"   parity 0 on {test.tokens:,} tokens" if test.parity == 0 else ""
        lines.append(Content.assemble((verdicts(test)[0], style), (exact, "$muted")))
        lines += [Content.styled(f"! {problem}", "$error") for problem in model_problems(test)[:3]]
    elif progress is not None:
        lines.append(Content.styled(f"◌ {visible(progress[0])}{done(progress[1])}", "$warning"))
    else:
        lines.append(Content.styled(visible(otherwise), "$warning"))
    return Content("\n").join(lines)
