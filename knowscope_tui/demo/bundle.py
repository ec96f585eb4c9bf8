"""Where the embedded model, its dictionaries and its card lie inside the package."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from knowscope_tui.core.units import SiteKind
from knowscope_tui.errors import ModelNotLoaded

KINDS = (SiteKind.ATTN_Z, SiteKind.MLP_OUT, SiteKind.RESID_POST)
"""Sites that the demo has a dictionary for in every layer."""

MODEL, DICTIONARIES, CARD = "model", "dictionaries", "card.json"


def folder() -> Path:
    """The bundle's folder. Raises `ModelNotLoaded` when the package was installed without it."""
    path = Path(str(resources.files("knowscope_tui.demo"))) / "bundle"
    if not (path / CARD).is_file():
        raise ModelNotLoaded("The embedded demo is not installed.", "Build it with `knowscope-tui demo build`.")
    return path


def model_folder() -> Path:
    return folder() / MODEL


def dictionary_folders(bundle: Path | None = None) -> dict[SiteKind, Path]:
    """Site kind → the folder that holds its dictionaries, one a layer."""
    base = (folder() if bundle is None else bundle) / DICTIONARIES
    return {kind: base / kind.value for kind in KINDS}


def card() -> dict[str, Any]:
    """What was measured on the bundle when it was built."""
    content: dict[str, Any] = json.loads((folder() / CARD).read_text(encoding="utf-8"))
    return content
