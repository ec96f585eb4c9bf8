"""A saved checkpoint onto the hub, by itself: after an upload that failed, or from another machine."""

from __future__ import annotations

from pathlib import Path

from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.engine.upload import check_repo, push


def check_push(repo: str) -> None:
    """Raises `HubError` for a name that cannot be, offline, and without a token; the hub is not asked."""
    check_repo(repo)


def push_folder(folder: Path, repo: str, *, private: bool = True, on_progress: OnProgress = silent) -> str:
    """Uploads the saved checkpoint `folder` as `repo`, owner/name; its address. Raises `HubError` or `SaveError`."""
    return push(folder, repo, private=private, on_progress=on_progress)
