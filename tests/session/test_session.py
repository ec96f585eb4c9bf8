"""The session: which events each request causes, and what stays as it was when one is stopped or fails."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from knowscope_tui.core.dictionaries import DictionarySource
from knowscope_tui.core.edits import EditSpec, Method
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.proof import LeakTest
from knowscope_tui.core.readings import Ablation, Rank
from knowscope_tui.core.studies import StudyName
from knowscope_tui.core.units import Family, SiteKind, Unit
from knowscope_tui.errors import Cancelled, EditError, UsageError
from knowscope_tui.session import protocol
from knowscope_tui.session.protocol import Event, Request, SourceSpec
from knowscope_tui.session.runner import Runner
from knowscope_tui.session.session import Session
from tests.tiny import bits, hook_count

E = TypeVar("E", bound=Event)


def never() -> None:
    """A check that stops nothing."""


def put(session: Session, request: Request, check: Callable[[], None] = never) -> list[Event]:
    """The events that `request` causes."""
    events: list[Event] = []
    session.handle(request, events.append, check)
    assert {event.revision for event in events} <= {request.revision}
    return events


def only(events: list[Event], kind: type[E]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


def results(events: list[Event]) -> list[Event]:
    """Everything but progress."""
    return [event for event in events if not isinstance(event, protocol.Progress)]


@pytest.fixture(scope="module")
def source(tiny_folder: Path, sources: dict[SiteKind, Path]) -> SourceSpec:
    named = tuple(DictionarySource(str(folder), kind) for kind, folder in sources.items())
    return SourceSpec(str(tiny_folder), named, device="cpu")


@pytest.fixture(scope="module")
def opened(source: SourceSpec) -> Session:
    session = Session()
    put(session, protocol.Open(1, source))
    return session


@pytest.fixture
def session(opened: Session) -> Iterator[Session]:
    """An open session; checked afterwards to have no edit, no hook and every bit as before."""
    model = opened._open._lm.model
    before = bits(model)
    yield opened
    while opened._open.edits:
        put(opened, protocol.Undo(999))
    assert bits(model) == before
    assert hook_count(model) == 0


def test_opening_tells_what_is_open(source: SourceSpec) -> None:
    events = put(Session(), protocol.Open(7, source))
    planned, opened = results(events)
    assert isinstance(planned, protocol.Planned)
    assert isinstance(opened, protocol.Opened)
    assert opened.revision == 7
    assert opened.info.name == source.model
    assert opened.info.plan == planned.plan
    assert [event.doing for event in only(events, protocol.Progress)] == [
        "Finding the model",
        "Planning",
        "Loading the model",
        "Loading the dictionaries",
    ]


def test_probing_tells_every_active_feature_by_attribution(session: Session, facts: list[Fact]) -> None:
    (probed,) = results(put(session, protocol.Probe(3, facts[0].prompt)))
    assert isinstance(probed, protocol.Probed)
    reading = probed.reading
    assert reading.answer == facts[0].answer
    assert reading.ranked_by is Rank.ATTRIBUTION
    features = [row for row in reading.units if row.unit.family is Family.FEATURE]
    assert len(features) == sum(site.active for site in reading.sites if site.family is Family.FEATURE)
    assert all(row.delta_prob is None for row in reading.units)


def sweep_of(fact: Fact, given: Ablation = Ablation(), neuron_seconds: float = 60.0) -> protocol.SweepUnits:
    return protocol.SweepUnits(1, fact.prompt, fact.answer, given=given, neuron_seconds=neuron_seconds)


def test_a_sweep_measures_every_active_unit(session: Session, facts: list[Fact]) -> None:
    (probed,) = only(put(session, protocol.Probe(3, facts[0].prompt)), protocol.Probed)
    events = put(session, sweep_of(facts[0]))
    parts = [event.part for event in only(events, protocol.Swept)]
    found = {effect.unit: effect for part in parts for effect in part.effects}
    assert parts[-1].measured == parts[-1].active == len(found)
    assert len(found) == sum(site.active for site in probed.reading.sites)
    assert only(events, protocol.Progress)[-1].fraction == 1.0
    strongest = max(found.values(), key=lambda effect: effect.delta_prob)
    measured = put(
        session, protocol.Ablate(4, facts[0].prompt, facts[0].answer, Ablation((strongest.unit,)), continuation=0)
    )
    (effect,) = [event.effect for event in only(measured, protocol.AblationMeasured)]
    assert strongest.p_after == pytest.approx(effect.p_after, abs=1e-5)
    assert strongest.delta_prob == pytest.approx(effect.delta_prob, abs=1e-4)


def test_a_sweep_without_time_for_neurons_measures_features(session: Session, facts: list[Fact]) -> None:
    parts = [event.part for event in only(put(session, sweep_of(facts[1], neuron_seconds=0)), protocol.Swept)]
    assert {effect.unit.family for part in parts for effect in part.effects} == {Family.FEATURE}
    assert parts[-1].measured < parts[-1].active


def test_a_sweep_beside_what_is_off_is_relative_to_that(session: Session, facts: list[Fact]) -> None:
    given = Ablation((Unit.neuron(1, 3), Unit.neuron(1, 9)))
    parts = [event.part for event in only(put(session, sweep_of(facts[0], given, 0)), protocol.Swept)]
    alone = put(session, protocol.Ablate(4, facts[0].prompt, facts[0].answer, given, continuation=0))
    (effect,) = [event.effect for event in only(alone, protocol.AblationMeasured)]
    assert {part.given for part in parts} == {given}
    assert parts[-1].p_before == pytest.approx(effect.p_after, abs=1e-6)
    one = [effect for part in parts for effect in part.effects][-1]
    assert one.delta_prob == pytest.approx((effect.p_after - one.p_after) / effect.p_after, abs=1e-4)


@pytest.mark.parametrize("unit", [Unit.feature(1, SiteKind.RESID_POST, 99_999), Unit.neuron(1, 99_999)])
def test_a_sweep_beside_a_unit_that_does_not_exist_is_refused(session: Session, facts: list[Fact], unit: Unit) -> None:
    with pytest.raises(UsageError, match=r"There is no (feature|neuron) 99999"):
        put(session, sweep_of(facts[0], Ablation((unit,))))


def test_the_smallest_set_is_told_step_by_step(session: Session, facts: list[Fact]) -> None:
    request = protocol.FindSet(5, facts[0].prompt, facts[0].answer, below=0.05)
    told = only(put(session, request), protocol.SetFound)
    assert [event.final for event in told] == [False] * (len(told) - 1) + [True]
    assert [len(event.found.steps) for event in told[:-1]][:2] == [1, 2][: len(told) - 1]
    found = told[-1].found
    off = put(session, protocol.Ablate(6, facts[0].prompt, facts[0].answer, Ablation(found.units), continuation=0))
    (effect,) = [event.effect for event in only(off, protocol.AblationMeasured)]
    assert found.p_after == pytest.approx(effect.p_after, abs=1e-5)
    assert found.reached == (effect.p_after <= 0.05)


def test_ablating_tells_the_effect_at_once_and_the_continuations_after(session: Session, facts: list[Fact]) -> None:
    ablation = Ablation((Unit.neuron(0, 1),))
    first, second = results(put(session, protocol.Ablate(4, facts[0].prompt, facts[0].answer, ablation)))
    assert isinstance(first, protocol.AblationMeasured)
    assert isinstance(second, protocol.AblationMeasured)
    assert (first.final, second.final) == (False, True)
    assert first.effect.continuation_before == ""
    assert second.effect.continuation_before.strip().startswith(facts[0].answer)
    assert first.effect.p_after == second.effect.p_after
    bare = put(session, protocol.Ablate(5, facts[0].prompt, facts[0].answer, ablation, continuation=0))
    assert [event.final for event in only(bare, protocol.AblationMeasured)] == [True]


def test_planning_previewing_applying_and_undoing(session: Session, facts: list[Fact]) -> None:
    spec = EditSpec((facts[0],), top=3)
    (planned,) = results(put(session, protocol.PlanEdit(1, spec)))
    assert isinstance(planned, protocol.EditPlanned)
    (previewed,) = results(put(session, protocol.PreviewEdit(2, spec, neighbors=tuple(facts))))
    assert isinstance(previewed, protocol.EditMeasured)
    assert previewed.report.applied is False
    assert session._open.journal.entries == ()
    applied, journal = results(put(session, protocol.ApplyEdit(3, spec, neighbors=tuple(facts))))
    assert isinstance(applied, protocol.EditMeasured)
    assert isinstance(journal, protocol.JournalChanged)
    assert (applied.report.applied, journal.journal.on, journal.journal.unsaved) == (True, 1, True)
    plans = [replace(plan, seconds=0.0) for plan in (planned.plan, previewed.report.plan, applied.report.plan)]
    assert plans[0] == plans[1] == plans[2]
    assert previewed.report.proof == applied.report.proof
    (undone,) = results(put(session, protocol.Undo(4)))
    assert isinstance(undone, protocol.JournalChanged)
    assert (undone.journal.on, undone.journal.unsaved, len(undone.journal.undone)) == (0, False, 1)
    (redone,) = results(put(session, protocol.Redo(5)))
    assert isinstance(redone, protocol.JournalChanged)
    assert (redone.journal.on, redone.journal.undone) == (1, ())
    (off,) = results(put(session, protocol.SwitchEdit(6, 1, on=False)))
    assert isinstance(off, protocol.JournalChanged)
    assert (off.journal.on, len(off.journal.entries)) == (0, 1)


def test_leak_tests_come_one_by_one_behind_the_figures(session: Session, facts: list[Fact]) -> None:
    spec = EditSpec((facts[0],), top=3)
    measured, *leaks = results(put(session, protocol.PreviewEdit(1, spec, neighbors=tuple(facts), leaks=True)))
    assert isinstance(measured, protocol.EditMeasured)
    assert [leak.number for leak in leaks if isinstance(leak, protocol.LeakTested)] == [*range(1, len(leaks) + 1)]
    assert {leak.result.test for leak in leaks if isinstance(leak, protocol.LeakTested)} == set(LeakTest)


def test_saving_tells_where(session: Session, facts: list[Fact], tmp_path: Path) -> None:
    put(session, protocol.ApplyEdit(1, EditSpec((facts[0],), Method.NEURONS, top=1), neighbors=()))
    events = put(session, protocol.Save(2, str(tmp_path / "edited")))
    (saved,) = results(events)
    assert isinstance(saved, protocol.Saved)
    assert Path(saved.checkpoint.folder) == tmp_path / "edited"
    assert (tmp_path / "edited" / "knowscope_edit.json").is_file()
    (undone,) = results(put(session, protocol.Undo(3)))
    assert isinstance(undone, protocol.JournalChanged)


# --- stopping -------------------------------------------------------------------------------------------------------


def stop_at(call: int) -> Callable[[], None]:
    """A check that stops the work when it is called for the `call`th time."""
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise Cancelled

    return check


@pytest.mark.parametrize("call", [1, 2, 9])
def test_a_sweep_stopped_on_the_way_leaves_no_hook_and_goes_on_where_it_was(
    session: Session, facts: list[Fact], call: int
) -> None:
    whole = only(put(session, sweep_of(facts[2])), protocol.Swept)[-1].part
    session._open._looking.forget()
    events: list[Event] = []
    with pytest.raises(Cancelled):
        session.handle(sweep_of(facts[2]), events.append, stop_at(call))
    assert hook_count(session._open._lm.model) == 0
    known = len(session._open._looking.look(facts[2].prompt, facts[2].answer).measured())
    assert known < whole.active
    parts = [event.part for event in only(put(session, sweep_of(facts[2])), protocol.Swept)]
    found = [effect.unit for part in parts for effect in part.effects]
    assert len(found) == len(set(found)) == whole.active


@pytest.mark.parametrize("call", [1, 2, 3])
def test_an_edit_stopped_on_the_way_is_not_there(session: Session, facts: list[Fact], call: int) -> None:
    before = bits(session._open._lm.model)
    request = protocol.ApplyEdit(1, EditSpec((facts[0],)), neighbors=tuple(facts))
    events: list[Event] = []
    with pytest.raises(Cancelled):
        session.handle(request, events.append, stop_at(call))
    assert results(events) == []
    assert bits(session._open._lm.model) == before
    assert session._open.edits == 0


def test_a_save_stopped_on_the_way_leaves_nothing(session: Session, facts: list[Fact], tmp_path: Path) -> None:
    put(session, protocol.ApplyEdit(1, EditSpec((facts[0],)), neighbors=()))
    with pytest.raises(Cancelled):
        session.handle(protocol.Save(2, str(tmp_path / "edited")), lambda event: None, stop_at(2))
    assert list(tmp_path.iterdir()) == []
    assert session._open.unsaved


def test_a_stopped_ablation_has_told_its_effect(session: Session, facts: list[Fact]) -> None:
    events: list[Event] = []
    request = protocol.Ablate(1, facts[0].prompt, facts[0].answer, Ablation((Unit.neuron(0, 1),)))
    with pytest.raises(Cancelled):
        session.handle(request, events.append, stop_at(1))
    assert [event.final for event in only(events, protocol.AblationMeasured)] == [False]


# --- failing --------------------------------------------------------------------------------------------------------


def test_nothing_can_be_asked_before_a_model_is_open(facts: list[Fact]) -> None:
    with pytest.raises(UsageError, match="No model is open"):
        put(Session(), protocol.Probe(1, facts[0].prompt))


def test_a_failed_opening_keeps_what_was_open(session: Session, tmp_path: Path, facts: list[Fact]) -> None:
    from knowscope_tui.errors import ModelNotLoaded

    with pytest.raises(ModelNotLoaded):
        put(session, protocol.Open(1, SourceSpec(str(tmp_path))))
    assert only(put(session, protocol.Probe(2, facts[0].prompt)), protocol.Probed)


def test_a_request_that_no_session_knows_is_refused(session: Session) -> None:
    with pytest.raises(UsageError, match="Request is not something a session can do"):
        put(session, Request(1))


def test_undo_without_an_edit_is_an_error_and_no_event(session: Session) -> None:
    events: list[Event] = []
    with pytest.raises(EditError, match="no edit to undo"):
        session.handle(protocol.Undo(1), events.append, never)
    assert events == []


def test_through_the_runner_every_request_ends_in_exactly_one_way(source: SourceSpec, facts: list[Fact]) -> None:
    """Finished after success, Failed with sentence and hint after an error; the thread goes on."""
    heard: queue.Queue[Event] = queue.Queue()
    runner = Runner(Session, heard.put)
    runner.start()
    bad = protocol.Ablate(2, facts[0].prompt, facts[0].answer, Ablation((Unit.neuron(99, 1),)))
    good = protocol.Probe(4, facts[0].prompt)
    for request in (protocol.Open(1, source), bad, protocol.Probe(3, "  "), good):
        runner.submit(request)
        ended: list[Event] = []
        while not ended:
            event = heard.get(timeout=60)
            if isinstance(event, protocol.Finished | protocol.Failed | protocol.Stopped):
                ended.append(event)
        assert ended[0].revision == request.revision
        if request.revision in (1, 4):
            assert isinstance(ended[0], protocol.Finished)
        else:
            assert isinstance(ended[0], protocol.Failed)
            expected = "There is no layer 99." if request is bad else "The prompt is empty."
            assert ended[0].what == expected
            assert ended[0].hint
            assert ended[0].request == request
    runner.close()
    assert heard.empty()


def test_a_study_of_a_model_without_facts_says_so(session: Session, tmp_path: Path) -> None:
    request = protocol.RunStudy(1, StudyName.LADDER, str(tmp_path / "ladder"), 5)
    with pytest.raises(UsageError, match="no facts to study"):
        session.handle(request, lambda event: None, lambda: None)
    assert not (tmp_path / "ladder").exists()
