"""Which units the table shows and in what order, and how wide its columns are. Plain values, no widget."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

from knowscope_tui.core.readings import Rank, Reading
from knowscope_tui.core.units import Family, Site, Unit

SORTS = (Rank.DELTA_PROB, Rank.ATTRIBUTION, Rank.ACTIVATION)
SORT_NAMES = {Rank.DELTA_PROB: "ΔProb", Rank.ATTRIBUTION: "attribution", Rank.ACTIVATION: "activation"}


class UnitRow(NamedTuple):
    """A unit as the table knows it. A figure is None where the unit is not in the reading. Thousands are made at once,
    which takes a tuple a quarter of the time."""

    unit: Unit
    name: str
    activation: float | None = None
    attribution: float | None = None
    selected: bool = False


class UnitRows:
    """The units of one reading, strongest by attribution first, each made into a row once."""

    def __init__(self, reading: Reading) -> None:
        by_attribution = sorted(reading.units, key=lambda row: row.attribution, reverse=True)
        self._listed = {
            row.unit: UnitRow(row.unit, str(row.unit), row.activation, row.attribution, row.selected)
            for row in by_attribution
        }
        self._others: dict[Unit, UnitRow] = {}

    def _row(self, unit: Unit) -> UnitRow:
        """The row of `unit`, made now if the reading does not list it."""
        row = self._listed.get(unit) or self._others.get(unit)
        if row is None:
            row = self._others[unit] = UnitRow(unit, str(unit))
        return row

    def in_view(
        self,
        deltas: Mapping[Unit, float],
        *,
        families: Collection[Family],
        sort: Rank,
        text: str = "",
        site: Site | None = None,
        beyond: Iterable[Unit] = (),
        off: Iterable[Unit] = (),
        off_first: bool = False,
    ) -> list[UnitRow]:
        """The units that match every word of `text` and the site, strongest first.

        `deltas` holds exact ΔProb; `beyond` are units with one that the reading does not list. A switched-off unit
        that would not be there comes first, and with `off_first` all of them do: they act, so they must be there to be
        switched on.
        """
        words = text.lower().split()
        listed = [row for row in self._listed.values() if row.unit.family in families]
        rows = listed + [self._row(unit) for unit in beyond if unit.family in families]
        pinned = [
            self._row(unit) for unit in off if off_first or unit.family not in families or unit not in self._listed
        ]
        if pinned:
            apart = {row.unit for row in pinned}
            rows = [row for row in rows if row.unit not in apart]
        rows = pinned + _sorted(rows, sort, deltas)
        if not words and site is None:
            return rows
        return [
            row for row in rows if (site is None or row.unit.site == site) and all(word in row.name for word in words)
        ]


def _sorted(rows: list[UnitRow], sort: Rank, deltas: Mapping[Unit, float]) -> list[UnitRow]:
    """`rows`, which come by attribution, in the order of `sort`: units without a figure after those that have one."""
    if sort is Rank.ATTRIBUTION:
        return rows
    if sort is Rank.ACTIVATION:
        return _strongest_first([(row.activation, row) for row in rows])
    return _strongest_first([(deltas.get(row.unit), row) for row in rows])


def _strongest_first(pairs: list[tuple[float | None, UnitRow]]) -> list[UnitRow]:
    known = [(value, row) for value, row in pairs if value is not None]
    known.sort(key=itemgetter(0), reverse=True)  # Keeps the order by attribution among equals.
    return [row for _value, row in known] + [row for value, row in pairs if value is None]


@dataclass(frozen=True)
class Columns:
    """Cells of each column; 0 for one that is left out."""

    unit: int
    bar: int
    delta_bar: int
    attribution: bool = True

    LEFT = 7
    NUMBER = 6
    GAP = 2

    @classmethod
    def within(cls, width: int, longest_unit: int) -> Columns:
        """The columns that fit `width` cells: the bars of what is not ΔProb give way first, then the attribution, then
        ΔProb's bar."""
        unit = min(max(longest_unit, 12), 24)
        two = cls.LEFT + unit + 2 * (cls.GAP + cls.NUMBER)
        three = two + cls.GAP + cls.NUMBER
        attribution = width >= three
        spare = width - (three if attribution else two)
        if attribution and spare >= 3 * 4:
            bar = min(spare // 3 - 1, 14)
            return cls(unit, bar, bar)
        return cls(unit, 0, min(spare - 1, 10) if spare >= 4 else 0, attribution)

    def starts(self) -> list[tuple[int, Rank]]:
        """Where the heading of each sortable column starts."""
        at = self.LEFT + self.unit + self.GAP
        wide = (self.bar + 1 if self.bar else 0) + self.NUMBER + self.GAP  # Up to the next column's heading.
        if not self.attribution:
            return [(at, Rank.ACTIVATION), (at + wide, Rank.DELTA_PROB)]
        return [(at, Rank.ACTIVATION), (at + wide, Rank.ATTRIBUTION), (at + 2 * wide, Rank.DELTA_PROB)]
