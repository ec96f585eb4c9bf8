"""How much memory and how many cores this process may use."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def host_memory() -> tuple[int, int]:
    """Bytes of memory in all and free, as this process may use them: a container's limit counts."""
    import psutil

    state = psutil.virtual_memory()
    total, free = int(state.total), int(state.available)
    for limit, used in _cgroup_limits():
        total, free = min(total, limit), min(free, max(0, limit - used))
    return total, free


def _cgroup_limits() -> list[tuple[int, int]]:
    """Limit and use of the memory that a container gives this process, where it gives one (cgroup 2 and 1)."""
    found: list[tuple[int, int]] = []
    base = Path("/sys/fs/cgroup")
    for limit, used, stat in (
        (base / "memory.max", base / "memory.current", base / "memory.stat"),
        (base / "memory/memory.limit_in_bytes", base / "memory/memory.usage_in_bytes", base / "memory/memory.stat"),
    ):
        with suppress(OSError, ValueError):
            found.append((int(limit.read_text()), int(used.read_text()) - _page_cache(stat)))
    return found


def _page_cache(stat: Path) -> int:
    """Bytes of a cgroup's use that are file pages, which go when memory is wanted."""
    for line in stat.read_text().splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0


SMALL = 20_000_000
"""Parameters up to which a model's matrices are so small that threads wait for one another longer than they compute."""


def use_cores(parameters: int) -> None:
    """Has torch compute a model of so many parameters on every core that this process may use, a small one on one.

    Threads that wait spin, and take a core from a screen or another program. OMP_NUM_THREADS has the last word.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1 if parameters <= SMALL else cores())


def cores() -> int:
    """Cores that this process may use: real ones, as far as its affinity and its container's share go."""
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    counts = [allowed, psutil.cpu_count(logical=False) or allowed]
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()  # "max 100000" where there is no limit
        counts.append(round(int(quota) / int(period)))
    return max(1, min(counts))
