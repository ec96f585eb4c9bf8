"""One thread that owns the model, and a queue in front of it.

`submit` returns at once. The thread takes requests in order, hands each to a `Session`, and calls `post` with every
event. A replaceable request that has not started gives way to a later one of its kind, and one that runs is asked to
stop; edits and saves are never dropped.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from knowscope_tui.errors import Cancelled, KnowscopeError, device_full
from knowscope_tui.session.diary import Diary
from knowscope_tui.session.protocol import Event, Failed, Finished, Request, Stopped

Post = Callable[[Event], None]


class Handler(Protocol):
    """What the runner puts requests to: `Session` in the program, a stand-in in tests."""

    def handle(self, request: Request, post: Post, check: Callable[[], None]) -> None:
        """Carries `request` out, posting events; calls `check` between steps, which raises `Cancelled` to stop."""


class Runner:
    """Runs requests on one thread of its own.

    `make_handler` is called on that thread for the first request, so that heavy imports land there.
    """

    def __init__(self, make_handler: Callable[[], Handler], post: Post) -> None:
        self._make_handler = make_handler
        self._post = post
        self._queue: deque[Request] = deque()
        self._wake = threading.Condition()
        self._running: Request | None = None
        self._cancel = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="knowscope-model", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Queues `request`; a waiting replaceable request of the same kind is stopped, a running one is asked to."""
        with self._wake:
            if request.replaceable:
                for waiting in [other for other in self._queue if type(other) is type(request)]:
                    self._queue.remove(waiting)
                    self._post(Stopped(waiting.revision))
                if type(self._running) is type(request):
                    self._cancel.set()
            self._queue.append(request)
            self._wake.notify()

    def cancel(self, revision: int) -> None:
        """Asks the request of that revision to stop, whether it waits or runs."""
        with self._wake:
            for waiting in [other for other in self._queue if other.revision == revision]:
                self._queue.remove(waiting)
                self._post(Stopped(waiting.revision))
            if self._running is not None and self._running.revision == revision:
                self._cancel.set()

    def close(self, timeout: float = 5.0) -> None:
        """Asks the thread to end after the current step and waits for it up to `timeout` seconds."""
        with self._wake:
            self._closed = True
            self._cancel.set()
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _next(self) -> Request | None:
        with self._wake:
            self._running = None
            while not self._queue and not self._closed:
                self._wake.wait()
            if self._closed:
                return None
            self._cancel.clear()
            self._running = self._queue.popleft()
            return self._running

    def _check(self) -> None:
        if self._cancel.is_set():
            raise Cancelled

    def _run(self) -> None:
        handler: Handler | None = None
        while (request := self._next()) is not None:
            try:
                handler = handler or self._make_handler()
                handler.handle(request, self._post, self._check)
                self._post(Finished(request.revision))
            except Cancelled:
                self._post(Stopped(request.revision))
            except KnowscopeError as error:
                self._post(Failed(request.revision, error.what, error.hint, request))
            except Exception as error:  # The thread must outlive any fault: the face says it and goes on.
                if (full := device_full(error)) is not None:
                    self._post(Failed(request.revision, full.what, full.hint, request))
                    continue
                reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
                file = Diary().crash(error)
                hint = "Please report this." if file is None else f"Please report this, with {str(file)!r}."
                self._post(Failed(request.revision, f"Unexpected: {reason[0]}.", hint, request))
