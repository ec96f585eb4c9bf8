"""Items of a study spread over a Ray cluster: the loop of `studies.run`, with its rows measured elsewhere.

1. A worker is a replica of the model in a process of its own, with its share of a GPU. It opens what the driver opened,
   and the driver makes sure that it is the same, weight for weight.
2. The first worker prepares the study alone, so that what it fits is in the run's cache when the others begin.
3. A worker measures one item at a time. The driver alone keeps rows, in the run's folder.
4. A worker that dies is replaced, and its item goes to whichever worker is free next. What an item yields depends on
   nothing but the item (see `studies.study.Measure`), so that the rows are those of a serial run.

Dictionaries are read from mapped files, whose pages all processes of a machine share. On a GPU each replica holds the
encoders that it uses.
"""

from __future__ import annotations

import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from knowscope_tui.core.configuration import Json, differences
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.studies import AUTO, LOCAL, Cluster, Row, StudyName
from knowscope_tui.engine.host import cores
from knowscope_tui.engine.identity import identity
from knowscope_tui.errors import KnowscopeError, UsageError
from knowscope_tui.studies.registry import study_named
from knowscope_tui.studies.run import Loop, Measured
from knowscope_tui.studies.study import Study, Subject
from knowscope_tui.text import count

SECONDS_TO_ANSWER = 5.0
"""How long an address may take to be reached."""

SECONDS_BETWEEN_LOOKS = 0.5
MOST_DEATHS = 3
"""Workers that may die over the same item, or one after the other before they measured anything."""

Make = Callable[[], Subject]
"""Opens what is studied, in a worker. Can be pickled."""

Find = Callable[[StudyName], Study]


class Replica:
    """A worker: the model opened again, and the study prepared on it."""

    def __init__(self, name: StudyName, make: Make, find: Find) -> None:
        self._subject = make()
        self._study = find(name)
        self._measure: Any = None

    def prepare(self) -> Json:
        """What it measures with."""
        self._measure = self._study.prepare(self._subject, silent)
        return _identity(self._subject)

    def measure(self, key: str) -> Sequence[Row]:
        rows: Sequence[Row] = self._measure(key, silent)
        return rows


def spread(make: Make, cluster: Cluster, find: Find = study_named) -> Loop:
    """The loop that measures on `cluster` what `make` opens there.

    It raises `UsageError` without ray, and `KnowscopeError` for a cluster that is not there, for a worker that opened
    something else, and for workers that keep dying.
    """

    def loop(
        study: Study, subject: Subject, keys: Sequence[str], on_progress: OnProgress
    ) -> Generator[Measured, None, None]:
        with _connected(cluster, len(keys)) as workers:
            pool = _Pool(workers, study.name, make, find, _identity(subject))
            try:
                yield from pool.measured(keys, on_progress)
            finally:
                pool.close()

    return loop


def check(cluster: Cluster) -> None:
    """Raises `UsageError` without ray, and `KnowscopeError` for an address that is not reached, before work begins."""
    if find_spec("ray") is None:
        raise UsageError("Ray is not installed.", "Install it with: pip install 'knowscope-tui[ray]'.")
    if cluster.address not in (AUTO, LOCAL):
        _reach(cluster.address)


class _Pool:
    """Workers, and which item each is at."""

    def __init__(self, workers: _Workers, name: StudyName, make: Make, find: Find, expected: Json) -> None:
        import ray

        self._workers = workers
        self._expected = expected
        self._actor = ray.remote(Replica).options(num_cpus=1, num_gpus=workers.gpus_each)
        self._given = (name, ray.put(make), find)
        self._idle: list[Any] = []
        self._running: dict[Any, tuple[Any, str | None]] = {}
        """What is awaited → the worker, and its item; None while it prepares."""
        self._deaths: Counter[str | None] = Counter()

    def measured(self, keys: Sequence[str], on_progress: OnProgress) -> Iterator[Measured]:
        waiting = deque(keys)
        self._start(1)
        while waiting or any(key is not None for _worker, key in self._running.values()):
            while self._idle and waiting:
                self._give(waiting.popleft())
            on_progress(count(len(self._idle) + len(self._running), "worker"), None)
            for worker, key, answer in self._answers():
                if answer is None:
                    if key is not None:
                        waiting.appendleft(key)
                    self._start(1)
                    continue
                self._idle.append(worker)
                if key is not None:
                    self._deaths.pop(key, None)
                    yield key, answer
                else:
                    self._welcome(answer)

    def close(self) -> None:
        """Ends every worker."""
        import ray

        for worker in [*self._idle, *(worker for worker, _key in self._running.values())]:
            ray.kill(worker)
        self._idle, self._running = [], {}

    def _start(self, number: int) -> None:
        for _ in range(number):
            worker = self._actor.remote(*self._given)
            self._running[worker.prepare.remote()] = (worker, None)

    def _give(self, key: str) -> None:
        worker = self._idle.pop()
        self._running[worker.measure.remote(key)] = (worker, key)

    def _welcome(self, opened: Json) -> None:
        """A worker is ready: the others begin after the first one."""
        if differing := differences(self._expected, opened):
            raise KnowscopeError(
                f"A worker opened something else than this process, which differs in {', '.join(differing)}.",
                "Name --device and --dtype, and have the same program and files on every machine.",
            )
        self._deaths.pop(None, None)
        self._start(self._workers.number - len(self._idle) - len(self._running))

    def _answers(self) -> Iterator[tuple[Any, str | None, Any]]:
        """The workers that answered: what each was at, and the answer; None of a worker that died over it."""
        import ray

        ready, _ = ray.wait(list(self._running), timeout=SECONDS_BETWEEN_LOOKS)
        for awaited in ready:
            worker, key = self._running.pop(awaited)
            try:
                answer = ray.get(awaited)
            except ray.exceptions.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, Exception) else error) from None
            except ray.exceptions.RayError as error:
                self._mourn(key, error)
                answer = None
            yield worker, key, answer

    def _mourn(self, key: str | None, error: Exception) -> None:
        self._deaths[key] += 1
        if self._deaths[key] >= MOST_DEATHS:
            over = "before they measured anything" if key is None else f"over the item {key!r}"
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise KnowscopeError(
                f"{MOST_DEATHS} workers died {over}: {reason}.",
                "Give each more memory: fewer --workers, a larger --gpu-share, or --dtype bfloat16.",
            )


# --- the cluster ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Workers:
    number: int
    gpus_each: float


@contextmanager
def _connected(cluster: Cluster, items: int) -> Iterator[_Workers]:
    """Within the block this process is connected to `cluster`, or to the one that it is connected to already.

    Raises `UsageError` or `KnowscopeError`.
    """
    check(cluster)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        yield _room(cluster, items)
        return
    wanted = cluster.workers or cores()
    local = {"num_cpus": min(wanted, items), "include_dashboard": False} if cluster.address == LOCAL else {}
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR", **local)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise _not_there(cluster.address, error) from None
    try:
        yield _room(cluster, items)
    finally:
        ray.shutdown()


def _room(cluster: Cluster, items: int) -> _Workers:
    """How many workers there are to be, and how much of a GPU each gets."""
    import ray

    there = ray.cluster_resources()
    gpus = float(there.get("GPU", 0.0))
    room = int(gpus / cluster.gpu_share) if gpus else int(there.get("CPU", 1.0))
    return _Workers(max(1, min(cluster.workers or room, items)), cluster.gpu_share if gpus else 0.0)


def _reach(address: str) -> None:
    """Raises `KnowscopeError` where nothing answers at `address`: ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"{address!r} is no address of a Ray cluster.", "Write auto, local, or HOST:PORT.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise _not_there(address, error) from None


def _not_there(address: str, error: Exception) -> KnowscopeError:
    where = "on this machine" if address in (AUTO, LOCAL) else f"at {address!r}"
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return KnowscopeError(
        f"There is no Ray cluster {where}: {reason}.",
        "Start one with `ray start --head`, name its HOST:PORT, or use --ray local.",
    )


def _identity(subject: Subject) -> Json:
    return identity(subject.lm, subject.library)
