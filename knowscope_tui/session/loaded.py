"""From what a person named to a model with its dictionaries, on this machine or as a replica on another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.memory import MemoryPlan
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.studies import StudyOptions
from knowscope_tui.demo import corpus
from knowscope_tui.engine.library import Library, Wanted, load_library
from knowscope_tui.engine.loading import load_model
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.residency import EncoderPool
from knowscope_tui.session.opening import DEMO, Prepared, encoder_budget_each, prepare
from knowscope_tui.session.protocol import SourceSpec
from knowscope_tui.studies.study import Subject


def unplanned(_plan: MemoryPlan) -> None:
    """A plan that nobody reads."""


@dataclass(frozen=True)
class Loaded:
    """A model, the dictionaries beside it, and how both were placed."""

    lm: LanguageModel
    library: Library
    prepared: Prepared


def load(
    source: SourceSpec, on_progress: OnProgress = silent, on_plan: Callable[[MemoryPlan], None] = unplanned
) -> Loaded:
    """Loads what `source` names; `on_plan` hears what goes where before anything is loaded.

    Raises `ModelNotLoaded`, `DictionaryError`, `DeviceError`, `HubError` or `DoesNotFit`.
    """
    prepared = prepare(source, on_progress)
    on_plan(prepared.plan)
    prepared.check()
    lm = load_model(
        prepared.files,
        device=str(prepared.device),
        dtype=source.dtype,
        name=DEMO if prepared.is_demo else None,
        chat=source.chat,
        offline=source.offline,
        spread=prepared.spread,
        on_progress=on_progress,
    )
    on_progress("Loading the dictionaries", None)
    return Loaded(lm, load_dictionaries(lm, prepared.wanted, prepared, on_progress), prepared)


def load_dictionaries(lm: LanguageModel, chosen: Wanted, prepared: Prepared, on_progress: OnProgress) -> Library:
    """The dictionaries `chosen` beside `lm`, their encoders where `prepared` has room for them."""
    return load_library(
        lm,
        chosen.folders,
        chosen.entries,
        sae_dtype=prepared.source.sae_dtype,
        offline=prepared.source.offline,
        pool=EncoderPool(encoder_budget_each(prepared)),
        on_progress=on_progress,
    )


def subject_of(
    lm: LanguageModel, library: Library, facts: tuple[Fact, ...], options: StudyOptions, cache: Path
) -> Subject:
    """What is studied of an open model."""
    return Subject(lm, library, facts, corpus.reference_texts(), options, cache)


def open_subject(source: SourceSpec, facts: tuple[Fact, ...], options: StudyOptions, cache: Path) -> Subject:
    """The same of what `source` names, opened anew, as a worker elsewhere does."""
    opened = load(source)
    return subject_of(opened.lm, opened.library, facts, options, cache)
