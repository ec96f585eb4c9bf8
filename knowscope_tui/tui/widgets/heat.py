"""The heat map: how much of the answer each site carries, layers across and kinds of site down."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Size
from textual.reactive import reactive
from textual.widget import Widget

from knowscope_tui.core.readings import SiteReading
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.text import count, figure, shade
from knowscope_tui.tui.messages import SitePicked

WIDE = 140
"""Columns of the screen from which on many layers stand side by side."""

_LABEL = 11
_ORDER = (SiteKind.RESID_POST, SiteKind.MLP_OUT, SiteKind.MLP_ACT, SiteKind.RESID_MID, SiteKind.ATTN_Z)


def _numbers(layers: range) -> str:
    """Their numbers, two cells each; of long ones every other, so that they stand apart."""
    apart = 2 if layers.stop > 10 else 1
    return "".join("  " if at % apart else f"{layer:>2}" for at, layer in enumerate(layers))


class HeatMap(Widget, can_focus=True):
    """Shades (never colour alone) for the sum of positive attributions; a picked cell filters the units.

    Many layers are folded into blocks below one another. With `compact`, one line names the strongest sites.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter,space", "pick", "Pick site", id="heat.pick", tooltip="Show the units of this site alone, or all."
        ),
        Binding("left", "step(0,-1)", "Left", id="heat.left", show=False, tooltip="Go one layer down."),
        Binding("right", "step(0,1)", "Right", id="heat.right", show=False, tooltip="Go one layer up."),
        Binding("up", "step(-1,0)", "Up", id="heat.up", show=False, tooltip="Go to the kind of site above."),
        Binding("down", "step(1,0)", "Down", id="heat.down", show=False, tooltip="Go to the kind of site below."),
    ]

    compact = reactive(False, layout=True)
    picked: reactive[Site | None] = reactive[Site | None](None)

    def __init__(self) -> None:
        super().__init__(id="heat")
        self.border_title = "Where"
        self._cells: dict[Site, SiteReading] = {}
        self._kinds: list[SiteKind] = []
        self._layers = 0
        self._cursor = (0, 0)
        self._places: dict[tuple[int, int], Site] = {}
        self.tooltip = "How much of the answer each site carries. Click a cell to see its units alone."

    def show(self, sites: tuple[SiteReading, ...], layers: int) -> None:
        self._cells = {cell.site: cell for cell in sites}
        kinds = {cell.site.kind for cell in sites}
        self._kinds = [kind for kind in _ORDER if kind in kinds]
        self._layers = max([layers, *(cell.site.layer + 1 for cell in sites)])
        row, column = self._cursor
        self._cursor = min(row, max(len(self._kinds) - 1, 0)), min(column, max(self._layers - 1, 0))
        self._describe()
        self.refresh(layout=True)

    # --- drawing ----------------------------------------------------------------------------------------------------

    @property
    def _block(self) -> int:
        """Layers side by side: fewer where the units would be left without room."""
        return min(self._layers, 14 if self.app.size.width >= WIDE else 9) if self._layers else 6

    @property
    def full_width(self) -> int:
        """Columns that the map takes with its border."""
        return _LABEL + self._block * 2 + 1 + 4

    def get_content_width(self, container: Size, viewport: Size) -> int:
        return _LABEL + self._block * 2 + 1

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        if self.compact:
            return 1
        blocks = -(-self._layers // self._block) if self._layers else 1
        return blocks * (len(self._kinds) + 2) - 1 + 3

    def render(self) -> Content:
        self._places = {}
        if not self._cells:
            return Content.styled("" if self.compact else "No reading yet", "$muted")
        return self._line() if self.compact else self._map()

    def _share(self, site: Site) -> float:
        strongest = max((cell.attribution for cell in self._cells.values()), default=0.0)
        cell = self._cells.get(site)
        return cell.attribution / strongest if cell is not None and strongest > 0 else 0.0

    def _map(self) -> Content:
        lines: list[Content] = []
        for start in range(0, self._layers, self._block):
            layers = range(start, min(start + self._block, self._layers))
            if lines:
                lines.append(Content(""))
            lines.append(Content.styled(" " * _LABEL + _numbers(layers), "$muted"))
            lines += [self._row(kind, layers, len(lines) + at) for at, kind in enumerate(self._kinds)]
        lines += [Content(""), Content.styled("·░▒▓█ attribution", "$muted"), self._detail()]
        return Content("\n").join(lines)

    def _row(self, kind: SiteKind, layers: range, y: int) -> Content:
        pieces: list[tuple[str, str]] = [(kind.value.ljust(_LABEL), "")]
        for column, layer in enumerate(layers):
            site = Site(layer, kind)
            if site not in self._cells:
                pieces.append(("  ", ""))
                continue
            at_cursor = self.has_focus and self._cursor == (self._kinds.index(kind), layer)
            style = "reverse bold" if at_cursor else "bold $warning" if site == self.picked else "$accent"
            mark = "▸" if site == self.picked else " "
            pieces.append((mark + shade(self._share(site)), style))
            for x in (0, 1):
                self._places[_LABEL + column * 2 + x, y] = site
        return Content.assemble(*pieces)

    def _detail(self) -> Content:
        """What the cell under the cursor, or else the picked cell, adds up to."""
        site = self._at_cursor() if self.has_focus else self.picked
        cell = self._cells.get(site) if site is not None else None
        if cell is None:
            return Content("")
        width = _LABEL + self._block * 2 + 1
        text = f"{cell.site}: {figure(cell.attribution)}"
        return Content.styled(text[:width], "bold")

    def _line(self) -> Content:
        """The strongest sites in one line, for screens without room for the map."""
        strongest = sorted(self._cells.values(), key=lambda cell: cell.attribution, reverse=True)
        pieces: list[Content | tuple[str, str]] = [("where ", "$muted")]
        at = 6
        if self.picked is not None:
            strongest = [self._cells[self.picked]] if self.picked in self._cells else []
        for cell in strongest[:8]:
            text = f"{'▸' if cell.site == self.picked else ''}{cell.site} {shade(self._share(cell.site))}"
            if at + len(text) > self.content_size.width:
                break
            pieces += [(text, "bold $warning" if cell.site == self.picked else "$accent"), ("  ", "")]
            for x in range(at, at + len(text)):
                self._places[x, 0] = cell.site
            at += len(text) + 2
        if self.picked is not None:
            pieces.append(("only this site; click it to see all", "$muted"))
        return Content.assemble(*pieces)

    # --- picking ----------------------------------------------------------------------------------------------------

    def _at_cursor(self) -> Site | None:
        if not self._kinds:
            return None
        row, layer = self._cursor
        return Site(layer, self._kinds[row])

    def _describe(self) -> None:
        cell = self._cells.get(self.picked) if self.picked is not None else None
        self.border_subtitle = count(cell.active, "active unit") if cell is not None else ""

    def watch_picked(self) -> None:
        self._describe()

    def _pick(self, site: Site) -> None:
        self.picked = None if site == self.picked else site
        self.post_message(SitePicked(self.picked))

    def action_pick(self) -> None:
        site = self._at_cursor()
        if site is not None and site in self._cells:
            self._pick(site)

    def action_step(self, down: int, right: int) -> None:
        if self._kinds and not self.compact:
            row, layer = self._cursor
            self._cursor = (row + down) % len(self._kinds), (layer + right) % self._layers
            self.refresh()

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        site = self._places.get((offset.x, offset.y)) if offset is not None else None
        if site is not None:
            self._cursor = self._kinds.index(site.kind), site.layer
            self._pick(site)
