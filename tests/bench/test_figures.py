"""What is made of seconds: units, ratios, floors, peaks, and whether a shape fits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from knowscope_tui.bench import rates, room
from knowscope_tui.bench.floor import floor_seconds
from knowscope_tui.bench.peak import peak_extra_bytes
from knowscope_tui.bench.result import FirstReading, Ranking, Rates, Seconds, Toggle, Toggles
from knowscope_tui.bench.shapes import KINDS, SHAPES
from knowscope_tui.bench.units import drawn_by_layer, per_layer, spread, strongest
from knowscope_tui.core.units import SiteKind, Unit
from knowscope_tui.errors import DoesNotFit, UsageError

CPU = torch.device("cpu")
TINY = SHAPES["tiny"]
UNITS = [Unit.feature(layer, SiteKind.RESID_POST, index) for layer in range(12) for index in range(3)]


def test_the_strongest_are_those_that_pull_most_either_way() -> None:
    found = strongest({UNITS[0]: 0.5, UNITS[1]: -2.0, UNITS[2]: 1.0}, 2)
    assert found == [UNITS[1], UNITS[2]]
    with pytest.raises(UsageError, match=r"Only 1 features are active. Use fewer --units"):
        strongest({UNITS[0]: 1.0}, 2)


def test_a_sample_is_spread_over_what_it_is_taken_from() -> None:
    assert spread(UNITS, 3) == [UNITS[6], UNITS[18], UNITS[30]]
    assert spread(UNITS[:2], 9) == UNITS[:2]


def test_toggles_are_drawn_evenly_over_the_layers() -> None:
    drawn = drawn_by_layer(UNITS, 12, 4, seed=0)
    assert [unit.site.layer // 3 for unit in drawn] == [0, 1, 2, 3]
    assert drawn == drawn_by_layer(list(reversed(UNITS)), 12, 4, seed=0)
    assert any(drawn != drawn_by_layer(UNITS, 12, 4, seed=seed) for seed in range(1, 5))
    assert per_layer(UNITS[:4], 3) == (3, 1, 0)


def test_a_floor_is_the_weights_above_read_once_or_multiplied_once_a_unit() -> None:
    low, high = Unit.feature(1, SiteKind.RESID_POST, 0), Unit.feature(3, SiteKind.RESID_POST, 0)
    read_bound = Rates(bytes_per_second=1.0, operations_per_second=1e30)
    product_bound = Rates(bytes_per_second=1e30, operations_per_second=1.0)
    above = 2 * TINY.layer
    assert floor_seconds(TINY, [high, low], 4, read_bound) == 4 * (above + TINY.hidden + TINY.unembedding)
    assert floor_seconds(TINY, [high, low], 4, product_bound) == 2 * (above + 2 * TINY.unembedding)


def test_ratios() -> None:
    one = Seconds(knowscope=2.0, hooks=10.0, saelens=12.0)
    assert (one.vs_hooks, one.vs_saelens) == (5.0, 6.0)
    rows = tuple(
        Toggle("0.resid_post.f1", Seconds(1.0, hooks, saelens), 3.0, 0.5, 0.0)
        for hooks, saelens in ((2.0, 3.0), (4.0, 5.0), (9.0, 90.0))
    )
    toggles = Toggles(rows)
    assert (toggles.vs_hooks, toggles.vs_saelens, toggles.over_floor) == (4.0, 5.0, 2.0)
    ranking = Ranking(one, 500, 20, (500,), 0.5, None, 0.0).as_json()
    assert (ranking["vs_saelens"], ranking["over_floor"], ranking["peers_sampled"]) == (6.0, 4.0, 20)
    assert FirstReading(3.0, 2.0).over_forward == 1.5
    assert Seconds(1.0, 2.0, None).vs_saelens is None
    assert Toggles((Toggle("u", Seconds(1.0, 2.0, None), 1.0, 1.0, 0.0),)).vs_saelens is None


def test_what_a_machine_does_at_best_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "STREAM_BYTES", 20_000_000)
    monkeypatch.setitem(rates.SIDE, "cpu", 256)
    for dtype in (torch.float32, torch.bfloat16):
        found = rates.measure_rates(CPU, dtype)
        assert found.bytes_per_second > 1e7
        assert found.operations_per_second > 1e6


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells of a process's peak")
@pytest.mark.parametrize("count", [1, 2])
def test_a_peak_is_what_was_there_at_once(count: int) -> None:
    found = peak_extra_bytes(CPU, lambda: [torch.ones(25_000_000) for _ in range(count)])
    assert found == pytest.approx(count * 100e6, rel=0.1)


def test_a_shape_that_does_not_fit_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "host_memory", lambda: (8_000_000_000, 7_000_000_000))
    room.check_room(SHAPES["small"], KINDS, CPU, torch.float32)
    with pytest.raises(DoesNotFit, match=r"needs 16\.\d GB of this machine's memory, and 7\.0 GB are free"):
        room.check_room(SHAPES["2b"], KINDS[:1], CPU, torch.float32)


def test_kinds_that_suit_shape_and_device() -> None:
    assert room.usual_kinds(SHAPES["small"], CPU) == room.usual_kinds(TINY, CPU) == KINDS
    assert room.usual_kinds(SHAPES["2b"], CPU) == (SiteKind.RESID_POST,)
    assert room.usual_kinds(SHAPES["2b"], torch.device("cuda")) == KINDS


@pytest.mark.parametrize(("said", "becomes"), [({}, "true"), ({"OMP_PROC_BIND": "close"}, "close")])
def test_threads_stay_on_cores_of_their_own(said: dict[str, str], becomes: str) -> None:
    code = "from knowscope_tui.bench.threads import binding, keep_apart; keep_apart(); print(binding())"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_PROC_BIND"} | said
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == becomes
