"""Paths that a person typed, and where a person's own files lie (XDG). Nothing here creates a folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from knowscope_tui.errors import UsageError

APP = "knowscope-tui"


def typed_path(text: str) -> Path:
    """The path that a person typed, with `~` expanded; one of a user who does not exist stays as it is.

    Raises `UsageError` for what the file system takes for no name: too long, or with a NUL in it.
    """
    path = Path(os.path.expanduser(text))
    try:
        os.lstat(path)
    except ValueError:
        raise UsageError("A path with a NUL in it names nothing.", "Type it again.") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UsageError(f"{_shortened(text)!r} is too long for a name.", "Choose a shorter one.") from None
    return path


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"


def config_folder() -> Path:
    """`$XDG_CONFIG_HOME/knowscope-tui`; a relative `$XDG_CONFIG_HOME` is ignored, as the specification says."""
    named = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(named) if named and Path(named).is_absolute() else Path.home() / ".config"
    return base / APP


def config_file() -> Path:
    return config_folder() / "config.toml"


def themes_folder() -> Path:
    """A person's own themes."""
    return config_folder() / "themes"


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/knowscope-tui`: what can be made again. A relative `$XDG_CACHE_HOME` is ignored."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(named) if named and Path(named).is_absolute() else Path.home() / ".cache"
    return base / APP


def state_folder() -> Path:
    """`$XDG_STATE_HOME/knowscope-tui`: the log of edits and crash files. A relative `$XDG_STATE_HOME` is ignored."""
    named = os.environ.get("XDG_STATE_HOME", "")
    base = Path(named) if named and Path(named).is_absolute() else Path.home() / ".local" / "state"
    return base / APP
