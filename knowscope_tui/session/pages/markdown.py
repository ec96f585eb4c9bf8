"""The page as Markdown, pictures as signs."""

from __future__ import annotations

import re
from functools import singledispatch
from urllib.parse import quote

from knowscope_tui.session.pages.blocks import Code, Items, Page, Paragraph, Picture, Pictures, Section, Table, Terms
from knowscope_tui.text import visible

_SIGNS = re.compile(r"([\\`*_\[\]<>|#~&$])")


def markdown_page(page: Page) -> str:
    """`page` as CommonMark with tables."""
    head = f"# {escaped(page.title)}\n\n**{escaped(page.verdict)}.** {escaped(page.summary)}"
    return "\n\n".join([head, *(_section(section) for section in page.sections)]) + "\n"


def escaped(text: str) -> str:
    """`text` in one line, read as itself by whatever reads Markdown."""
    return _SIGNS.sub(r"\\\1", visible(" ".join(text.split())))


def _section(section: Section) -> str:
    return "\n\n".join([f"## {escaped(section.title)}", *(markdown_block(block) for block in section.blocks)])


@singledispatch
def markdown_block(block: object) -> str:
    """One block of a page."""
    raise TypeError(type(block).__name__)


@markdown_block.register
def _(block: Paragraph) -> str:
    return escaped(block.text)


@markdown_block.register
def _(block: Items) -> str:
    return "\n".join(f"- {escaped(text)}" for text in block.texts)


@markdown_block.register
def _(block: Code) -> str:
    return _fenced(block.text, "sh")


@markdown_block.register
def _(block: Table) -> str:
    rules = ["---:" if column in block.numbers else "---" for column in range(len(block.head))]
    lines = [_line(block.head), f"| {' | '.join(rules)} |", *(_line(row) for row in block.rows)]
    return f"*{escaped(block.caption)}*\n\n" + "\n".join(lines)


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(escaped(cell) for cell in cells)} |"


@markdown_block.register
def _(block: Picture) -> str:
    if block.file:
        return f"![{escaped(block.caption)}]({quote(block.file)})"
    return f"*{escaped(block.caption)}*\n\n{_fenced(block.text, 'text')}"


@markdown_block.register
def _(block: Pictures) -> str:
    return "\n\n".join(markdown_block(picture) for picture in block.pictures)


@markdown_block.register
def _(block: Terms) -> str:
    return "\n".join(f"- **{escaped(word)}**: {escaped(meaning)}" for word, meaning in block.meanings.items())


def _fenced(text: str, language: str) -> str:
    """Lines as they are, in a fence that none of them can close."""
    lines = [visible(line) for line in text.split("\n")]
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}{language}", *lines, fence])
