"""Elements of drawings that lie inside a page: colours are classes, which the page's style sheet knows."""

from __future__ import annotations

from itertools import count
from xml.etree import ElementTree as ET

_NUMBERS = count(1)


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
            "aria-labelledby": f"drawing-{number}-title drawing-{number}-desc",
        },
    )
    ET.SubElement(root, "title", {"id": f"drawing-{number}-title"}).text = title
    ET.SubElement(root, "desc", {"id": f"drawing-{number}-desc"}).text = description
    return root


def text(root: ET.Element, x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> None:
    about = {"x": number(x), "y": number(y), "text-anchor": anchor}
    ET.SubElement(root, "text", about | ({"class": kind} if kind else {})).text = content


def line(root: ET.Element, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
    ET.SubElement(root, "line", {"x1": number(x1), "y1": number(y1), "x2": number(x2), "y2": number(y2), "class": kind})


def shape(root: ET.Element, name: str, kind: str, **about: float | str) -> None:
    told = {key: value if isinstance(value, str) else number(value) for key, value in about.items()}
    ET.SubElement(root, name, {"class": kind, **told})


def written(root: ET.Element) -> str:
    return ET.tostring(root, encoding="unicode")


def number(value: float) -> str:
    """A coordinate, to a tenth."""
    return f"{value:.1f}".removesuffix(".0")
