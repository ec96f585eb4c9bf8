"""What this machine has for the program, as plain values. Nothing here fails because something is missing."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from knowscope_tui.errors import ConfigError, KnowscopeError

PACKAGES = ("torch", "transformers", "sae-lens", "textual", "rich", "click", "safetensors", "huggingface-hub", "numpy")

KNOWN = (
    "google/gemma-2-2b",
    "google/gemma-2-9b",
    "google/gemma-scope-2b-pt-res",
    "google/gemma-scope-2b-pt-mlp",
    "google/gemma-scope-2b-pt-att",
)
"""What a person most likely wants from the hub."""

Json = dict[str, Any]


def diagnose() -> Json:
    """Versions, devices, memory, the demo, the configuration file, and what the hub's cache holds."""
    cached = _cached()
    names = {entry["name"] for entry in cached}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "versions": _versions(),
        "devices": _devices(),
        "memory": _memory(),
        "demo": _demo(),
        "config": _config(),
        "cached": cached,
        "missing": [name for name in KNOWN if name not in names],
    }


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in ("knowscope-tui", *PACKAGES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _devices() -> list[Json]:
    try:
        import torch
    except ImportError:
        return []
    devices: list[Json] = [{"device": "cpu", "name": platform.machine(), "threads": torch.get_num_threads()}]
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        with torch.cuda.device(index):
            bf16 = torch.cuda.is_bf16_supported()
        devices.append(
            {
                "device": f"cuda:{index}",
                "name": torch.cuda.get_device_name(index),
                "bfloat16": bf16,
                "free_bytes": free,
                "total_bytes": total,
            }
        )
    return devices


def _memory() -> dict[str, int | None]:
    found: dict[str, int | None] = {"total_bytes": None, "available_bytes": None}
    with suppress(AttributeError, OSError, ValueError):
        found["total_bytes"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                found["available_bytes"] = int(line.split()[1]) * 1024
    return found


def _demo() -> Json:
    from knowscope_tui.demo import bundle

    try:
        folder = bundle.model_folder().parent
    except KnowscopeError as error:
        return {"installed": False, "hint": error.hint}
    return {
        "installed": True,
        "folder": str(folder),
        "bytes": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()),
    }


def _config() -> Json:
    from knowscope_tui.config import load_settings
    from knowscope_tui.paths import config_file

    file = config_file()
    if not file.is_file():
        return {"file": str(file), "state": "absent"}
    try:
        load_settings(file)
    except ConfigError as error:
        return {"file": str(file), "state": "broken", "what": error.what}
    return {"file": str(file), "state": "used"}


def _cached() -> list[Json]:
    """Repositories in the hub's cache, largest first."""
    try:
        from huggingface_hub import scan_cache_dir

        repositories = scan_cache_dir().repos
    except Exception:  # No cache, an unreadable one, no hub package: all of them mean that nothing is cached.
        return []
    rows = [{"name": repo.repo_id, "kind": repo.repo_type, "bytes": repo.size_on_disk} for repo in repositories]
    return sorted(rows, key=lambda row: (-int(row["bytes"]), row["name"]))
