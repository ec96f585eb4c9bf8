"""What a page is made of. Every text is plain: how it is escaped is the affair of whoever writes the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Items:
    """A list of short texts."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """Lines to type."""

    text: str


@dataclass(frozen=True)
class Table:
    """`rows` have as many cells as `head`; the first cell of a row names it. `numbers` are columns of figures,
    `names` columns of names, hashes and the like."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[int, ...] = ()
    names: tuple[int, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A drawing as SVG, whose title and description it holds, and the same in signs. `file` is where it lies beside
    the page, for pages that can only point to it."""

    caption: str
    svg: str
    text: str
    file: str = ""


@dataclass(frozen=True)
class Pictures:
    """Small pictures of one kind, side by side where there is room."""

    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Terms:
    """Words and what they mean."""

    meanings: Mapping[str, str]


Block = Paragraph | Items | Code | Table | Picture | Pictures | Terms


@dataclass(frozen=True)
class Section:
    title: str
    blocks: tuple[Block, ...]

    @property
    def anchor(self) -> str:
        return "-".join("".join(sign if sign.isalnum() else " " for sign in self.title.lower()).split())


@dataclass(frozen=True)
class Page:
    """`maker` is what kind of page it is, `verdict` the outcome in a few words, `summary` in a sentence or two; `sound`
    is whether nothing was found wanting."""

    maker: str
    title: str
    verdict: str
    summary: str
    sound: bool
    sections: tuple[Section, ...]
