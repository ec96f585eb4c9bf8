"""`bench`: the whole of it on the smallest shape, what it says, and what it refuses. No second is held to anything."""

from __future__ import annotations

import pytest

from knowscope_tui.bench import rates, room
from knowscope_tui.bench.shapes import SHAPES
from knowscope_tui.cli import bench
from tests.cli.conftest import Run, strict_json

SHORT = ["bench", "--shape", "tiny", "--device", "cpu", "--units", "10", "--sample", "2", "--toggles", "2"]
ONCE = [*SHORT, "--repeat", "1"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little is read to measure the machine, and no other process of the tests hears where threads are to stay."""
    monkeypatch.setattr(rates, "STREAM_BYTES", 20_000_000)
    monkeypatch.setitem(rates.SIDE, "cpu", 256)
    monkeypatch.setenv("OMP_PROC_BIND", "false")


def test_the_whole_of_it_as_json(run: Run) -> None:
    result = run(*ONCE, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    found = strict_json(result.stdout)
    ranking, toggles, reading = found["exact_ranking"], found["live_toggle"], found["first_reading"]
    assert ranking["vs_saelens"] == pytest.approx(ranking["seconds"]["saelens"] / ranking["seconds"]["knowscope"])
    assert ranking["vs_hooks"] == pytest.approx(ranking["seconds"]["hooks"] / ranking["seconds"]["knowscope"])
    assert ranking["over_floor"] == pytest.approx(ranking["seconds"]["knowscope"] / ranking["floor_seconds"])
    assert (ranking["units"], ranking["peers_sampled"], sum(ranking["units_per_layer"])) == (10, 2, 10)
    assert len(toggles["toggles"]) == 2
    assert {"vs_saelens", "vs_hooks", "over_floor", "first_seconds"} <= set(toggles)
    assert reading["over_forward"] == pytest.approx(reading["seconds"] / reading["forward_seconds"])
    assert found["peak_extra_bytes"] is None or found["peak_extra_bytes"] >= 0
    assert found["disagreement"] < 1e-4
    assert found["shape"]["name"] == "tiny"
    assert (found["dtype"], found["sae_dtype"], found["kinds"]) == (
        "float32",
        "bfloat16",
        ["attn_z", "mlp_out", "resid_post"],
    )
    assert {"cpu", "cores", "threads", "device", "memory_bytes"} <= set(found["machine"])
    assert {"torch", "transformers", "sae-lens"} <= set(found["versions"])
    assert found["date"].startswith("20")


def test_the_whole_of_it_for_a_person(run: Run) -> None:
    result = run(*ONCE, "--skip-saelens", "--kinds", "mlp_out, resid_post", "--dtype", "bfloat16")
    assert result.exit_code == 0, result.stderr
    assert max(map(len, result.stdout.splitlines())) <= 80
    said = " ".join(result.stdout.split())
    assert "tiny: 4 layers of 128" in said
    assert "8 dictionaries of 512 features at mlp_out, resid_post" in said
    assert "rank 10 exactly toggle one live first reading" in said
    assert "sae-lens – –" in said
    assert "Peers were timed on 2 of the 10 units" in said
    assert "In bfloat16 the ways' probabilities differ" in said
    assert "Live toggles" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--shape", "9b"], 2, "'9b' is not one of"),
        (["--units", "0"], 2, "0 is not in the range x>=1"),
        (["--kinds", ","], 2, "it names no kinds of site."),
        (["--kinds", "atoms"], 2, "There is no site called 'atoms'."),
        (["--kinds", "mlp_act"], 2, "No dictionaries are made for mlp_act."),
        (["--dtype", "float16"], 2, "'float16' is not one of"),
        (["--device", "cuda:99"], 1, "cuda:99"),
        (["--units", "5000", "--kinds", "resid_post"], 2, "Only 280 features are active."),
    ],
)
def test_what_is_refused(run: Run, words: list[str], code: int, says: str) -> None:
    result = run(*SHORT, *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr


def test_a_shape_that_does_not_fit(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "host_memory", lambda: (8_000_000_000, 1_000_000_000))
    result = run("bench", "--shape", "2b", "--device", "cpu", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    error = strict_json(result.stderr)["error"]
    assert error["kind"] == "DoesNotFit"
    assert "Use a smaller --shape" in error["hint"]


def test_the_shapes_are_those_that_can_be_made() -> None:
    assert set(bench.SHAPES) == set(SHAPES)
