"""The injected model that facts are erased from: a copy of the subject's, made once and kept in the run's cache."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from knowscope_tui.core.fact_names import FactNames
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.injection import INJECTION, InjectOptions, report_json
from knowscope_tui.core.kept import Kept, split
from knowscope_tui.core.private_facts import RELATIONS, make_private
from knowscope_tui.core.progress import OnProgress
from knowscope_tui.engine.injecting.learning import Watch, injected
from knowscope_tui.engine.injecting.written import write_model
from knowscope_tui.engine.loading import load_model
from knowscope_tui.engine.methods.material import Material
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.errors import UsageError
from knowscope_tui.studies.study import Subject

ERASED = 20
"""Facts that are erased, at most; as many again are injected beside them."""

FOLDER = "injected"

STEPS = 200


@dataclass(frozen=True)
class Ground:
    """What facts are erased from and judged by."""

    lm: LanguageModel
    kept: Kept
    """Facts that the model knows and an edit is to leave: those it is shown, and those that judge it."""
    seen_texts: tuple[str, ...]
    judging_texts: tuple[str, ...]


def private_facts(subject: Subject) -> list[Fact]:
    """Everything that is injected."""
    people = -(-2 * _erased(subject) // len(RELATIONS))
    return make_private(max(people, 2), subject.options.seed)


def erased_facts(subject: Subject) -> list[Fact]:
    """Those of the injected facts that are erased: every second one, so that each has siblings that stay."""
    return private_facts(subject)[::2][: _erased(subject)]


def _erased(subject: Subject) -> int:
    return min(ERASED, subject.options.limit or ERASED)


def ground(subject: Subject, on_progress: OnProgress) -> Ground:
    """The injected model, from the cache where it is there, with what judges an edit of it."""
    folder = subject.cache / FOLDER
    if not (folder / INJECTION).is_file():
        _inject(subject, on_progress)
    lm = load_model(str(folder), device=str(subject.lm.device), dtype=str(subject.lm.dtype).removeprefix("torch."))
    erased = erased_facts(subject)
    others = [fact for fact in private_facts(subject) if fact not in set(erased)]
    kept = split(erased, [*others, *subject.facts], seed=subject.options.seed)
    return Ground(lm, kept, subject.texts[::2], subject.texts[1::2])


def _inject(subject: Subject, on_progress: OnProgress) -> None:
    """Writes the injected model into the cache; the subject's own has its bits again afterwards."""
    if len(subject.texts) < 4:
        raise UsageError("There is no text to hold still while facts are injected.", "Study a model with texts.")
    facts = private_facts(subject)
    material = Material(_all_but_every(5, subject.facts), subject.texts[::2])
    watch = Watch(subject.facts[::5], subject.texts[1::2])
    options = InjectOptions(max_steps=STEPS, keep_anyway=True, seed=subject.options.seed)
    with injected(subject.lm, facts, material, watch, options, on_progress) as report:
        write_model(subject.lm, subject.cache / FOLDER, report_json(report, FactNames()))


def _all_but_every(step: int, facts: Sequence[Fact]) -> tuple[Fact, ...]:
    return tuple(fact for number, fact in enumerate(facts) if number % step)


def injection_of(subject: Subject) -> dict[str, Any]:
    """What the injection came to."""
    found: dict[str, Any] = json.loads((subject.cache / FOLDER / INJECTION).read_text(encoding="utf-8"))
    return found
