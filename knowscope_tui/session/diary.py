"""What stays of a session on this machine: a log of edits, and what a crash leaves. Readable by its owner alone.

Neither holds the text of a fact: the log names facts by id or salted hash, and a crash file holds where the fault was
and of which type, never its message, its values or lines of source. A folder that cannot be written to is no reason to
stop: what would have been written is not.
"""

from __future__ import annotations

import json
import os
import platform
import time
import traceback
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from knowscope_tui.paths import state_folder

LOG = "edits.jsonl"
OWNER_ONLY, OWNER_FILE = 0o700, 0o600
PACKAGES = ("knowscope-tui", "torch", "transformers", "textual")


class Diary:
    """Writes to `folder`, by default the user's state folder, which is made when something is first written."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def note(self, what: str, about: Mapping[str, Any]) -> None:
        """Adds a line to the log: what was done, when, and `about` it, which must hold no text of a fact."""
        line = json.dumps({"at": _now(), "did": what, **about}, ensure_ascii=False)
        try:
            with _private(self._made() / LOG, os.O_APPEND) as log:
                log.write(f"{line}\n")
        except OSError:
            return

    def crash(self, error: BaseException) -> Path | None:
        """Writes where `error` came from; the file, or None where it could not be written."""
        frames = traceback.extract_tb(error.__traceback__)
        lines = [
            f"{type(error).__module__}.{type(error).__qualname__} at {_now()}",
            *(f"  {_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames),
            f"Python {platform.python_version()} on {platform.system()}",
            *(f"{name} {metadata.version(name)}" for name in PACKAGES),
        ]
        try:
            file = self._made() / f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
            with _private(file, os.O_TRUNC) as out:
                out.write("\n".join(lines) + "\n")
        except OSError:
            return None
        return file

    def _made(self) -> Path:
        """The folder, made or mended so that nobody else can look into it."""
        folder = state_folder() if self._folder is None else self._folder
        folder.mkdir(mode=OWNER_ONLY, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o777 != OWNER_ONLY:
            folder.chmod(OWNER_ONLY)
        return folder


def _private(file: Path, how: int) -> Any:
    """`file` opened for writing text; made so that only its owner can read it."""
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | how, OWNER_FILE), "w", encoding="utf-8")


def _short(path: str) -> str:
    """The end of a path, without the user's own folders in it."""
    return "/".join(Path(path).parts[-3:])


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
