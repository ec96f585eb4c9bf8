"""What was made safe on the disk and what was renamed, in order."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest


@dataclass
class Disk:
    """Calls of `os.fsync` by what was synced, and renames by their new name; a file is told by the name it had then."""

    calls: list[tuple[str, Path]] = field(default_factory=list)

    @property
    def synced(self) -> list[Path]:
        return [path for call, path in self.calls if call == "fsync"]

    def place(self, call: str, path: Path) -> int:
        """Where in the order `path` first met `call`. Raises `ValueError` where it never did."""
        return self.calls.index((call, path))


def recorded(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Records from here on; everything is done all the same."""
    disk = Disk()
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def record_fsync(handle: int) -> None:
        fsync(handle)
        disk.calls.append(("fsync", Path(os.readlink(f"/proc/self/fd/{handle}"))))

    def record(how: object) -> object:
        def renamed(source: object, target: object) -> None:
            how(source, target)  # type: ignore[operator]
            disk.calls.append(("rename", Path(str(target))))

        return renamed

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "rename", record(rename))
    monkeypatch.setattr(os, "replace", record(replace))
    return disk
