"""The audit pages of a saved checkpoint, as two files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from knowscope_tui.core.record import Row, public_name, read_record, unbroken
from knowscope_tui.core.written import written_beside
from knowscope_tui.errors import SaveError
from knowscope_tui.session.audit.edit_sections import base_section, edited_section, plan_sections
from knowscope_tui.session.audit.proof_sections import facts_section, figures_section, frontier_sections, leaks_section
from knowscope_tui.session.audit.summary import outcome
from knowscope_tui.session.audit.way_back import check_section, glossary_section, limits_section, versions_section
from knowscope_tui.session.pages.blocks import Page, Section
from knowscope_tui.session.pages.html import html_page
from knowscope_tui.session.pages.markdown import markdown_page

SUFFIXES = (".html", ".md")


@dataclass(frozen=True)
class AuditPages:
    """The files that were written, and the outcome in a few words and in sentences."""

    html: Path
    markdown: Path
    verdict: str
    summary: str


def audit(folder: Path, out: Path | None = None, *, force: bool = False) -> AuditPages:
    """Writes the audit pages of the checkpoint `folder` to `out` with `.html` and `.md`; default: beside the folder.

    Nothing but the record is read. `force` writes over files that are there. Raises `SaveError`: no checkpoint, a
    broken record, files that exist or cannot be written; both pages are written, or none.
    """
    whole = Path(os.path.abspath(folder))
    record = read_record(folder)
    with unbroken(folder):
        page = page_of(record, whole.name)
        pages = html_page(page), markdown_page(page)
    stem = out or whole.with_name(f"{whole.name}-report")
    stem = stem.with_suffix("") if stem.suffix in SUFFIXES else stem
    html, markdown = (stem.with_name(f"{stem.name}{suffix}") for suffix in SUFFIXES)
    for target in (html, markdown):
        if not force and os.path.lexists(target):
            raise SaveError(f"{str(target)!r} already exists.", "Choose another name with --out, or add --force.")
    with written_beside(html) as one, written_beside(markdown) as other:
        one.write(pages[0].encode("utf-8", "backslashreplace"))
        other.write(pages[1].encode("utf-8", "backslashreplace"))
    return AuditPages(html, markdown, page.verdict, page.summary)


def page_of(record: Row, folder: str) -> Page:
    """The page of a checkpoint with `record`, saved as a folder called `folder`."""
    verdict, summary, sound = outcome(record)
    sections: tuple[Section, ...] = (
        edited_section(record),
        figures_section(record),
        leaks_section(record),
        facts_section(record),
        *plan_sections(record),
        *frontier_sections(record),
        base_section(record),
        check_section(record, folder),
        versions_section(record),
        limits_section(),
        glossary_section(),
    )
    return Page("audit of an edit", f"{public_name(record)}, edited: {folder}", verdict, summary, sound, sections)
