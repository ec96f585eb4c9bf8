"""Edits of an open model: carried out, measured, switched, undone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from knowscope_tui.core.edits import EditPlan, EditSpec, Frontier, JournalEntry, JournalState, Method
from knowscope_tui.core.fact_names import FactNames
from knowscope_tui.core.facts import Fact, distinct
from knowscope_tui.core.kept import Kept, Told, kept_by_all, split
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.proof import Control, EditReport, LeakOptions, LeakResult, Proof
from knowscope_tui.core.units import Family, Site, Unit
from knowscope_tui.demo import corpus
from knowscope_tui.engine.deltas import files as delta_files
from knowscope_tui.engine.deltas.change import Change, SparseChange
from knowscope_tui.engine.dictionary import Dictionary
from knowscope_tui.engine.fingerprint import dictionary_fingerprint
from knowscope_tui.engine.journal import Entry, Journal
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.methods.material import Material
from knowscope_tui.engine.methods.plan import ZEROING, Planned, frontier, outline, plan_edit
from knowscope_tui.engine.methods.zeroing import random_like
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.proof import evaluate
from knowscope_tui.engine.proof.leaks import LeakBaseline, leak_tests
from knowscope_tui.errors import UsageError
from knowscope_tui.session.diary import Diary

RETAINED_TEXTS = 1000
"""General sentences that an edit is told to keep; ΔPPL is measured on others."""


@dataclass(frozen=True)
class Wishes:
    """What is to be done with an edit beside making it, and who hears of it."""

    neighbors: tuple[Fact, ...] | None = None
    """Facts that locality is measured on; None is those of `among` that the edit is not told to keep."""
    dry_run: bool = False
    control: bool = False
    leaks: LeakOptions | None = None
    on_report: Callable[[EditReport], None] = lambda report: None
    """Hears of the report before the leak tests begin."""
    on_leak: Callable[[LeakResult, int, int], None] = lambda result, number, tests: None
    on_frontier: Callable[[Frontier, bool], None] = lambda frontier, final: None
    on_progress: OnProgress = silent


@dataclass(frozen=True)
class DictionaryUsed:
    """A dictionary whose features an edit was made from."""

    site: Site
    source: str
    """Release and id, or of a folder the end of its path: where it lies is its owner's affair."""
    release: str | None
    """None for one from a folder."""
    features: int
    fingerprint: str
    """Of its biases and thresholds, see `engine.fingerprint`."""


@dataclass(frozen=True)
class Applied:
    """An edit of the journal, with what it was made from; no report for one that came from a delta file."""

    facts: tuple[Fact, ...]
    names: tuple[str, ...]
    method: str
    report: EditReport | None = None
    wishes: Wishes = Wishes()
    source: str = ""
    dictionaries: tuple[DictionaryUsed, ...] = ()


class Edits:
    """The journal of one model with the reports of what was applied. `Scope` documents each use case."""

    def __init__(self, lm: LanguageModel, among: Sequence[Fact]) -> None:
        self._lm = lm
        self._among = tuple(among)
        self._journal = Journal(lm)
        self._applied: dict[int, Applied] = {}
        self._saved: tuple[int, ...] = ()
        self.names = FactNames()
        self._diary = Diary()

    def __len__(self) -> int:
        return len(self._journal)

    @property
    def unsaved(self) -> bool:
        return bool(self._in_force()) and self._in_force() != self._saved

    @property
    def state(self) -> JournalState:
        """The journal as a face shows it."""
        return JournalState(
            tuple(self._entry(entry) for entry in self._journal),
            tuple(self._entry(entry) for entry in self._journal.undone),
            self.unsaved,
        )

    @property
    def applied(self) -> list[tuple[int, Applied]]:
        """The edits that are on, by number, in order."""
        return [(number, self._applied[number]) for number in self._in_force()]

    @property
    def facts(self) -> tuple[Fact, ...]:
        """What the edits that are on were made for, each fact once."""
        return distinct(fact for _number, one in self.applied for fact in one.facts)

    @property
    def told(self) -> list[Told]:
        """What each of the edits that are on was told to keep; an edit from a delta file does not say."""
        specs = [one.report.plan.spec for _number, one in self.applied if one.report]
        return [Told(spec.retain, spec.seed) for spec in specs]

    def total(self) -> list[Change]:
        """All edits that are on as one."""
        on = [entry for entry in self._journal if entry.on]
        return list(on[0].changes) if len(on) == 1 else list(self._journal.total())

    def mark_saved(self) -> None:
        self._saved = self._in_force()
        self._diary.note("saved", {"edits": list(self._saved)})

    def _note(self, what: str, number: int) -> None:
        applied = self._applied[number]
        self._diary.note(what, {"edit": number, "method": applied.method, "facts": list(applied.names)})

    def _in_force(self) -> tuple[int, ...]:
        return tuple(entry.number for entry in self._journal if entry.on)

    def _entry(self, entry: Entry) -> JournalEntry:
        applied = self._applied[entry.number]
        measured = applied.report.proof.after.reliability.value if applied.report else None
        return JournalEntry(
            entry.number,
            applied.method,
            applied.names,
            sum(change.positions for change in entry.changes),
            entry.on,
            measured,
            applied.source,
        )

    # --- planning and carrying out ----------------------------------------------------------------------------------

    def plan(self, library: Library, spec: EditSpec) -> EditPlan:
        return outline(self._lm, library, spec, self._rivals())

    def frontier(self, library: Library, spec: EditSpec) -> Iterator[tuple[Frontier, bool]]:
        return frontier(self._lm, library, spec, self._material(self._split(spec, Wishes())))

    def carry_out(self, library: Library, spec: EditSpec, wishes: Wishes) -> EditReport:
        """Applies `spec` and measures it; when cancelled or failing, the model is as it was."""
        spec = replace(spec, facts=distinct(spec.facts))
        kept = self._split(spec, wishes)
        planned = self._planned(library, spec, kept, wishes)
        tell = wishes.on_progress
        tell("Measuring before", None)
        before = self._snapshot(spec.facts, kept)
        baseline = None
        if wishes.leaks is not None:
            baseline = LeakBaseline.take(self._lm, spec.facts, kept.held, wishes.leaks, tell)
        control = self._control(library, spec, planned, kept, before, wishes)
        number = self._journal.apply(planned.changes)
        try:
            tell("Measuring after", None)
            proof = evaluate.prove(before, self._snapshot(spec.facts, kept))
            proof = replace(proof, control=control)
            report = EditReport(planned.plan, proof, applied=not wishes.dry_run)
            wishes.on_report(report)
            if baseline is not None:
                report = replace(report, proof=replace(proof, leaks=self._leaks(baseline, wishes)))
        except BaseException:
            self._journal.forget(number)
            raise
        if wishes.dry_run:
            self._journal.forget(number)
            return report
        report = replace(report, number=number)
        names = tuple(self.names.name(fact) for fact in spec.facts)
        used = _used(library, planned.plan.units)
        self._applied[number] = Applied(spec.facts, names, spec.method.value, report, wishes, dictionaries=used)
        self._note("applied", number)
        return report

    def apply_delta(self, file: Path) -> int:
        """Applies a delta file to the open model; its number in the journal. Raises `SaveError` or `EditError`."""
        delta = delta_files.read(file)
        changes = delta_files.for_model(self._lm.model, delta)
        number = self._journal.apply(changes)
        about = delta.about
        names = tuple(map(str, about.get("facts", ())))
        self._applied[number] = Applied((), names, str(about.get("method", "unknown")), source=file.name)
        self._note("applied", number)
        return number

    def prove_all(self, wishes: Wishes) -> Proof:
        """What all edits that are on do together, against the base."""
        numbers, facts = self._in_force(), self.facts
        only = self._applied[numbers[0]].report if len(numbers) == 1 else None
        if only is not None and only.number == 1:
            return only.proof
        kept = kept_by_all(facts, self._among, self.told, wishes.neighbors)
        after = self._snapshot(facts, kept)
        baseline = None
        try:
            for number in reversed(numbers):
                self._journal.switch(number, on=False)
            before = self._snapshot(facts, kept)
            if wishes.leaks is not None:
                baseline = LeakBaseline.take(self._lm, facts, kept.held, wishes.leaks, wishes.on_progress)
        finally:
            for number in numbers:
                if number not in self._in_force():
                    self._journal.switch(number, on=True)
        proof = evaluate.prove(before, after)
        return proof if baseline is None else replace(proof, leaks=self._leaks(baseline, wishes))

    # --- the way back -----------------------------------------------------------------------------------------------

    def undo(self) -> int:
        number = self._journal.undo()
        self._note("undone", number)
        return number

    def redo(self, number: int | None = None) -> int:
        brought = self._journal.redo(number)
        self._note("redone", brought)
        return brought

    def switch(self, number: int, *, on: bool) -> None:
        self._journal.switch(number, on=on)
        self._note("switched on" if on else "switched off", number)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _rivals(self) -> list[tuple[int, tuple[Fact, ...]]]:
        return [(number, applied.facts) for number, applied in self.applied]

    def _split(self, spec: EditSpec, wishes: Wishes) -> Kept:
        kept = split(spec.facts, self._among, retain=spec.retain, neighbors=wishes.neighbors, seed=spec.seed)
        if spec.retain and not kept.retained:
            raise UsageError(
                "Every fact that the edit is told to keep is edited, or judges it.", "Name others with --retain."
            )
        return kept

    def _material(self, kept: Kept) -> Material:
        return Material(kept.retained, corpus.training_texts()[:RETAINED_TEXTS])

    def _planned(self, library: Library, spec: EditSpec, kept: Kept, wishes: Wishes) -> Planned:
        return plan_edit(
            self._lm,
            library,
            spec,
            self._material(kept),
            self._rivals(),
            on_frontier=wishes.on_frontier,
            on_progress=wishes.on_progress,
        )

    def _snapshot(self, facts: Sequence[Fact], kept: Kept) -> evaluate.Snapshot:
        return evaluate.take(self._lm, facts, kept.held, corpus.reference_texts(), kept.retained)

    def _control(
        self,
        library: Library,
        spec: EditSpec,
        planned: Planned,
        kept: Kept,
        before: evaluate.Snapshot,
        wishes: Wishes,
    ) -> Control | None:
        """The random control of `spec`, applied, measured and taken back; None for a method that has none."""
        if not wishes.control:
            return None
        tell = wishes.on_progress
        start = time.perf_counter()
        if spec.method is Method.REFINED:
            twin = replace(spec, method=Method.REFINED_RANDOM)
            changes = plan_edit(self._lm, library, twin, self._material(kept), on_progress=tell).changes
        elif spec.method in ZEROING and spec.method is not Method.RANDOM:
            sparse = [change for change in planned.changes if isinstance(change, SparseChange)]
            changes = list(random_like(self._lm, sparse, spec.seed))
        else:
            return None
        tell("Measuring the random control", None)
        number = self._journal.apply(changes)
        try:
            scores = evaluate.scores(before, self._snapshot(spec.facts, kept))
        finally:
            self._journal.forget(number)
        name = Method.REFINED_RANDOM if spec.method is Method.REFINED else Method.RANDOM
        positions = sum(change.positions for change in changes)
        return Control(name.value, positions, scores, time.perf_counter() - start)

    def _leaks(self, baseline: LeakBaseline, wishes: Wishes) -> tuple[LeakResult, ...]:
        found: list[LeakResult] = []
        tests = leak_tests(self._lm, baseline, wishes.on_progress)
        for result in tests:
            found.append(result)
            wishes.on_leak(result, len(found), LeakBaseline.TESTS)
        return tuple(found)


def _used(library: Library, units: Sequence[Unit]) -> tuple[DictionaryUsed, ...]:
    """The dictionaries that features among `units` belong to."""
    sites = sorted({unit.site for unit in units if unit.family is Family.FEATURE})
    return tuple(_in_use(library.at(site)) for site in sites)


def _in_use(dictionary: Dictionary) -> DictionaryUsed:
    source, folder = dictionary.source, Path(dictionary.source)
    release: str | None = source.partition("/")[0]
    if folder.is_absolute() or folder.exists():
        source, release = "/".join(folder.absolute().parts[-2:]), None
    return DictionaryUsed(dictionary.site, source, release, dictionary.d_sae, dictionary_fingerprint(dictionary))
