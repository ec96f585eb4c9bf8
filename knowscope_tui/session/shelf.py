"""Published dictionaries and the cache of converted ones: what there is, what is here, bringing it here.

Touches no model. The command line calls the functions; the terminal UI puts requests to a `Shelf` on a thread of its
own, so that a download never stands in front of a question to the model.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import singledispatchmethod
from pathlib import Path

from knowscope_tui.core.dictionaries import (
    CachedDictionary,
    Choice,
    Entry,
    EntryState,
    Pulled,
    Release,
    ReleaseState,
    choose,
)
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.engine import hub
from knowscope_tui.engine.shelf import availability, cache, registry
from knowscope_tui.errors import DictionaryError, DoesNotFit, UsageError
from knowscope_tui.paths import cache_folder
from knowscope_tui.session import protocol
from knowscope_tui.session.runner import Post
from knowscope_tui.text import file_size


def releases(words: str = "", model: str | None = None, *, sae_dtype: str = "bfloat16") -> tuple[ReleaseState, ...]:
    """Releases for `model` (a name, with or without its owner; None: any) whose name, repository, model or sites hold
    every one of `words`."""
    return tuple(_release_state(found, sae_dtype) for found in registry.search(words, model))


def release(
    name: str, *, ask_hub: bool = False, sae_dtype: str = "bfloat16"
) -> tuple[ReleaseState, tuple[EntryState, ...]]:
    """One release and its entries, those of its usual set first. With `ask_hub` sizes are the hub's own, where it can
    be reached.

    Raises `DictionaryError` for an unknown name, with the closest ones.
    """
    found = registry.find_release(name)
    usual = _usual(found)
    sizes = availability.sizes_from_hub(found.repo, usual) if ask_hub and usual else None
    ordered = [*usual, *(entry for entry in found.entries if entry not in usual)]
    states = tuple(
        availability.state_of(entry, sae_dtype, sizes if number < len(usual) else None)
        for number, entry in enumerate(ordered)
    )
    return _release_state(found, sae_dtype, sizes), states


def _release_state(found: Release, sae_dtype: str = "bfloat16", sizes: dict[str, int] | None = None) -> ReleaseState:
    usual = _usual(found)
    sizes_here = {entry.id: _size(availability.file_of(entry, sae_dtype)) for entry in found.entries}
    if sizes is None:
        each = [availability.estimated_bytes(entry) for entry in usual]
        usual_bytes = sum(size or 0 for size in each) if each and all(each) else None
    else:
        usual_bytes = sum(sizes.values()) or None
    return ReleaseState(
        release=found,
        usual=len(usual),
        usual_bytes=usual_bytes,
        cached=sum(sizes_here[entry.id] > 0 for entry in usual),
        converted=sum(size > 0 for size in sizes_here.values()),
        converted_bytes=sum(sizes_here.values()),
    )


def _usual(found: Release) -> tuple[Entry, ...]:
    return () if found.why_not else choose(found, Choice())


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def pull(
    name: str,
    choice: Choice = Choice(),
    ids: Sequence[str] = (),
    *,
    sae_dtype: str = "bfloat16",
    offline: bool = False,
    on_progress: OnProgress = silent,
) -> Pulled:
    """Downloads and converts dictionaries of the release `name`: those that `choice` names, or those of `ids`.

    What is here already is left as it is; a download that was cut short goes on where it was. Raises
    `DictionaryError` or `HubError`.
    """
    hub.quiet()
    if offline:
        hub.stay_offline()
    entries = _named(registry.find_release(name), ids) if ids else registry.entries_of(name, choice)
    # Converting takes torch, which listing and searching do without.
    from knowscope_tui.engine.library import numbered
    from knowscope_tui.engine.shelf import published

    _check_room(entries, sae_dtype)
    made = size = 0
    for number, entry in enumerate(entries):
        before = availability.file_of(entry, sae_dtype).is_file()
        file = published.obtain(
            entry, sae_dtype, offline=offline, on_progress=numbered(on_progress, number, len(entries))
        )
        made += not before
        size += file.stat().st_size
    return Pulled(name, made, len(entries) - made, size)


def _check_room(entries: Sequence[Entry], sae_dtype: str) -> None:
    """Raises `DoesNotFit` where the disk has no room for what is still to be downloaded and converted."""
    from knowscope_tui.engine.memory import disk_free

    missing = [entry for entry in entries if not availability.file_of(entry, sae_dtype).is_file()]
    sizes = [availability.state_of(entry, sae_dtype) for entry in missing]
    needed = sum(0 if state.downloaded else state.download_bytes or 0 for state in sizes)
    needed += sum((state.download_bytes or 0) // (2 if sae_dtype == "bfloat16" else 1) for state in sizes)
    places = [disk_free(place) for place in (hub.cache_place(), cache_folder())]
    free = min((size for size in places if size is not None), default=needed)
    if needed > free:
        raise DoesNotFit(
            f"This needs {file_size(needed)} of the disk, and {file_size(free)} are free.",
            "Take fewer (--layers 10-20), or point HF_HOME and XDG_CACHE_HOME elsewhere.",
        )


def _named(found: Release, ids: Sequence[str]) -> tuple[Entry, ...]:
    """The entries with these ids. Raises `DictionaryError` for an id that the release does not have."""
    if found.why_not:
        raise DictionaryError(f"{found.name} cannot be used here: {found.why_not}.", "See `knowscope-tui saes list`.")
    by_id = {entry.id: entry for entry in found.entries if entry.site is not None}
    for id in ids:
        if id not in by_id:
            close = get_close_matches(id, by_id, n=3, cutoff=0.3)
            hint = (
                f"Did you mean {', '.join(close)}?" if close else f"See `knowscope-tui saes info {found.name} --ids`."
            )
            raise DictionaryError(f"{found.name} has no dictionary {id!r}.", hint)
    return tuple(by_id[id] for id in ids)


def cached() -> tuple[CachedDictionary, ...]:
    """The converted dictionaries in the cache, last used first; broken ones say so."""
    return tuple(cache.entries())


def verify_cache(on_progress: OnProgress = silent) -> tuple[CachedDictionary, ...]:
    """The same after reading every byte of each and comparing it with the hash recorded when it was written."""
    from knowscope_tui.engine.shelf import converted

    found = cache.entries()
    checked = []
    for number, entry in enumerate(found):
        on_progress(f"Reading {entry.name}", number / len(found))
        checked.append(converted.verify(entry))
    return tuple(checked)


def prune_cache(
    *, older_than_days: float | None = None, broken: bool = False, everything: bool = False, dry_run: bool = False
) -> tuple[CachedDictionary, ...]:
    """Removes converted dictionaries that were not used for so many days, broken ones, or all; says which.

    Leftovers of interrupted conversions go with any prune. A dictionary that another process has open stays readable
    for it.
    """
    oldest = -math.inf if older_than_days is None else time.time() - older_than_days * 86_400
    among = verify_cache() if broken else cached()
    chosen = [entry for entry in among if everything or (broken and entry.problem) or entry.used < oldest]
    if not dry_run:
        for file in [*(Path(entry.file) for entry in chosen), *cache.leftovers()]:
            cache.remove(file)
    return tuple(chosen)


class Shelf:
    """Answers requests about published dictionaries (see `protocol`): the handler of the second runner."""

    def handle(self, request: protocol.Request, post: Post, check: Callable[[], None]) -> None:
        """Carries `request` out. Raises `KnowscopeError`, `Cancelled` among them."""
        self._answer(request, post, check)

    @singledispatchmethod
    def _answer(self, request: protocol.Request, post: Post, check: Callable[[], None]) -> None:
        raise UsageError(f"{type(request).__name__} is not about published dictionaries.")

    @_answer.register
    def _(self, request: protocol.ListReleases, post: Post, check: Callable[[], None]) -> None:
        post(
            protocol.ReleasesListed(
                request.revision, releases(request.words, request.model, sae_dtype=request.sae_dtype)
            )
        )

    @_answer.register
    def _(self, request: protocol.ShowRelease, post: Post, check: Callable[[], None]) -> None:
        state, entries = release(request.release, sae_dtype=request.sae_dtype)
        post(protocol.ReleaseShown(request.revision, state, entries))

    @_answer.register
    def _(self, request: protocol.PullDictionaries, post: Post, check: Callable[[], None]) -> None:
        def on_progress(doing: str, fraction: float | None) -> None:
            check()
            post(protocol.Progress(request.revision, doing, fraction))

        pulled = pull(
            request.release,
            request.choice,
            request.ids,
            sae_dtype=request.sae_dtype,
            offline=request.offline,
            on_progress=on_progress,
        )
        post(protocol.DictionariesPulled(request.revision, pulled))
