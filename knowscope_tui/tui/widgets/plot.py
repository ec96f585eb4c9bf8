"""Curves in a character grid: Braille lines between points, with a marker at each point."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of the Braille character for each (row, column) of its 4 × 2 dots."""


@dataclass(frozen=True)
class Cell:
    sign: str
    style: str


class Canvas:
    """`width` × `height` cells. x and y go from 0 to 1, y upwards."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = max(width, 1), max(height, 1)
        self.cells = [[Cell(" ", "")] * self.width for _ in range(self.height)]

    def column(self, x: float) -> int:
        return round(min(max(x, 0.0), 1.0) * (self.width - 1))

    def row(self, y: float) -> int:
        return round((1 - min(max(y, 0.0), 1.0)) * (self.height - 1))

    def level(self, y: float, style: str) -> None:
        """A dashed line across."""
        self.cells[self.row(y)] = [Cell("┄", style)] * self.width

    def upright(self, x: float, style: str) -> None:
        """A line from bottom to top."""
        for row in self.cells:
            row[self.column(x)] = Cell("│", style)

    def curve(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """Straight lines from point to point."""
        bits: dict[tuple[int, int], int] = {}
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            steps = max(abs(self.column(x1) - self.column(x0)) * 2, self.height * 4)
            for step in range(steps + 1):
                at = step / steps
                column, row = self._dot(x0 + (x1 - x0) * at, y0 + (y1 - y0) * at)
                cell = row // 4, column // 2
                bits[cell] = bits.get(cell, 0) | _DOTS[row % 4][column % 2]
        for (row, column), pattern in bits.items():
            self.cells[row][column] = Cell(chr(0x2800 + pattern), style)

    def _dot(self, x: float, y: float) -> tuple[int, int]:
        """Column and row of the dot in the middle of whose cell a marker at (x, y) would stand."""
        column = min(max(x, 0.0), 1.0) * (self.width - 1) * 2 + 0.5
        row = (1 - min(max(y, 0.0), 1.0)) * (self.height - 1) * 4 + 1.5
        return round(column), round(row)

    def mark(self, x: float, y: float, sign: str, style: str) -> None:
        self.cells[self.row(y)][self.column(x)] = Cell(sign, style)
