"""Elements of drawings that lie inside a page.

Their colours are classes, which the page's style sheet knows; what draws without one finds plain ones on each element.
"""

from __future__ import annotations

from itertools import count
from xml.etree import ElementTree as ET

_NUMBERS = count(1)

_HUES = {"erasure": "#1f5fbf", "locality": "#a04a00", "ppl": "#5b3fa0"}

_PLAIN = {
    "quiet": {"fill": "#5a6478"},
    "frame": {"fill": "#f3f5f9", "stroke": "#d5dae4"},
    "bar": {"fill": "#1f5fbf"},
    "grid": {"stroke": "#d5dae4"},
    "chosen": {"stroke": "#1d2330", "stroke-width": "1.5"},
    "limit": {"stroke": "#5a6478", "stroke-width": "1.2", "stroke-dasharray": "2 3"},
    "line": {"fill": "none", "stroke-width": "2"},
    **{f"heat-{step}": {"fill": "#1f5fbf", "fill-opacity": f"{step / 4}"} for step in range(1, 5)},
}
"""Class → how it looks on white paper. A hue colours lines and limits, and fills marks."""


def drawing(width: int, height: int, title: str, description: str) -> ET.Element:
    """An empty drawing with its name for those who do not see it."""
    number = next(_NUMBERS)
    root = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {width} {height}",
            "width": str(width),
            "height": str(height),
            "role": "img",
            "font-size": "11",
            "font-family": "sans-serif",
            "aria-labelledby": f"drawing-{number}-title drawing-{number}-desc",
        },
    )
    ET.SubElement(root, "title", {"id": f"drawing-{number}-title"}).text = title
    ET.SubElement(root, "desc", {"id": f"drawing-{number}-desc"}).text = description
    return root


def text(root: ET.Element, x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> None:
    about = {"x": number(x), "y": number(y), "text-anchor": anchor}
    ET.SubElement(root, "text", about | (_look(kind) if kind else {})).text = content


def line(root: ET.Element, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
    ends = {"x1": number(x1), "y1": number(y1), "x2": number(x2), "y2": number(y2)}
    ET.SubElement(root, "line", ends | _look(kind))


def shape(root: ET.Element, name: str, kind: str, **about: float | str) -> None:
    told = {key: value if isinstance(value, str) else number(value) for key, value in about.items()}
    ET.SubElement(root, name, told | _look(kind))


def _look(kind: str) -> dict[str, str]:
    """The classes of an element, and how it looks without the style sheet."""
    look = {"class": kind}
    for one in kind.split():
        look |= _PLAIN.get(one, {})
        if one in _HUES:
            look["fill" if "mark" in kind else "stroke"] = _HUES[one]
    return look


def written(root: ET.Element) -> str:
    return ET.tostring(root, encoding="unicode")


def number(value: float) -> str:
    """A coordinate, to a tenth."""
    return f"{value:.1f}".removesuffix(".0")
