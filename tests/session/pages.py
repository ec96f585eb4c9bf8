"""What holds for every page: whole, and in need of nothing else."""

from __future__ import annotations

import re
from html.parser import HTMLParser


class Tags(HTMLParser):
    """What a page is made of, and whether every tag is closed."""

    EMPTY = ("meta", "link", "br", "hr", "img")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_alone(html: str) -> set[str]:
    """That every tag is closed and nothing is fetched; the tags that are there."""
    parser = Tags()
    parser.feed(html)
    assert parser.open == []
    assert not {"script", "img", "link", "iframe"} & parser.seen
    assert all(address.startswith("#") for address in parser.addresses)
    assert not re.search(r"url\((?!#)|@import", html)
    return parser.seen
