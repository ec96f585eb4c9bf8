"""The releases: one row each, what of it is here, what it holds and what it takes, under a line to search them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input

from knowscope_tui.core.dictionaries import Release, ReleaseState, width_label
from knowscope_tui.text import count, cut, cut_middle, file_size, fit, visible
from knowscope_tui.tui.messages import InputLeft, ReleaseMarked, ReleaseReached, ReleasesSearched
from knowscope_tui.tui.widgets.common import Chip, SafeInput
from knowscope_tui.tui.widgets.rows import RowsTable, moving_keys


def run_of(numbers: tuple[int, ...]) -> str:
    """Ascending layers in few cells: 0–25, or 5…19 where some between are left out."""
    if len(numbers) < 2:
        return str(numbers[0]) if numbers else "–"
    whole = len(numbers) == numbers[-1] - numbers[0] + 1
    return f"{numbers[0]}{'–' if whole else '…'}{numbers[-1]}"


def widths_of(release: Release) -> str:
    labels = [width_label(width) for width in release.widths]
    return "–".join(dict.fromkeys((labels[0], labels[-1]))) if labels else "–"


def kinds_of(release: Release) -> str:
    """The kinds of site in few cells: resid_post, or attn_z +2."""
    kinds = [kind.value for kind in release.kinds]
    return f"{kinds[0]} +{len(kinds) - 1}" if len(kinds) > 1 else kinds[0] if kinds else "–"


def here(state: ReleaseState) -> str:
    """A sign for how much of a release is on this machine, and the count of its usual set beside it."""
    if state.release.why_not:
        return "✗ not usable"
    sign = "·" if not state.cached else "✓" if state.cached >= state.usual else "◐"
    return f"{sign} {state.cached}/{state.usual}"


@dataclass(frozen=True)
class _Columns:
    """Cells of each column; the sites give way first."""

    name: int
    sites: int

    LEFT = 3
    HERE = 13
    SITES = 14
    LAYERS, WIDTHS, SIZE = 8, 8, 8

    @classmethod
    def within(cls, width: int) -> _Columns:
        spare = width - cls.LEFT - cls.HERE - cls.LAYERS - cls.WIDTHS - cls.SIZE - 1
        sites = cls.SITES if spare >= 42 + cls.SITES else 0
        return cls(spare - sites, sites)


class ReleasesTable(RowsTable[ReleaseState], inherit_bindings=False):
    """Posts `ReleaseReached` when the cursor moves and `ReleaseMarked` when a mark is clicked."""

    BINDINGS: ClassVar[list[BindingType]] = moving_keys("releases", "release")

    def __init__(self) -> None:
        super().__init__("releases", "Looking it up…")
        self._marked: Collection[str] = ()
        self._in_use: Collection[str] = ()

    def show(self, releases: tuple[ReleaseState, ...], marked: Collection[str], in_use: Collection[str]) -> None:
        """Shows `releases`; the cursor stays on its release, if that is still there."""
        at = self.release
        names = [state.release.name for state in releases]
        self._marked, self._in_use = marked, in_use
        self.set_rows(list(releases), names.index(at) if at in names else 0)
        if self.release != at:
            self.cursor_moved()

    def show_marks(self, marked: Collection[str]) -> None:
        self._marked = marked
        self.refresh()

    @property
    def release(self) -> str | None:
        return self.row.release.name if self.row is not None else None

    def heading(self, width: int) -> Content:
        columns = _Columns.within(width)
        sites = fit("sites", columns.sites)
        return Content.styled(
            f"{'':{columns.LEFT}}{'here':{columns.HERE}}{fit('  release', columns.name)}{sites}"
            f"{'layers':{columns.LAYERS}}{'widths':{columns.WIDTHS}}{'size':>{columns.SIZE}}",
            "$muted",
        )

    def line(self, row: ReleaseState, width: int, at_cursor: bool) -> Content:
        columns, release = _Columns.within(width), row.release
        marked = release.name in self._marked
        used = release.name in self._in_use
        name = fit(f"{'●' if used else ' '} {cut_middle(visible(release.name), columns.name - 3)}", columns.name)
        held = (
            f"{fit(kinds_of(release), columns.sites - 1)} " if columns.sites else "",
            f"{fit(run_of(release.layers), columns.LAYERS - 1)} {fit(widths_of(release), columns.WIDTHS)}",
            f"{file_size(row.usual_bytes) if row.usual_bytes else '–':>{columns.SIZE}}",
        )
        quiet = "" if at_cursor else "$muted"
        usable = not release.why_not
        return Content.assemble(
            ("▸" if at_cursor else " ", "bold"),
            ("■ " if marked else "□ ", "bold $accent" if marked and not at_cursor else quiet),
            (fit(here(row), columns.HERE), "" if row.cached and usable else quiet),
            (name, ("bold" if used else "") if usable else quiet),
            ("".join(held), "" if usable else quiet),
        )

    def cursor_moved(self) -> None:
        self.post_message(ReleaseReached(self.release))

    def row_clicked(self, row: ReleaseState, x: int) -> None:
        if x < _Columns.LEFT:
            self.post_message(ReleaseMarked(row.release.name))


class ReleasesPanel(Vertical):
    """The table under a line to search it."""

    def __init__(self) -> None:
        super().__init__(id="releases-panel")
        self.border_title = "Releases"

    def compose(self) -> ComposeResult:
        with Horizontal(id="releases-line"):
            yield Chip("models", "models", "The releases made for the open model, or every release.")
            yield SafeInput(placeholder="/ search names, repositories, models and sites", id="search", compact=True)
        yield ReleasesTable()

    def on_mount(self) -> None:
        self.query_one("#search").tooltip = "Words that a release must hold: canonical resid_post."

    def show(
        self,
        releases: tuple[ReleaseState, ...] | None,
        marked: Collection[str],
        in_use: Collection[str],
        model: str | None,
        nothing: str,
    ) -> None:
        """Shows what was found for `model` (None: for any); `nothing` says why it is nothing."""
        self.query_one("#models", Chip).show("for", cut(visible(model), 30) if model is not None else "all models")
        table = self.query_one(ReleasesTable)
        table.show_nothing(visible(nothing))
        if releases is not None:
            table.show(releases, marked, in_use)
            usable = sum(not state.release.why_not for state in releases)
            self.border_subtitle = f"{count(len(releases), 'release')} · {usable} usable"

    @on(Input.Changed, "#search")
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(ReleasesSearched(event.value))

    @on(Input.Submitted, "#search")
    def _done(self, event: Input.Submitted) -> None:
        event.stop()
        self.post_message(InputLeft())
