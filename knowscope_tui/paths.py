"""Paths that a person typed, and where a person's own files lie (XDG). Nothing here creates a folder."""

from __future__ import annotations

import os
from pathlib import Path

APP = "knowscope-tui"


def typed_path(text: str) -> Path:
    """The path that a person typed, with `~` expanded; one of a user who does not exist stays as it is."""
    return Path(os.path.expanduser(text))


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
