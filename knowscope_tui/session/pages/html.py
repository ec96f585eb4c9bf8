"""The page as one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from knowscope_tui.session.pages.blocks import Page
from knowscope_tui.text import visible

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATE = "page.html.jinja"


def html_page(page: Page) -> str:
    """`page` as HTML. Every text is escaped; pictures go in as they are: whoever draws one escapes its texts."""
    return _template().render(page=page) + "\n"


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("knowscope_tui.session.pages", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = _visible
    environment.filters["kind"] = lambda block: type(block).__name__
    return environment.get_template(TEMPLATE)


def _visible(text: str) -> str:
    """`text` without what a reader could not see; lines stay lines."""
    return "\n".join(visible(line) for line in text.split("\n"))
