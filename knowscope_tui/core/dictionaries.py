"""Dictionaries as people name them: releases, their entries, and which of these are wanted.

SAELens calls a published set of sparse autoencoders a *release*, and each one in it has an *id*. A release of
Gemma Scope holds several widths and several L0s for every layer; *canonical* is the one whose L0 is closest to 100.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.errors import DictionaryError, UsageError

CANONICAL_L0 = 100.0
"""The L0 that the canonical dictionaries of Gemma Scope come closest to."""

COMMON_WIDTH = 16_384
"""The width that is taken where none is named and a release has it."""


@dataclass(frozen=True)
class DictionarySource:
    """What a person named: a `folder` of dictionaries at `kind`, or a `release` of the registry."""

    folder: str | None = None
    kind: SiteKind | None = None
    release: str | None = None

    def __str__(self) -> str:
        return self.release or f"{self.kind}={self.folder}"

    @classmethod
    def parse(cls, text: str) -> DictionarySource:
        """KIND=FOLDER or RELEASE. Raises `UsageError`."""
        kind, equals, folder = text.partition("=")
        if not equals:
            if not text.strip() or "/" in text:
                raise UsageError(
                    f"{text!r} names no dictionaries.",
                    "Name a release, as in gemma-scope-2b-pt-res-canonical, or KIND=FOLDER, as in resid_post=saes/res.",
                )
            return cls(release=text.strip())
        if not folder:
            raise UsageError(f"{text!r} names no folder.", "Write KIND=FOLDER, as in resid_post=saes/res.")
        return cls(folder=folder, kind=SiteKind.parse(kind))


@dataclass(frozen=True)
class Choice:
    """Which dictionaries of a release: how many features, which L0 (None: the canonical one), which layers."""

    width: int | None = None
    l0: float | None = None
    layers: tuple[int, int] | None = None
    """First and last layer, both included."""


@dataclass(frozen=True)
class Entry:
    """One dictionary of a release, as the registry lists it."""

    release: str
    id: str
    repo: str
    path: str
    """Where it lies in the repository: a folder or a file."""
    site: Site | None
    """None where no site here is what it reads, or where the registry does not say."""
    width: int | None = None
    l0: float | None = None
    canonical: bool = False
    loader: str = "sae_lens"
    """sae-lens's name for the published layout."""


@dataclass(frozen=True)
class Release:
    """A published set of dictionaries for one model. `why_not` says why it cannot be used here, if it cannot."""

    name: str
    repo: str
    model: str
    entries: tuple[Entry, ...]
    why_not: str = ""

    @property
    def kinds(self) -> tuple[SiteKind, ...]:
        return tuple(kind for kind in SiteKind if any(e.site and e.site.kind is kind for e in self.entries))

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(sorted({entry.site.layer for entry in self.entries if entry.site}))

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(sorted({entry.width for entry in self.entries if entry.width}))


def choose(release: Release, choice: Choice) -> tuple[Entry, ...]:
    """One entry a site: of the width asked for, the L0 closest to the one asked for, in the layers asked for.

    Raises `DictionaryError` that says what the release has instead.
    """
    if release.why_not:
        raise DictionaryError(
            f"{release.name} cannot be used here: {release.why_not}.", "See `knowscope-tui saes list`."
        )
    usable = [entry for entry in release.entries if entry.site is not None]
    first, last = choice.layers or (0, max(release.layers, default=0))
    in_layers = [entry for entry in usable if entry.site and first <= entry.site.layer <= last]
    if not in_layers:
        raise DictionaryError(
            f"{release.name} has no dictionary in layers {first} to {last}.", f"It has {span(release.layers)}."
        )
    width = choice.width or _common_width(release)
    wide = [entry for entry in in_layers if width is None or entry.width in (None, width)]
    if not wide:
        offered = ", ".join(width_label(width) for width in release.widths)
        raise DictionaryError(
            f"{release.name} has no dictionary of {width_label(width or 0)} features there.", f"It has {offered}."
        )
    if choice.l0 is not None and all(entry.l0 is None for entry in wide):
        raise DictionaryError(f"{release.name} does not say what its L0s are.", "Leave --l0 out.")
    by_site: dict[Site, list[Entry]] = {}
    for entry in wide:
        assert entry.site is not None
        by_site.setdefault(entry.site, []).append(entry)
    return tuple(_closest(by_site[site], choice.l0) for site in sorted(by_site))


def _common_width(release: Release) -> int | None:
    widths = release.widths
    return COMMON_WIDTH if COMMON_WIDTH in widths else min(widths, default=None)


def _closest(entries: Sequence[Entry], l0: float | None) -> Entry:
    """Published names decide where they say so; else the L0 closest to the one asked for."""
    if l0 is None:
        named = [entry for entry in entries if entry.canonical]
        if named:
            return named[0]
    wanted = CANONICAL_L0 if l0 is None else l0

    def distance(entry: Entry) -> tuple[float, float]:
        l0 = entry.l0 if entry.l0 is not None else CANONICAL_L0
        return abs(l0 - wanted), -l0  # of two as close the publisher took the larger

    return min(entries, key=distance)


def parse_width(text: str) -> int:
    """16k, 65k, 1m or a plain number as a number of features. Raises `UsageError`.

    Published labels are rounded powers of two (16k is 16,384, 1m is 1,048,576); others count in units of 1,024.
    """
    match = re.fullmatch(r"(\d+)([km]?)", text.strip().lower())
    if match is None or not int(match[1]):
        raise UsageError(f"{text!r} is no width.", "Write it as 16k, 65k, 1m or 16384.")
    number = int(match[1])
    if not match[2]:
        return number
    rough = number * (1_000 if match[2] == "k" else 1_000_000)
    power: int = 2 ** round(math.log2(rough))
    rounding = 0.03 if match[2] == "k" else 0.05
    return power if abs(power - rough) <= rounding * rough else number * (1_024 if match[2] == "k" else 1_048_576)


def width_label(width: int) -> str:
    """A width as it is published: 16384 → 16k, 65536 → 65k, 1048576 → 1m."""
    if width >= 1_000_000:
        return f"{width // 1_000_000}m"
    return f"{width // 1_000}k" if width >= 1_000 else str(width)


def parse_layers(text: str) -> tuple[int, int]:
    """10-20, or 12 alone, as the first and last layer. Raises `UsageError`."""
    match = re.fullmatch(r"\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?", text)
    first = int(match[1]) if match else 0
    last = int(match[2] or match[1]) if match else -1
    if last < first:
        raise UsageError(f"{text!r} is no range of layers.", "Write it as 10-20, or 12 for one layer.")
    return first, last


def parse_l0(text: str) -> float | None:
    """`canonical` (None) or a number. Raises `UsageError`."""
    if text.strip().lower() == "canonical":
        return None
    if not re.fullmatch(r"\d{1,6}(\.\d+)?", text.strip()) or not float(text):
        raise UsageError(f"{text!r} is no L0.", "Write `canonical`, or a number: the closest one is taken.")
    return float(text)


def parse_bytes(text: str) -> int:
    """8GiB, 500MB, 2g or a plain number of bytes. Raises `UsageError`."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b?)\s*", text.lower())
    if match is None:
        raise UsageError(f"{text!r} is no amount of memory.", "Write it as 8GiB or 500MB.")
    decimal = match[3] == "b" and match[2]
    return int(float(match[1]) * (1_000 if decimal else 1_024) ** " kmgt".index(match[2] or " "))


def span(numbers: Iterable[int]) -> str:
    """Ascending numbers with runs drawn together: layers 0 to 3, 7."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = [f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    return f"layer{'' if len(words) == 1 and len(runs[0]) == 1 else 's'} {', '.join(words)}" if words else "no layers"


# --- what is on this machine ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EntryState:
    """An entry, what it takes, and what of it is on this machine."""

    entry: Entry
    download_bytes: int | None
    """Size of its published files, where known."""
    downloaded: bool
    """Whether the published files lie in the hub's cache."""
    cached_bytes: int
    """Size of the converted copy, 0 where there is none."""

    @property
    def cached(self) -> bool:
        return self.cached_bytes > 0


@dataclass(frozen=True)
class ReleaseState:
    """A release in a list: how many of its dictionaries are on this machine, and what its usual set takes."""

    release: Release
    usual: int
    """Dictionaries in its usual set: one a site, common width, canonical L0."""
    usual_bytes: int | None
    """What these take to download, where that can be told without asking the hub."""
    cached: int
    """Converted copies of its usual set."""
    converted: int
    """Converted copies of any of its dictionaries, and their size."""
    converted_bytes: int


@dataclass(frozen=True)
class CachedDictionary:
    """A converted dictionary in the cache. `problem` is a sentence where it is known to be broken."""

    file: str
    name: str
    """What it was made from: release and id, or a folder."""
    site: Site
    width: int
    dtype: str
    bytes: int
    used: float
    """When it was last opened, in seconds since 1970."""
    problem: str = ""


@dataclass(frozen=True)
class Pulled:
    """What a pull brought: dictionaries made, those that were here before, and bytes in the cache."""

    release: str
    made: int
    present: int
    bytes: int
