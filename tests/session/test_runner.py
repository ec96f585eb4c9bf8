"""The runner: order, replacement, cancelling, and faults."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

import pytest

from knowscope_tui.core.edits import EditSpec
from knowscope_tui.core.facts import Fact
from knowscope_tui.errors import PromptError
from knowscope_tui.session.protocol import (
    ApplyEdit,
    Event,
    Failed,
    Finished,
    Probe,
    Progress,
    Request,
    Save,
    Stopped,
)
from knowscope_tui.session.runner import Post, Runner


class Gate:
    """A handler that says which request it begins, and goes on when it is let through."""

    def __init__(self) -> None:
        self.made_on: threading.Thread | None = None
        self.seen: list[Request] = []
        self.begun: queue.Queue[Request] = queue.Queue()
        self.open = threading.Event()

    def handle(self, request: Request, post: Post, check: Callable[[], None]) -> None:
        self.seen.append(request)
        self.begun.put(request)
        post(Progress(request.revision, "begun", None))
        if isinstance(request, Probe) and request.prompt == "refused":
            raise PromptError("The prompt is refused.", "Type another.")
        if isinstance(request, Probe) and request.prompt == "broken":
            raise ValueError("first line\nsecond line")
        while not self.open.wait(0.002):
            check()


class Desk:
    """A runner under test with what it posted."""

    def __init__(self) -> None:
        self.events: queue.Queue[Event] = queue.Queue()
        self.gate = Gate()
        self.runner = Runner(self._make, self.events.put)
        self.runner.start()

    def _make(self) -> Gate:
        self.gate.made_on = threading.current_thread()
        return self.gate

    def ends(self, count: int) -> dict[int, Event]:
        """The last event of `count` requests, by revision."""
        ends: dict[int, Event] = {}
        while len(ends) < count:
            event = self.events.get(timeout=5)
            if isinstance(event, (Finished, Stopped, Failed)):
                ends[event.revision] = event
        return ends


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.gate.open.set()
    made.runner.close()


def test_the_handler_is_made_on_the_runners_thread(desk: Desk) -> None:
    desk.gate.open.set()
    desk.runner.submit(Save(1, "folder"))
    desk.ends(1)
    assert desk.gate.made_on is not None
    assert desk.gate.made_on is not threading.current_thread()
    assert desk.gate.made_on.name == "knowscope-model"


def test_a_handler_that_cannot_be_made_is_said_and_tried_again() -> None:
    events: queue.Queue[Event] = queue.Queue()

    def fail() -> Gate:
        raise ImportError("no torch here")

    runner = Runner(fail, events.put)
    runner.start()
    for revision in (1, 2):
        runner.submit(Save(revision, "folder"))
        event = events.get(timeout=5)
        assert isinstance(event, Failed)
        assert (event.revision, event.what) == (revision, "Unexpected: no torch here.")
    runner.close()


def test_requests_run_in_order(desk: Desk) -> None:
    desk.gate.open.set()
    for revision in range(1, 6):
        desk.runner.submit(Save(revision, "folder"))
    ends = desk.ends(5)
    assert all(isinstance(event, Finished) for event in ends.values())
    assert [request.revision for request in desk.gate.seen] == [1, 2, 3, 4, 5]


def test_a_later_probe_replaces_a_waiting_one_and_stops_a_running_one(desk: Desk) -> None:
    desk.runner.submit(Probe(1, "first"))
    assert desk.gate.begun.get(timeout=5).revision == 1
    desk.runner.submit(Save(2, "folder"))
    desk.runner.submit(Probe(3, "second"))
    desk.runner.submit(Probe(4, "third"))
    ends = desk.ends(2)
    desk.gate.open.set()
    ends |= desk.ends(2)
    assert {revision: type(event) for revision, event in ends.items()} == {
        1: Stopped,
        2: Finished,
        3: Stopped,
        4: Finished,
    }
    assert [request.revision for request in desk.gate.seen] == [1, 2, 4]


def test_edits_are_never_dropped(desk: Desk) -> None:
    spec = EditSpec((Fact("a", "b"),))
    desk.runner.submit(ApplyEdit(1, spec))
    desk.runner.submit(ApplyEdit(2, spec))
    desk.runner.submit(Probe(3, "x"))
    desk.gate.open.set()
    assert all(isinstance(event, Finished) for event in desk.ends(3).values())
    assert [request.revision for request in desk.gate.seen] == [1, 2, 3]


def test_cancelling_a_running_and_a_waiting_request(desk: Desk) -> None:
    desk.runner.submit(Save(1, "one"))
    assert desk.gate.begun.get(timeout=5).revision == 1
    desk.runner.submit(Save(2, "two"))
    desk.runner.cancel(2)
    desk.runner.cancel(1)
    ends = desk.ends(2)
    assert isinstance(ends[1], Stopped)
    assert isinstance(ends[2], Stopped)
    assert [request.revision for request in desk.gate.seen] == [1]


def test_cancelling_what_is_gone_stops_nothing_else(desk: Desk) -> None:
    desk.runner.submit(Save(1, "one"))
    desk.runner.cancel(7)
    desk.gate.open.set()
    assert isinstance(desk.ends(1)[1], Finished)


def test_an_expected_failure_keeps_its_sentence_and_its_hint(desk: Desk) -> None:
    request = Probe(1, "refused")
    desk.runner.submit(request)
    event = desk.ends(1)[1]
    assert event == Failed(1, "The prompt is refused.", "Type another.", request)


def test_a_fault_is_said_and_the_thread_goes_on(desk: Desk) -> None:
    desk.runner.submit(Probe(1, "broken"))
    event = desk.ends(1)[1]
    assert isinstance(event, Failed)
    assert "first line" in event.what
    assert "second line" not in event.what
    desk.gate.open.set()
    desk.runner.submit(Save(2, "folder"))
    assert isinstance(desk.ends(1)[2], Finished)


def test_closing_stops_what_runs_and_ends_the_thread(desk: Desk) -> None:
    desk.runner.submit(Save(1, "folder"))
    assert desk.gate.begun.get(timeout=5)
    desk.runner.close(timeout=5)
    assert desk.gate.made_on is not None
    assert not desk.gate.made_on.is_alive()
