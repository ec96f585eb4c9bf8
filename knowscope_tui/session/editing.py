"""Edits of an open model: carried out, measured, undone, saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from knowscope_tui.core.as_json import report_json
from knowscope_tui.core.edits import EditPlan, EditReport, EditSpec, SavedCheckpoint
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.demo import corpus
from knowscope_tui.engine import checkpoint, editing, evaluate
from knowscope_tui.engine.journal import Journal
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.errors import EditError
from knowscope_tui.paths import typed_path


class Edits:
    """The journal of one model with the reports of what was applied. `Scope` documents each use case."""

    def __init__(self, lm: LanguageModel, *, is_demo: bool) -> None:
        self._lm = lm
        self._is_demo = is_demo
        self._journal = Journal(lm)
        self._reports: list[EditReport] = []
        self._saved = 0

    def __len__(self) -> int:
        return len(self._journal)

    @property
    def unsaved(self) -> bool:
        return bool(self._journal) and self._saved != len(self._journal)

    def plan(self, library: Library, spec: EditSpec) -> EditPlan:
        plan, _deltas = editing.plan_edit(self._lm, library, spec)
        return plan

    def carry_out(
        self,
        library: Library,
        spec: EditSpec,
        neighbors: Sequence[Fact],
        *,
        dry_run: bool = False,
        on_progress: OnProgress = silent,
    ) -> EditReport:
        """Applies `spec` and measures it; when cancelled or failing, the model is as it was."""
        edited = {(fact.prompt, fact.answer) for fact in spec.facts}
        chosen = tuple(fact for fact in neighbors if (fact.prompt, fact.answer) not in edited)
        texts = corpus.reference_texts()
        on_progress("Planning", None)
        plan, deltas = editing.plan_edit(self._lm, library, spec)
        on_progress("Measuring before", 0.1)
        before = evaluate.take(self._lm, spec.facts, chosen, texts)
        self._journal.apply(deltas)
        try:
            on_progress("Measuring after", 0.5)
            after = evaluate.take(self._lm, spec.facts, chosen, texts)
            report = evaluate.report(plan, before, after, applied=not dry_run)
        except BaseException:
            self._journal.undo()
            raise
        if dry_run:
            self._journal.undo()
        else:
            self._reports.append(report)
        return report

    def undo(self) -> None:
        self._journal.undo()
        self._reports.pop()
        if self._saved > len(self._journal):
            self._saved = -1

    def save(self, folder: str | Path, on_progress: OnProgress) -> SavedCheckpoint:
        """Saves the model as it stands, with a record of its edits. Raises `EditError` or `SaveError`."""
        if not self._journal:
            raise EditError("There is no edit to save.", "Apply one first.")
        record: dict[str, object] = {
            "base_name": self._lm.name,
            "edits": [report_json(report) for report in self._reports],
        }
        if self._lm.chat:
            record["chat"] = True
        base, target = self._lm.source, typed_path(str(folder))
        if not self._is_demo and typed_path(base).is_dir():
            record["base_name"] = str(typed_path(base).absolute())
        saved = checkpoint.save(base, self._journal.total(), record, target, on_progress)
        self._saved = len(self._journal)
        return saved
