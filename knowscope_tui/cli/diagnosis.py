"""What this machine has for the program, as plain values. Nothing here fails because something is missing."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib import metadata
from typing import Any

from knowscope_tui.errors import ConfigError, KnowscopeError

PACKAGES = ("torch", "transformers", "sae-lens", "textual", "rich", "click", "safetensors", "huggingface-hub", "numpy")

KNOWN_MODELS = ("google/gemma-2-2b", "google/gemma-2-9b")
KNOWN_RELEASES = tuple(f"gemma-scope-2b-pt-{part}-canonical" for part in ("res", "mlp", "att"))
"""What a person most likely wants from the hub."""

Json = dict[str, Any]


def diagnose() -> Json:
    """Versions, devices, memory, the demo, the configuration file, what the caches hold, and what they lack."""
    cached = _cached()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "versions": _versions(),
        "devices": _devices(),
        "memory": _memory(),
        "demo": _demo(),
        "config": _config(),
        "cached": cached,
        "converted": _converted(),
        "missing": _missing({entry["name"] for entry in cached}),
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
    """Of this machine, or of the container that this process runs in."""
    from knowscope_tui.session.machine import host_memory

    total, available = host_memory()
    return {"total_bytes": total, "available_bytes": available}


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
    from knowscope_tui.cli.source import configured
    from knowscope_tui.config import load_settings
    from knowscope_tui.paths import config_file

    file = config_file()
    if not file.is_file():
        return {"file": str(file), "state": "absent"}
    try:
        configured(load_settings(file))
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


def _converted() -> Json:
    """The converted dictionaries: how many, their size, and how many are known to be broken."""
    from knowscope_tui.paths import cache_folder

    found: Json = {"folder": str(cache_folder()), "dictionaries": 0, "bytes": 0, "broken": 0}
    with suppress(KnowscopeError, OSError):
        from knowscope_tui.session import shelf

        rows = shelf.cached()
        found |= {
            "dictionaries": len(rows),
            "bytes": sum(row.bytes for row in rows),
            "broken": sum(bool(row.problem) for row in rows),
        }
    return found


def _missing(cached: set[str]) -> list[str]:
    """Models that are not in the hub's cache, and releases whose usual set is not converted."""
    lacking = [name for name in KNOWN_MODELS if name not in cached]
    with suppress(KnowscopeError, OSError):
        from knowscope_tui.session import shelf

        states = {state.release.name: state for state in shelf.releases("canonical", "gemma-2-2b")}
        for name in KNOWN_RELEASES:
            if name in states and states[name].cached < states[name].usual:
                lacking.append(name)
    return lacking
