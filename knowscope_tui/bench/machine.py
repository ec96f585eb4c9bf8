"""What a measurement was made on and with."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from knowscope_tui.bench.threads import binding
from knowscope_tui.engine.host import host_memory

PACKAGES = ("knowscope-tui", "torch", "transformers", "sae-lens", "transformer-lens")


def machine(device: torch.device) -> dict[str, Any]:
    """Processor, cores, threads that torch uses, the last minute's load, memory, and the GPU that computes, if any."""
    return {
        "platform": platform.platform(terse=True),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "thread_binding": binding(),
        "load": _load(),
        "memory_bytes": host_memory()[0],
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _load() -> float | None:
    """Threads that wanted to run, on average; this process counts as well."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None


def _cpu_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
