"""Facts put into the open model and saved as a new one; the open model stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from knowscope_tui.core.fact_names import FactNames
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.injection import InjectionReport, InjectOptions, report_json
from knowscope_tui.core.kept import split
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.demo import corpus
from knowscope_tui.engine.injecting.learning import Watch, injected
from knowscope_tui.engine.injecting.written import write_model
from knowscope_tui.engine.methods.material import Material
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.saving.folder import check_folder
from knowscope_tui.errors import UsageError
from knowscope_tui.paths import typed_path

REPLAYED_TEXTS = 400


def inject(
    lm: LanguageModel,
    facts: Sequence[Fact],
    folder: Path,
    among: Sequence[Fact],
    options: InjectOptions = InjectOptions(),
    on_progress: OnProgress = silent,
) -> InjectionReport:
    """Saves `lm` with `facts` put in as `folder`; of `among`, which it is to keep, one half is replayed and the other
    is measured on, without those whose prompt is taught. Nothing is saved where the model knows all of `facts` already.

    Raises `SaveError`, `UsageError`, `PromptError`, `DeviceError`, and `EditError` when not all is learned.
    """
    options.check()
    _check(facts)
    source = typed_path(lm.source)
    check_folder(folder, source if source.is_dir() else None)
    taught = {prompt.strip() for fact in facts for prompt in (fact.prompt, *fact.edit_prompts)}
    kept = split(facts, [fact for fact in among if fact.prompt.strip() not in taught], seed=options.seed)
    names = FactNames()
    material = Material(kept.retained, corpus.training_texts()[:REPLAYED_TEXTS])
    watch = Watch(kept.held, corpus.reference_texts())
    with injected(lm, facts, material, watch, options, on_progress) as report:
        report = replace(report, salt=names.salt)
        if not report.steps:
            return report
        report = replace(report, folder=str(folder.absolute()))
        on_progress("Writing the model", None)
        record = {
            "format": 1,
            "base": {"name": source.name if source.is_dir() else lm.name},
            "fingerprint": names.fingerprint(facts),
            "seed": options.seed,
            "min_p": options.min_p,
            **{key: value for key, value in report_json(report, names).items() if key != "folder"},
        }
        write_model(lm, folder, record)
        return report


def _check(facts: Sequence[Fact]) -> None:
    """Raises `UsageError` where two facts ask the same for different answers."""
    told: dict[str, Fact] = {}
    for number, fact in enumerate(facts, start=1):
        for prompt in (fact.prompt, *fact.edit_prompts):
            other = told.setdefault(prompt.strip(), fact)
            if other.answer.strip() != fact.answer.strip():
                name = fact.id or f"number {number}"
                raise UsageError(
                    f"Fact {name} gives a prompt another answer than {other.id or 'one before it'}.",
                    "Leave one of them out.",
                )
