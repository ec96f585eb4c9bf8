"""Sweeps that are stopped, run out of memory, or start a chunk before the last one's values are waited for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch

from knowscope_tui.core.units import Unit
from knowscope_tui.engine import sweep as sweeping
from knowscope_tui.engine.batch import rows_within
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.suffix import Suffix
from knowscope_tui.engine.sweep import Chunk, Sweep
from knowscope_tui.engine.transfer import Landing
from knowscope_tui.errors import Cancelled, UsageError
from tests.engine.suffixes import (
    traced,
    units_of,
)

# --- what can go wrong ----------------------------------------------------------------------------------------------


def test_a_cancelled_sweep_leaves_no_hook_and_keeps_what_it_found(
    lm: LanguageModel, library: Library, question: Question
) -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls > 8:
            raise Cancelled

    chunks = Sweep(lm, library, traced(lm, [question]), check=check).chunks(
        [(0, Unit.neuron(0, index)) for index in range(10)], rows=4
    )
    places, values = next(chunks)
    assert len(places) == len(values) == 4
    with pytest.raises(Cancelled):
        list(chunks)


def test_where_memory_runs_out_the_chunk_is_halved_and_nothing_is_lost(
    lm: LanguageModel, library: Library, question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = traced(lm, [question])
    units = [(0, unit) for unit in units_of(library, trace)]
    expected = Sweep(lm, library, trace).run(units)
    sizes: list[int] = []
    whole = Sweep._chunk

    def chunk(self: Sweep, some: Any) -> Any:
        sizes.append(len(some))
        if len(some) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, some)

    monkeypatch.setattr(Sweep, "_chunk", chunk)
    assert Sweep(lm, library, trace).run(units, rows=16) == pytest.approx(expected, abs=1e-6)
    assert sizes[:4] == [16, 8, 4, 2]
    assert max(sizes[4:]) == 2


def test_where_not_even_one_row_fits_the_error_is_not_hidden(
    lm: LanguageModel, library: Library, question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Sweep, some: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Sweep, "_chunk", full)
    with pytest.raises(torch.OutOfMemoryError):
        Sweep(lm, library, traced(lm, [question])).run([(0, Unit.neuron(0, 1))])


def test_any_other_fault_is_raised_at_once(
    lm: LanguageModel, library: Library, question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Sweep, some: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Sweep, "_chunk", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        Sweep(lm, library, traced(lm, [question])).run([(0, Unit.neuron(0, 1))])


def test_a_unit_that_does_not_exist_is_refused_before_anything_runs(
    lm: LanguageModel, library: Library, question: Question
) -> None:
    sweep = Sweep(lm, library, traced(lm, [question]))
    with pytest.raises(UsageError, match="There is no layer 9"):
        sweep.run([(0, Unit.neuron(0, 1)), (0, Unit.neuron(9, 1))])


def test_a_smaller_budget_means_fewer_rows_and_never_none(lm: LanguageModel, question: Question) -> None:
    suffix = Suffix(lm, traced(lm, [question]), [question.last])
    rows = [rows_within(lm, suffix, budget) for budget in (1 << 30, 1 << 20, 1 << 16, 1)]
    assert rows == sorted(rows, reverse=True)
    assert rows[0] > rows[2] > rows[3] == 1


# --- chunks that are started before the last one's values are waited for ---------------------------------------------


class OnGpu:
    """A model that says it is on a GPU, to the sweep alone: that is what makes it look ahead."""

    device = torch.device("cuda")

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lm, name)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What happened to chunks of how many units: started, and waited for."""
    happened: list[tuple[str, int]] = []

    class Told(Landing):
        def __init__(self, vector: torch.Tensor) -> None:
            super().__init__(vector)
            self._size = len(vector)
            happened.append(("started", self._size))

        def values(self) -> list[float]:
            happened.append(("waited for", self._size))
            return super().values()

    monkeypatch.setattr(sweeping, "Landing", Told)
    return happened


def looking_ahead(lm: LanguageModel, *args: Any, **options: Any) -> Sweep:
    sweep = Sweep(lm, *args, **options)
    sweep._lm = OnGpu(lm)  # type: ignore[assignment]
    return sweep


def gather(chunks: Iterable[Chunk], found: dict[int, float]) -> None:
    """Fills `found` with what is handed out, each place once."""
    for places, values in chunks:
        assert not found.keys() & set(places)
        found.update(zip(places, values, strict=True))


def test_a_sweep_that_looks_ahead_measures_every_unit_once(
    lm: LanguageModel, library: Library, question: Question, told: list[tuple[str, int]]
) -> None:
    trace = traced(lm, [question])
    pairs = [(0, unit) for unit in units_of(library, trace)][:14]
    expected = Sweep(lm, library, trace).run(pairs)
    told.clear()
    found: dict[int, float] = {}
    gather(looking_ahead(lm, library, trace).chunks(pairs, rows=4, first_rows=2), found)
    assert told == [
        ("started", 2),
        ("started", 4),
        ("waited for", 2),
        ("started", 4),
        ("waited for", 4),
        ("started", 4),
        ("waited for", 4),
        ("waited for", 4),
    ]
    assert [found[place] for place in range(14)] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("whole", range(4))
def test_what_landed_before_a_sweep_is_cancelled_is_handed_out(
    lm: LanguageModel, library: Library, question: Question, monkeypatch: pytest.MonkeyPatch, ahead: bool, whole: int
) -> None:
    """Cancelled within the chunk after `whole` whole ones: those are handed out, each unit once, and no other."""
    trace = traced(lm, [question])
    pairs = [(0, unit) for unit in units_of(library, trace)][:16]
    expected = Sweep(lm, library, trace).run(pairs)
    started = 0
    one = Sweep._chunk

    def chunk(self: Sweep, units: Any) -> Any:
        nonlocal started
        started += 1
        return one(self, units)

    def check() -> None:
        if started > whole:
            raise Cancelled

    monkeypatch.setattr(Sweep, "_chunk", chunk)
    make_sweep = looking_ahead if ahead else Sweep
    found: dict[int, float] = {}
    with pytest.raises(Cancelled):
        gather(make_sweep(lm, library, trace, check=check).chunks(pairs, rows=4), found)
    assert sorted(found) == list(range(4 * whole))
    assert [found[place] for place in sorted(found)] == pytest.approx(expected[: 4 * whole], rel=1e-5)


def test_where_memory_runs_out_behind_a_chunk_that_is_on_its_way_nothing_is_lost(
    lm: LanguageModel, library: Library, question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = traced(lm, [question])
    pairs = [(0, unit) for unit in units_of(library, trace)][:13]
    expected = Sweep(lm, library, trace).run(pairs)
    one = Sweep._chunk

    def chunk(self: Sweep, some: Any) -> Any:
        if len(some) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return one(self, some)

    monkeypatch.setattr(Sweep, "_chunk", chunk)
    found: dict[int, float] = {}
    gather(looking_ahead(lm, library, trace).chunks(pairs, rows=8, first_rows=2), found)
    assert [found[place] for place in range(13)] == pytest.approx(expected, rel=1e-5)
