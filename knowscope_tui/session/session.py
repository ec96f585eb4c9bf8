"""Puts requests to a `Scope` and tells what came of them. Runs on the thread that owns the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import singledispatchmethod

from knowscope_tui.core.memory import MemoryPlan
from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.proof import LeakOptions
from knowscope_tui.core.readings import Rank
from knowscope_tui.core.studies import Findings, StudyName, StudyOptions
from knowscope_tui.errors import UsageError
from knowscope_tui.session import protocol
from knowscope_tui.session.editing import Wishes
from knowscope_tui.session.runner import Post
from knowscope_tui.session.scope import Scope

Check = Callable[[], None]


class Session:
    """The `Handler` of the program: one open model at a time."""

    def __init__(self) -> None:
        self._scope: Scope | None = None

    def handle(self, request: protocol.Request, post: Post, check: Check) -> None:
        """Carries `request` out. Raises `KnowscopeError`, `Cancelled` among them."""
        self._answer(request, post, check)

    @property
    def _open(self) -> Scope:
        if self._scope is None:
            raise UsageError("No model is open.", "Open one first.")
        return self._scope

    @singledispatchmethod
    def _answer(self, request: protocol.Request, post: Post, check: Check) -> None:
        raise UsageError(f"{type(request).__name__} is not something a session can do.")

    @_answer.register
    def _(self, request: protocol.Open, post: Post, check: Check) -> None:
        def planned(plan: MemoryPlan) -> None:
            post(protocol.Planned(request.revision, plan))

        self._scope = Scope.open(request.source, _progress(request, post, check), planned)
        post(protocol.Opened(request.revision, self._scope.info, self._scope.facts))

    @_answer.register
    def _(self, request: protocol.UseDictionaries, post: Post, check: Check) -> None:
        self._open.use(request.dictionaries, request.choice, _progress(request, post, check))
        post(protocol.DictionariesOpened(request.revision, self._open.info))

    @_answer.register
    def _(self, request: protocol.RunSelfTest, post: Post, check: Check) -> None:
        result = self._open.self_test(_progress(request, post, check))
        post(protocol.SelfTested(request.revision, result))

    @_answer.register
    def _(self, request: protocol.Probe, post: Post, check: Check) -> None:
        reading = self._open.probe(
            request.prompt,
            request.answer,
            position=request.position,
            rank=Rank.ATTRIBUTION,
            top=None,
            exact=0,
            on_progress=_progress(request, post, check),
        )
        post(protocol.Probed(request.revision, reading))

    @_answer.register
    def _(self, request: protocol.SweepUnits, post: Post, check: Check) -> None:
        for part in self._open.sweep(
            request.prompt,
            request.answer,
            position=request.position,
            given=request.given,
            neuron_seconds=request.neuron_seconds,
            check=check,
        ):
            post(protocol.Swept(request.revision, part))
            post(protocol.Progress(request.revision, "Measuring exact ΔProb", part.measured / max(part.active, 1)))

    @_answer.register
    def _(self, request: protocol.FindSet, post: Post, check: Check) -> None:
        for found in self._open.smallest_set(
            request.prompt,
            request.answer,
            position=request.position,
            below=request.below,
            most=request.most,
            check=check,
        ):
            post(protocol.SetFound(request.revision, found, found.final))

    @_answer.register
    def _(self, request: protocol.Ablate, post: Post, check: Check) -> None:
        effect = self._open.measure(request.prompt, request.answer, request.ablation, position=request.position)
        post(protocol.AblationMeasured(request.revision, effect, final=not request.continuation))
        if request.continuation:
            check()
            before, after = self._open.continuations(
                request.prompt,
                request.answer,
                request.ablation,
                request.continuation,
                position=request.position,
                check=check,
            )
            whole = replace(effect, continuation_before=before, continuation_after=after)
            post(protocol.AblationMeasured(request.revision, whole, final=True))

    @_answer.register
    def _(self, request: protocol.PlanEdit, post: Post, check: Check) -> None:
        post(protocol.EditPlanned(request.revision, self._open.plan(request.spec)))

    @_answer.register
    def _(self, request: protocol.FindFrontier, post: Post, check: Check) -> None:
        for frontier, final in self._open.frontier(request.spec):
            check()
            post(protocol.FrontierGrown(request.revision, frontier, final))

    @_answer.register
    def _(self, request: protocol.PreviewEdit, post: Post, check: Check) -> None:
        self._edit(request, post, check, dry_run=True)

    @_answer.register
    def _(self, request: protocol.ApplyEdit, post: Post, check: Check) -> None:
        self._edit(request, post, check, dry_run=False)

    def _edit(
        self, request: protocol.PreviewEdit | protocol.ApplyEdit, post: Post, check: Check, *, dry_run: bool
    ) -> None:
        wishes = Wishes(
            neighbors=request.neighbors,
            dry_run=dry_run,
            leaks=LeakOptions() if request.leaks else None,
            on_report=lambda report: post(protocol.EditMeasured(request.revision, report)),
            on_leak=lambda result, number, tests: post(protocol.LeakTested(request.revision, result, number, tests)),
            on_frontier=lambda frontier, final: post(protocol.FrontierGrown(request.revision, frontier, final)),
            on_progress=_progress(request, post, check),
        )
        self._open.carry_out(request.spec, wishes)
        if not dry_run:
            self._tell_journal(request, post)

    @_answer.register
    def _(self, request: protocol.Undo, post: Post, check: Check) -> None:
        self._open.undo()
        self._tell_journal(request, post)

    @_answer.register
    def _(self, request: protocol.Redo, post: Post, check: Check) -> None:
        self._open.redo(request.number)
        self._tell_journal(request, post)

    @_answer.register
    def _(self, request: protocol.SwitchEdit, post: Post, check: Check) -> None:
        self._open.switch(request.number, on=request.on)
        self._tell_journal(request, post)

    def _tell_journal(self, request: protocol.Request, post: Post) -> None:
        post(protocol.JournalChanged(request.revision, self._open.journal))

    @_answer.register
    def _(self, request: protocol.PlanSave, post: Post, check: Check) -> None:
        post(protocol.SavePlanned(request.revision, self._open.plan_save(request.folder, request.options)))

    @_answer.register
    def _(self, request: protocol.Save, post: Post, check: Check) -> None:
        saved = self._open.save(request.folder, request.options, _progress(request, post, check))
        post(protocol.Saved(request.revision, saved))

    @_answer.register
    def _(self, request: protocol.RunStudy, post: Post, check: Check) -> None:
        def growing(name: StudyName, findings: Findings) -> None:
            post(protocol.StudyGrown(request.revision, name, findings))

        report = self._open.study(
            [request.name],
            request.folder,
            options=StudyOptions(request.limit),
            on_progress=_progress(request, post, check),
            on_growing=growing,
        )
        post(protocol.StudyGrown(request.revision, request.name, report.results[0].findings, report.page))


def _progress(request: protocol.Request, post: Post, check: Check) -> OnProgress:
    def on_progress(doing: str, fraction: float | None) -> None:
        check()
        post(protocol.Progress(request.revision, doing, fraction))

    return on_progress
