"""Items measured by workers of a Ray cluster, one of which is killed: row for row what a serial run gives."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from knowscope_tui.core.studies import Cluster, StudyOptions
from knowscope_tui.core.units import SiteKind
from knowscope_tui.engine.library import Library, load_library
from knowscope_tui.engine.loading import load_model
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.errors import Cancelled, KnowscopeError, UsageError
from knowscope_tui.studies import spread as spreading
from knowscope_tui.studies.run import run_study
from knowscope_tui.studies.run_folder import open_run
from knowscope_tui.studies.spread import Find, spread
from knowscope_tui.studies.study import Subject
from tests.studies import fake

pytest.importorskip("ray")

ITEMS = 40


def open_subject(model: Path, dictionaries: dict[SiteKind, Path]) -> Subject:
    """What a worker studies: the tiny model opened anew."""
    lm = load_model(str(model), device="cpu", dtype="float32")
    return fake.subject(ITEMS, lm=lm, library=load_library(lm, dictionaries.items()))


@pytest.fixture
def make(tiny_folder: Path, sources: dict[SiteKind, Path]) -> Callable[[], Subject]:
    return partial(open_subject, tiny_folder, sources)


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    """The rows of a serial run."""
    with open_run(tmp_path / "serial", fake.ASKED) as run:
        run_study(fake.STUDY, fake.subject(ITEMS), run)
    return (tmp_path / "serial" / "rows.parquet").read_bytes()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where a cluster of two machines answers; both are this one."""
    from ray.cluster_utils import Cluster as Machines

    machines = Machines(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    machines.add_node(num_cpus=1)
    yield str(machines.address)
    machines.shutdown()


@pytest.fixture
def spread_out(make: Any, lm: LanguageModel, library: Library, tmp_path: Path) -> Callable[..., bytes]:
    """Runs the fake study on two workers of a cluster of its own; the rows."""

    def run(
        find: Find = fake.slow, where: str = "local", workers: int | None = 2, subject: Any = None, **more: Any
    ) -> bytes:
        loop = spread(make, Cluster(where, workers=workers), find)
        with open_run(tmp_path / "spread", fake.ASKED) as opened:
            seen = subject or fake.subject(ITEMS, lm=lm, library=library)
            run_study(fake.STUDY, seen, opened, loop=loop, **more)
        return (tmp_path / "spread" / "rows.parquet").read_bytes()

    return run


def workers() -> list[psutil.Process]:
    """This process's workers that measure."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "ray::Replica" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_cluster_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        free = taken.getsockname()[1]
    for address, error, says in [
        (f"127.0.0.1:{free}", KnowscopeError, r"^There is no Ray cluster at '127\.0\.0\.1:\d+': .*refused"),
        (f"ray://127.0.0.1:{free}", KnowscopeError, r"^There is no Ray cluster at 'ray://127"),
        ("nowhere", UsageError, "'nowhere' is no address of a Ray cluster. Write auto, local, or HOST:PORT."),
    ]:
        with pytest.raises(error, match=says):
            spreading.check(Cluster(address))
    monkeypatch.delitem(os.environ, "RAY_ADDRESS", raising=False)
    with pytest.raises(KnowscopeError, match=r"^There is no Ray cluster on this machine: "):
        next(spread(fake.subject, Cluster("auto"))(fake.STUDY, fake.subject(1), ["0:f0"], lambda d, f: None))
    monkeypatch.setattr(spreading, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"Ray is not installed. Install it with: pip install 'knowscope-tui\[ray\]'"):
        spreading.check(Cluster())


def test_a_worker_killed_in_the_middle_changes_no_row(spread_out: Callable[..., bytes], whole: bytes) -> None:
    killed: list[int] = []
    most = 0

    def kill_one(_doing: str, fraction: float | None) -> None:
        nonlocal most
        own = workers()
        most = max(most, len(own))
        busy = [process for process in own if "measure" in process.cmdline()[0]]
        if not killed and (fraction or 0.0) > 0.3 and len(own) == 2:
            unlucky = (busy or own)[0]
            killed.append(unlucky.pid)
            unlucky.kill()

    assert spread_out(on_progress=kill_one) == whole
    assert most == 2
    assert len(killed) == 1
    assert not psutil.pid_exists(killed[0])
    assert not workers()


def test_stopped_it_keeps_what_is_measured_and_goes_on_elsewhere(
    spread_out: Callable[..., bytes], whole: bytes, tmp_path: Path, address: str
) -> None:
    def stop(_doing: str, fraction: float | None) -> None:
        if (fraction or 0.0) > 0.4:
            raise Cancelled

    with pytest.raises(Cancelled):
        spread_out(where=address, on_progress=stop)
    with open_run(tmp_path / "spread", fake.ASKED) as opened:
        assert 0 < len(opened.items) < ITEMS
    told: list[str] = []
    assert spread_out(where=address, workers=None, on_progress=lambda doing, _share: told.append(doing)) == whole
    assert any("2 workers" in doing for doing in told)


def test_an_item_over_which_every_worker_dies_is_named(spread_out: Callable[..., bytes], address: str) -> None:
    with pytest.raises(KnowscopeError, match=r"^3 workers died over the item '03:f3': .*\. Give each more memory"):
        spread_out(fake.deadly, address)


def test_what_a_worker_says_is_said(spread_out: Callable[..., bytes], address: str) -> None:
    with pytest.raises(UsageError, match=r"^No dictionary is open\. Open some\.$"):
        spread_out(fake.refusing, address)


def test_workers_that_opened_something_else_are_refused(
    spread_out: Callable[..., bytes], lm: LanguageModel, address: str
) -> None:
    other = replace(fake.subject(ITEMS, lm=lm, library=Library()), options=StudyOptions())
    with pytest.raises(KnowscopeError, match="opened something else than this process, which differs in the dictionar"):
        spread_out(where=address, subject=other)
