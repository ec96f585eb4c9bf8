"""Which units the table shows and in what order, and how wide its columns are. Plain functions on plain values."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from knowscope_tui.core.readings import Rank, Reading, UnitReading
from knowscope_tui.core.units import Family, Site, Unit

SORTS = (Rank.DELTA_PROB, Rank.ATTRIBUTION, Rank.ACTIVATION)
SORT_NAMES = {Rank.DELTA_PROB: "ΔProb", Rank.ATTRIBUTION: "attribution", Rank.ACTIVATION: "activation"}


def units_in_view(
    reading: Reading,
    *,
    families: Collection[Family],
    sort: Rank,
    text: str = "",
    site: Site | None = None,
    off: Iterable[Unit] = (),
) -> list[UnitReading]:
    """The units of `reading` that match every word of `text` and the site, strongest first.

    Switched-off units that the reading does not hold come first: they act, so they must be there to be switched on.
    """
    words = text.lower().split()

    def matches(unit: Unit) -> bool:
        name = str(unit)
        return (site is None or unit.site == site) and all(word in name for word in words)

    held = {row.unit for row in reading.units}
    absent = [UnitReading(unit, reading.position, 0.0, 0.0) for unit in off if unit not in held]
    rows = [row for row in reading.units if row.unit.family in families]
    return [
        row for row in absent + sorted(rows, key=lambda row: _strength(row, sort), reverse=True) if matches(row.unit)
    ]


def _strength(row: UnitReading, sort: Rank) -> tuple[bool, float, float]:
    """A unit without a measured ΔProb comes after those that have one, by attribution."""
    if sort is Rank.ACTIVATION:
        return True, row.activation, row.attribution
    if sort is Rank.ATTRIBUTION or row.delta_prob is None:
        return sort is Rank.ATTRIBUTION, row.attribution, row.activation
    return True, row.delta_prob, row.attribution


@dataclass(frozen=True)
class Columns:
    """Cells of each column; 0 for one that is left out."""

    unit: int
    bar: int
    delta_bar: int
    attribution: bool = True

    LEFT = 7
    NUMBER = 5
    GAP = 2

    @classmethod
    def within(cls, width: int, longest_unit: int) -> Columns:
        """The columns that fit `width` cells: bars give way first, then the attribution."""
        unit = min(max(longest_unit, 12), 24)
        figures = cls.LEFT + unit + 3 * (cls.GAP + cls.NUMBER)
        if width < figures:
            return cls(unit, 0, 0, attribution=False)
        spare = width - figures
        if spare >= 3 * 4:
            bar = min(spare // 3 - 1, 14)
            return cls(unit, bar, bar)
        bar = spare // 2 - 1
        return cls(unit, bar if bar >= 3 else 0, 0)

    def starts(self) -> list[tuple[int, Rank]]:
        """Where the heading of each sortable column starts."""
        at = self.LEFT + self.unit + self.GAP
        wide = (self.bar + 1 if self.bar else 0) + self.NUMBER + self.GAP
        if not self.attribution:
            return [(at, Rank.ACTIVATION), (at + wide, Rank.DELTA_PROB)]
        return [(at, Rank.ACTIVATION), (at + wide, Rank.ATTRIBUTION), (at + 2 * wide, Rank.DELTA_PROB)]
