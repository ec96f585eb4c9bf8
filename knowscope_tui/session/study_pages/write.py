"""The files of finished runs. Each is written whole; one that is there is written over."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from knowscope_tui.core.studies import Plot, StudyName, StudyResult, Table
from knowscope_tui.core.study_json import result_json
from knowscope_tui.core.written import cannot_write, written_beside
from knowscope_tui.session.pages.blocks import Page, Picture
from knowscope_tui.session.pages.html import html_page
from knowscope_tui.session.pages.markdown import escaped, markdown_block, markdown_page
from knowscope_tui.session.study_pages.drawing import drawn, told
from knowscope_tui.session.study_pages.sections import Drawn, all_page, study_page
from knowscope_tui.session.study_pages.tables import as_csv, table_block
from knowscope_tui.studies.run_folder.folder import FINDINGS, HTML, MARKDOWN, PLOTS, TABLES


@dataclass(frozen=True)
class Written:
    """A run's page, and its pictures for a page over several."""

    html: Path
    pictures: Drawn


def write_study(result: StudyResult) -> Written:
    """Writes what `result` came to into its folder. Raises `SaveError`."""
    folder = Path(result.folder)
    for name in (TABLES, PLOTS):
        _make(folder / name)
    for table in result.findings.tables:
        _write_table(folder / TABLES, table)
    pictures = {plot.name: _write_plot(folder / PLOTS, plot) for plot in result.findings.plots}
    found = json.dumps(result_json(result), ensure_ascii=False, allow_nan=False, indent=2)
    _write(folder / FINDINGS, found)
    return Written(_write_page(folder, study_page(result, pictures)), pictures)


def write_all(
    folder: Path,
    results: Sequence[StudyResult],
    pictures: Sequence[Drawn],
    left_out: Sequence[tuple[StudyName, str]] = (),
) -> Path:
    """Writes one page over the runs, which lie in folders below `folder`. Raises `SaveError`."""
    below = {
        result.name.value: {
            name: Picture(picture.caption, picture.svg, picture.text, f"{Path(result.folder).name}/{picture.file}")
            for name, picture in own.items()
        }
        for result, own in zip(results, pictures, strict=True)
    }
    return _write_page(folder, all_page(results, below, left_out))


def _write_table(folder: Path, table: Table) -> None:
    note = f"\n\n{escaped(table.note)}" if table.note else ""
    _write(folder / f"{table.name}.md", f"{markdown_block(table_block(table))}{note}\n")
    _write(folder / f"{table.name}.csv", as_csv(table))


def _write_plot(folder: Path, plot: Plot) -> Picture:
    svg, png = drawn(plot)
    _write(folder / f"{plot.name}.svg", f'<?xml version="1.0" encoding="utf-8"?>\n{svg}\n')
    _write(folder / f"{plot.name}.png", png)
    return Picture(plot.title, svg, told(plot), f"{folder.name}/{plot.name}.svg")


def _write_page(folder: Path, page: Page) -> Path:
    _write(folder / HTML, html_page(page))
    _write(folder / MARKDOWN, markdown_page(page))
    return folder / HTML


def _write(path: Path, content: str | bytes) -> None:
    with written_beside(path) as file:
        file.write(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from None
