"""Requests about published dictionaries. They touch no model, and go to a thread of their own (`session.shelf`)."""

from __future__ import annotations

from dataclasses import dataclass

from knowscope_tui.core.dictionaries import Choice
from knowscope_tui.session.protocol.requests import Request


@dataclass(frozen=True)
class ListReleases(Request):
    """Look releases up: those for the model `model` (all when None) whose name holds every word of `words`. Answered
    by `ReleasesListed`."""

    words: str = ""
    model: str | None = None
    sae_dtype: str = "bfloat16"

    @property
    def replaceable(self) -> bool:
        return True


@dataclass(frozen=True)
class ShowRelease(Request):
    """Say what a release holds. Answered by `ReleaseShown`."""

    release: str
    sae_dtype: str = "bfloat16"

    @property
    def replaceable(self) -> bool:
        return True


@dataclass(frozen=True)
class PullDictionaries(Request):
    """Download and convert dictionaries of a release: those that `choice` names, or those of `ids`. Answered by
    `DictionariesPulled`; a pull that was cut short goes on where it was."""

    release: str
    choice: Choice = Choice()
    ids: tuple[str, ...] = ()
    sae_dtype: str = "bfloat16"
    offline: bool = False
