"""Releases, their entries and the cache for a person. Names are broken over lines rather than cut: they are typed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from knowscope_tui.cli.render import QUIET, STRONG, table
from knowscope_tui.core.dictionaries import CachedDictionary, EntryState, Pulled, ReleaseState, span, width_label
from knowscope_tui.text import count, figure, file_size, visible

WIDE = 100
"""Columns from which tables are set wider."""

_HUB_NAMES = {"gpt2-small": "openai-community/gpt2", "mistral-7b": "mistralai/Mistral-7B-v0.1"}
"""What the hub calls models that the registry names otherwise."""

_SHORT_DTYPES = {"bfloat16": "bf16", "float32": "f32"}


def hub_name(model: str) -> str:
    """What to type for a model of the registry."""
    if "/" in model:
        return model
    return _HUB_NAMES.get(model, f"google/{model}" if model.startswith("gemma") else model)


# --- releases -------------------------------------------------------------------------------------------------------


def show_releases(console: Console, states: Sequence[ReleaseState]) -> None:
    """A table for every model; those that cannot be used here below, dimmed, under the reason."""
    usable = [state for state in states if not state.release.why_not]
    made = _tight(console, ("release", "left"), ("site", "left"), ("layers", "left"), ("widths", "left"),
                  ("usual", "right"), ("here", "right"))  # fmt: skip
    room = 44 if console.width >= WIDE else 33
    for model in sorted({state.release.model for state in usable}, key=lambda name: name.rpartition("/")[2].lower()):
        made.add_row(Text(_folded(visible(model), room), STRONG))
        for state in usable:
            if state.release.model == model:
                made.add_row(*_release_cells(state, room))
    if usable:
        console.print(made)
        console.print(Text("usual: to download for one dictionary a site; here: converted, of all there are", QUIET))
    for reason in dict.fromkeys(state.release.why_not for state in states if state.release.why_not):
        console.print(Text(f"Cannot be used here: {visible(reason)}.", QUIET))
        for state in states:
            if state.release.why_not == reason:
                console.print(Text(f"  {visible(state.release.name)}", QUIET))


def _release_cells(state: ReleaseState, room: int) -> list[Text]:
    release = state.release
    here = f"{state.converted}/{len(release.entries)}"
    return [
        Text(_folded(visible(release.name), room)),
        Text("\n".join(kind.value for kind in release.kinds)),
        Text(_layers(release.layers)),
        Text(_widths(release.widths)),
        Text(_known_size(state.usual_bytes)),
        Text(here, "green" if state.converted else QUIET),
    ]


def show_release(console: Console, state: ReleaseState, entries: Sequence[EntryState]) -> None:
    """What a release holds, by width; its usual set; what of it is here; and what to type."""
    release = state.release
    console.print(Text(visible(release.name), STRONG))
    lines = [
        ("model", Text(visible(release.model))),
        ("repository", Text(visible(release.repo))),
        ("sites", Text(", ".join(kind.value for kind in release.kinds) or "none that is known here")),
        ("layers", Text(span(release.layers).removeprefix("layers ").removeprefix("layer "))),
    ]
    if release.why_not:
        console.print(_labelled([*lines, ("unusable", Text(f"✗ {visible(release.why_not)}", "yellow"))]))
        return
    usual = f"{count(state.usual, 'dictionary', 'dictionaries')}, one a site: {_usual_words(entries[: state.usual])}"
    downloaded = sum(entry.downloaded for entry in entries)
    here = (
        f"{state.converted} converted ({file_size(state.converted_bytes)}), {downloaded} downloaded, of {len(entries)}"
    )
    lines += [("usual set", Text(f"{usual}; {_download(state.usual_bytes)}")), ("here", Text(here))]
    console.print(_labelled(lines))
    console.print()
    console.print(_by_width(entries))
    console.print()
    _show_command(console, "Pull: ", "knowscope-tui", "saes", "pull", release.name)
    _show_command(console, "Open: ", "knowscope-tui", "--model", hub_name(release.model), "--sae", release.name)


def _show_command(console: Console, title: str, *words: str) -> None:
    """What to type: never broken over lines."""
    console.print(Text.assemble((title, QUIET), visible(" ".join(words))), soft_wrap=True)


def _by_width(entries: Sequence[EntryState]) -> Table:
    made = table(("width", "right"), ("dictionaries", "right"), ("layers", "left"), ("L0", "left"), ("each", "right"),
                 ("here", "right"))  # fmt: skip
    for width in sorted({entry.entry.width or 0 for entry in entries}):
        made.add_row(*_width_cells(width, [entry for entry in entries if (entry.entry.width or 0) == width]))
    return made


def _width_cells(width: int, entries: Sequence[EntryState]) -> list[str]:
    sizes = [entry.download_bytes for entry in entries if entry.download_bytes]
    l0s = [entry.entry.l0 for entry in entries if entry.entry.l0 is not None]
    return [
        width_label(width) if width else "–",
        str(len(entries)),
        _layers(sorted({entry.entry.site.layer for entry in entries if entry.entry.site})),
        _range(min(l0s), max(l0s)) if l0s else "–",
        _known_size(max(sizes, default=None)),
        str(sum(entry.cached for entry in entries)),
    ]


def _usual_words(entries: Sequence[EntryState]) -> str:
    widths = sorted({state.entry.width for state in entries if state.entry.width})
    l0s = [state.entry.l0 for state in entries if state.entry.l0 is not None]
    words = [f"{width_label(width)} features" for width in widths[:1]] if len(widths) == 1 else []
    words += [f"L0 {_range(min(l0s), max(l0s))}"] if l0s else []
    return ", ".join(words) or "as published"


def show_entries(console: Console, entries: Iterable[EntryState]) -> None:
    """Every entry by its id, those of the usual set first."""
    console.print()
    made = _tight(console, ("id", "left"), ("site", "left"), ("width", "right"), ("L0", "right"), ("size", "right"),
                  ("", "left"))  # fmt: skip
    room = 60 if console.width >= WIDE else 34
    for state in entries:
        entry = state.entry
        made.add_row(
            Text(_folded(visible(entry.id), room)),
            str(entry.site) if entry.site else Text("–", QUIET),
            width_label(entry.width) if entry.width else "–",
            "–" if entry.l0 is None else figure(entry.l0),
            _known_size(state.download_bytes),
            Text("converted", "green") if state.cached else Text("downloaded" if state.downloaded else "", QUIET),
        )
    console.print(made)


def show_pulled(console: Console, pulled: Pulled, state: ReleaseState, chosen: Sequence[str]) -> None:
    """What a pull brought, and what to type to use it."""
    number = count(pulled.made + pulled.present, "dictionary", "dictionaries")
    before = f", {pulled.present} of them before" if pulled.present else ""
    console.print(
        Text(f"✓ {number} of {visible(pulled.release)} here{before}: {file_size(pulled.bytes)}.", style="green")
    )
    words = ["--model", hub_name(state.release.model), "--sae", pulled.release, *chosen]
    _show_command(console, "Open: ", "knowscope-tui", *words)


# --- the cache ------------------------------------------------------------------------------------------------------


def show_cached(console: Console, rows: Sequence[CachedDictionary]) -> None:
    """Converted dictionaries under what they were made from, and what is wrong with broken ones below."""
    made = _tight(console, ("dictionary", "left"), ("site", "left"), ("width", "right"), ("dtype", "left"),
                  ("size", "right"), ("last used", "left"))  # fmt: skip
    room = 60 if console.width >= WIDE else 34
    for origin in dict.fromkeys(_origin(row) for row in rows):
        if origin:
            made.add_row(Text(_folded(visible(origin), room), STRONG))
        for row in rows:
            if _origin(row) == origin:
                made.add_row(*_cached_cells(row, room))
    if rows:
        console.print(made)
    for row in rows:
        if row.problem:
            console.print(Text(f"✗ {visible(row.name)}: {visible(row.problem)}", style="red"))


def _origin(row: CachedDictionary) -> str:
    """The release, or the folder that a dictionary's own lies in."""
    name = row.name
    return name.rpartition("/")[0] if name.startswith("/") else name.rpartition(" ")[0]


def _cached_cells(row: CachedDictionary, room: int) -> list[Text]:
    own = row.name[len(_origin(row)) :].strip(" /")
    style = "red" if row.problem else ""
    return [
        Text(_folded(visible(own), room), style),
        Text(str(row.site) if row.width else "–"),
        Text(width_label(row.width) if row.width else "–"),
        Text(_SHORT_DTYPES.get(row.dtype, visible(row.dtype)) or "–"),
        Text(file_size(row.bytes)),
        Text(time.strftime("%Y-%m-%d", time.localtime(row.used)), QUIET),
    ]


# --- cells ----------------------------------------------------------------------------------------------------------


def _tight(console: Console, *columns: tuple[str, str]) -> Table:
    """A table that is set narrow where there is little room; its first column may have lines."""
    made = table(*columns)
    made.columns[0].no_wrap = False
    made.columns[0].overflow = "fold"
    if console.width < WIDE:
        made.padding = (0, 1, 0, 0)
    return made


def _labelled(lines: Iterable[tuple[str, Text]]) -> Table:
    made = table(("", "left"), ("", "left"))
    made.show_header = False
    made.columns[1].no_wrap = False
    made.columns[1].overflow = "fold"
    for title, line in lines:
        made.add_row(Text(title, style=QUIET), line)
    return made


def _folded(name: str, room: int) -> str:
    """`name` over as many lines as it takes, broken behind a sign where there is one."""
    lines = []
    while len(name) > room:
        at = max(name.rfind(sign, 0, room) for sign in "/_- ") + 1
        lines.append(name[: at or room])
        name = name[at or room :]
    return "\n".join([*lines, name])


def _layers(layers: Sequence[int]) -> str:
    if not layers:
        return "–"
    first, last = layers[0], layers[-1]
    if len(layers) == last - first + 1:
        return _range(first, last)
    return f"{len(layers)} of {first}-{last}"


def _widths(widths: Sequence[int]) -> str:
    labels = list(dict.fromkeys(width_label(width) for width in widths[:: max(len(widths) - 1, 1)]))
    return "-".join(labels) or "–"


def _range(first: float, last: float) -> str:
    return f"{first:g}" if first == last else f"{first:g}-{last:g}"


def _download(size: int | None) -> str:
    return "how much to download is not known" if size is None else f"{file_size(size)} to download"


def _known_size(size: int | None) -> str:
    return "–" if size is None else file_size(size)
