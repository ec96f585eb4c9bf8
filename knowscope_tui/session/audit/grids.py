"""Where the changed positions lie: bars by layer, and a heat map over each matrix."""

from __future__ import annotations

from collections.abc import Mapping

from knowscope_tui.core.record import Row
from knowscope_tui.session.pages import svg
from knowscope_tui.session.pages.blocks import Picture
from knowscope_tui.text import bar, shade, visible
from knowscope_tui.text import count as counted

CELL = 8
SHADES = 4
"""Steps between few and many positions."""

BAR_WIDTH, BAR_HEIGHT = 460, 16


def layer_bars(positions: Mapping[int, int]) -> Picture:
    """Positions by layer, from the first layer that changes to the last."""
    layers = range(min(positions), max(positions) + 1)
    most = max(positions.values()) or 1
    caption = "Changed positions by layer"
    told = ", ".join(f"layer {layer}: {positions.get(layer, 0):,}" for layer in layers)
    root = svg.drawing(640, BAR_HEIGHT * len(layers) + 8, caption, told)
    for row, layer in enumerate(layers):
        own, y = positions.get(layer, 0), 4 + row * BAR_HEIGHT
        svg.text(root, 62, y + 11, f"layer {layer}", "quiet", "end")
        svg.shape(root, "rect", "bar", x=70, y=y + 2, width=BAR_WIDTH * own / most, height=BAR_HEIGHT - 5)
        svg.text(root, 76 + BAR_WIDTH * own / most, y + 11, f"{own:,}", "value")
    text = "\n".join(
        f"layer {layer:>3}  {bar(positions.get(layer, 0) / most, 40)}  {positions.get(layer, 0):,}" for layer in layers
    )
    return Picture(caption, svg.written(root), text)


def grid(parameter: Row) -> Picture:
    """The positions of one parameter, as the grid over (d_model, d_mlp) that the record holds."""
    cells: list[list[int]] = [[int(cell) for cell in row] for row in parameter["picture"]]
    most = max((max(row) for row in cells), default=0)
    name = visible(str(parameter["name"]))
    told = (
        f"{counted(int(parameter['positions']), 'changed position')} of {name} in a grid of {len(cells)} by "
        f"{len(cells[0])} cells, d_model downwards and d_mlp to the right; at most {most:,} in a cell."
    )
    width, height = len(cells[0]) * CELL, len(cells) * CELL
    root = svg.drawing(width + 2, height + 2, f"Where {name} changes", told)
    svg.shape(root, "rect", "frame", x=0.5, y=0.5, width=width + 1, height=height + 1)
    for step in range(1, SHADES + 1):
        path = "".join(
            f"M{1 + x * CELL} {1 + y * CELL}h{CELL}v{CELL}h-{CELL}z"
            for y, row in enumerate(cells)
            for x, cell in enumerate(row)
            if _step(cell, most) == step
        )
        if path:
            svg.shape(root, "path", f"heat-{step}", d=path)
    text = "\n".join("".join(shade(cell / most if most else 0) for cell in row) for row in cells)
    caption = f"{name}: {counted(int(parameter['positions']), 'position')}, at most {most:,} in a cell"
    return Picture(caption, svg.written(root), text)


def _step(cell: int, most: int) -> int:
    """How dark a cell is: 0 for none, `SHADES` for the fullest."""
    return 0 if cell <= 0 else min(1 + int(SHADES * cell / most), SHADES)
