"""What fits where, from sizes alone: real figures of Gemma 2 2B with Gemma Scope on machines that people have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from knowscope_tui.core.memory import MemoryPlan, Place
from knowscope_tui.engine import host, memory
from knowscope_tui.engine.memory import RESERVE, Room, Sizes, plan, working_bytes
from knowscope_tui.text import file_size

GIB = 1 << 30
LAYERS, WIDTH = 26, 16_384
ENCODERS = LAYERS * (2304 + 2304 + 2048) * WIDTH * 2
"""Of all 78 canonical dictionaries of the 2B, in bfloat16."""
MODEL = 5_228_683_776
"""Gemma 2 2B in bfloat16."""
GEMMA = Sizes(MODEL, ENCODERS, 2 * ENCODERS + LAYERS * 3 * 3 * 4 * WIDTH, dictionaries=3 * LAYERS)
PLENTY = Room(host=32 * GIB, disk=500 * GIB)
GPU_16 = replace(PLENTY, device=16 * GIB)


def planned(sizes: Sizes, room: Room, *, sae_memory: int | None = None, dtype: str = "bfloat16") -> MemoryPlan:
    device = "cpu" if room.device is None else "cuda:0"
    made = plan(device, sizes, room, sae_memory=sae_memory, dtype=dtype)
    assert bool(made.problem) == bool(made.hint)
    over = [place for place, free in made.room.items() if made.total(place) > free]
    assert bool(made.problem) == bool(over), "a problem is told exactly where something does not fit"
    if room.device is not None:
        assert made.encoder_budget <= room.device
    return made


# --- on a GPU -------------------------------------------------------------------------------------------------------


def test_the_2b_in_bfloat16_with_all_78_dictionaries_fits_a_gpu_of_16_gib_with_every_encoder() -> None:
    made = planned(GEMMA, GPU_16)
    assert made.problem == ""
    assert made.encoder_budget == made.encoder_bytes == ENCODERS
    assert {need.what: (need.place, need.bytes) for need in made.needs} == {
        "model": (Place.DEVICE, MODEL),
        "working memory": (Place.DEVICE, GIB),
        "encoders": (Place.DEVICE, ENCODERS),
        "78 dictionaries": (Place.MAPPED, GEMMA.mapped),
    }
    assert made.total(Place.HOST) == made.total(Place.DISK) == 0


def test_on_a_smaller_gpu_encoders_take_what_is_left_and_it_still_fits() -> None:
    room = replace(PLENTY, device=8 * GIB)
    made = planned(GEMMA, room)
    assert made.problem == ""
    assert made.encoder_budget == int(8 * GIB * (1 - RESERVE)) - MODEL - GIB
    assert 0 < made.encoder_budget < ENCODERS


def test_a_gpu_that_has_room_for_the_model_alone_streams_every_encoder() -> None:
    made = planned(GEMMA, replace(PLENTY, device=MODEL + GIB))
    assert (made.problem, made.encoder_budget) == ("", 0)


@pytest.mark.parametrize("sae_memory", [0, GIB, 3 * GIB])
def test_a_smaller_sae_memory_caps_the_encoders(sae_memory: int) -> None:
    made = planned(GEMMA, GPU_16, sae_memory=sae_memory)
    assert made.encoder_budget == sae_memory
    assert made.encoder_bytes == ENCODERS
    assert made.total(Place.DEVICE) == MODEL + GIB + sae_memory


def test_a_larger_sae_memory_makes_neither_encoders_nor_room() -> None:
    assert planned(GEMMA, GPU_16, sae_memory=100 * GIB).encoder_budget == ENCODERS
    tight = replace(PLENTY, device=8 * GIB)
    assert planned(GEMMA, tight, sae_memory=100 * GIB).encoder_budget == planned(GEMMA, tight).encoder_budget


def test_a_gpu_too_small_for_the_model_is_told_with_both_numbers_and_the_cpu() -> None:
    made = planned(GEMMA, replace(PLENTY, device=4 * GIB))
    assert made.problem == f"This needs {file_size(MODEL + GIB)} of cuda:0, and {file_size(4 * GIB)} are free."
    assert made.hint == "Use --device cpu, or a smaller model."
    assert made.encoder_budget == 0


def test_float32_on_a_gpu_that_would_hold_bfloat16_is_told_to_use_that() -> None:
    made = planned(replace(GEMMA, model=2 * MODEL), replace(PLENTY, device=8 * GIB), dtype="float32")
    assert made.hint == f"--dtype bfloat16 needs {file_size(MODEL)} less."


# --- on the host ----------------------------------------------------------------------------------------------------


def test_on_the_cpu_encoders_are_mapped_and_take_no_budget() -> None:
    made = planned(GEMMA, PLENTY, sae_memory=8 * GIB)
    assert (made.problem, made.encoder_budget, made.encoder_bytes) == ("", 0, ENCODERS)
    assert made.total(Place.HOST) == MODEL + GIB, "what is mapped is no memory that has to be there"
    assert Place.DEVICE not in made.room


def test_float32_on_a_host_too_small_is_refused_with_the_numbers_and_bfloat16() -> None:
    sizes = replace(GEMMA, model=2 * MODEL)
    made = planned(sizes, replace(PLENTY, host=8 * GIB), dtype="float32")
    needed = 2 * MODEL + GIB
    assert (
        made.problem == f"This needs {file_size(needed)} of this machine's memory, and {file_size(8 * GIB)} are free."
    )
    assert made.hint == f"--dtype bfloat16 needs {file_size(MODEL)} less."


def test_bfloat16_is_not_suggested_where_it_would_not_do_or_is_what_was_asked_for() -> None:
    too_small = replace(PLENTY, host=4 * GIB)
    for sizes, dtype in ((replace(GEMMA, model=2 * MODEL), "float32"), (GEMMA, "bfloat16")):
        hint = planned(sizes, too_small, dtype=dtype).hint
        assert hint == "Use a smaller model, or a machine with more memory."


def test_converting_takes_the_host_three_times_the_largest_dictionary_one_at_a_time() -> None:
    published = 2 * 4 * 2304 * WIDTH
    sizes = replace(GEMMA, largest_published=published, convert=GEMMA.mapped, download=26 * published)
    on_gpu, on_cpu = planned(sizes, GPU_16), planned(sizes, PLENTY)
    assert on_gpu.total(Place.HOST) == 3 * published
    assert on_cpu.total(Place.HOST) == 3 * published + MODEL + GIB
    small = planned(sizes, replace(GPU_16, host=3 * published - 1))
    assert small.problem.startswith(f"This needs {file_size(3 * published)} of this machine's memory")


@pytest.mark.parametrize(("needed", "free"), [(10, 9), (10, 0)])
def test_a_disk_too_small_for_download_and_conversion_is_told_and_how_to_take_less(needed: int, free: int) -> None:
    sizes = replace(GEMMA, download=4 * GIB, convert=(needed - 4) * GIB)
    made = planned(sizes, replace(PLENTY, disk=free * GIB))
    assert made.problem == f"This needs {file_size(needed * GIB)} of the disk, and {file_size(free * GIB)} are free."
    assert "--layers" in made.hint
    assert "XDG_CACHE_HOME" in made.hint
    assert planned(sizes, replace(PLENTY, disk=needed * GIB)).problem == ""


def test_a_disk_that_nothing_is_known_of_is_no_problem() -> None:
    made = planned(replace(GEMMA, download=10_000 * GIB), replace(PLENTY, disk=None))
    assert Place.DISK not in made.room


def test_a_model_without_dictionaries_needs_no_line_for_them() -> None:
    made = planned(Sizes(MODEL), GPU_16)
    assert [need.what for need in made.needs] == ["model", "working memory"]


@pytest.mark.parametrize("model", [0, 1000, 100 << 20, MODEL])
def test_a_small_model_has_small_working_memory(model: int) -> None:
    assert working_bytes(model) == min(4 * model, GIB)
    assert working_bytes(model) <= GIB


# --- what there is --------------------------------------------------------------------------------------------------


def test_a_containers_limit_counts_as_memory_and_its_page_cache_as_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text(f"{4 << 20}\n")
    (tmp_path / "memory.current").write_text(f"{3 << 20}\n")
    (tmp_path / "memory.stat").write_text(f"anon 1\nactive_file 7\ninactive_file {1 << 20}\n")
    real = Path
    monkeypatch.setattr(host, "Path", lambda *parts: tmp_path if parts == ("/sys/fs/cgroup",) else real(*parts))
    assert host.host_memory() == (4 << 20, 2 << 20)
    (tmp_path / "memory.max").write_text("max\n")
    total, free = host.host_memory()
    assert total > 4 << 20, "`max` is no limit"
    assert 0 < free <= total


def test_the_free_space_of_a_folder_that_is_not_there_yet_is_that_of_the_disk_it_would_lie_on(tmp_path: Path) -> None:
    here, there = memory.disk_free(tmp_path), memory.disk_free(tmp_path / "not" / "yet" / "there")
    assert here is not None
    assert there is not None
    assert abs(here - there) < 1 << 30
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize(
    ("free", "needed", "index", "spread"),
    [
        ([8, 24], 5, 0, False),
        ([8, 24], 20, 1, False),
        ([8, 24], 30, 0, True),
        ([8, 24], 33, 0, False),
        ([8], 20, 0, False),
    ],
)
def test_the_first_gpu_with_room_is_taken_and_all_of_them_where_none_has_it(
    monkeypatch: pytest.MonkeyPatch, free: list[int], needed: int, index: int, spread: bool
) -> None:
    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: len(free))
    monkeypatch.setattr(torch, "cuda", cuda)
    monkeypatch.setattr(memory, "device_memory", lambda device: free[device.index])
    assert memory.choose_gpu(needed) == (torch.device("cuda", index), spread)


def test_without_a_gpu_it_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert memory.choose_gpu(5) == (torch.device("cpu"), False)
    assert memory.device_memory(torch.device("cpu")) is None
