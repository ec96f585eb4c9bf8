"""How much memory a task takes at its peak, over what is in use when it starts."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

RESET_PEAK = "5"
"""What Linux is told for `VmHWM` to start anew (proc(5), /proc/pid/clear_refs)."""


def peak_extra_bytes(device: torch.device, task: Callable[[], object]) -> int | None:
    """Bytes that `task` takes at its peak on `device`; None where the system does not tell."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        task()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    _trim()
    before_or_none = _status("VmRSS") if _reset_peak() else None
    task()
    peak = _status("VmHWM")
    return None if before_or_none is None or peak is None else max(0, peak - before_or_none)


def _trim() -> None:
    """Gives free memory of the C library back, which a task would use again without it being counted."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    except OSError:
        return False
    return True


def _status(name: str) -> int | None:
    """A size from /proc/self/status, in bytes."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None
