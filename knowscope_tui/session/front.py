"""The Python API's front door: a model by the words that the command line uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from knowscope_tui.core.dictionaries import Choice, DictionarySource
from knowscope_tui.core.memory import MemoryPlan
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.units import SiteKind
from knowscope_tui.session.opening import prepare
from knowscope_tui.session.protocol import SourceSpec
from knowscope_tui.session.scope import Scope


def plan_for(source: SourceSpec, on_progress: OnProgress = silent) -> MemoryPlan:
    """What opening `source` would take and where it would go; nothing but configurations is fetched or read."""
    return prepare(source, on_progress).plan


def open_scope(
    model: str | None = None,
    *,
    sae: Mapping[str, str | Path] | Sequence[str] | None = None,
    width: int | None = None,
    l0: float | None = None,
    layers: tuple[int, int] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    sae_dtype: str = "bfloat16",
    sae_memory: int | None = None,
    chat: bool = False,
    offline: bool = False,
) -> Scope:
    """Opens a model: the embedded demo, or `model`, a folder or a hub name with or without @revision.

    `sae` names dictionaries: releases, or site → folder. None is the model's usual set, () none at all. `width`, `l0`
    and `layers` choose among those of a release. `offline` holds for the whole process. Raises what `Scope.open`
    raises.
    """
    named: tuple[DictionarySource, ...] | None = None
    if isinstance(sae, Mapping):
        named = tuple(DictionarySource(str(folder), SiteKind.parse(kind)) for kind, folder in sae.items())
    elif sae is not None:
        named = tuple(DictionarySource.parse(text) for text in sae)
    choice = Choice(width, l0, layers)
    return Scope.open(SourceSpec(model, named, choice, device, dtype, sae_dtype, sae_memory, chat, offline))
