"""What numbers were measured with, as JSON, and in what two such configurations differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Json = dict[str, Any]

WORDS = {
    "format": "the layout of files",
    "program": "the program's version",
    "model": "the model's name",
    "weights": "the model's weights",
    "device": "--device",
    "dtype": "--dtype",
    "chat": "--chat",
    "dictionaries": "the dictionaries",
    "facts": "the facts",
}
"""Key of a configuration → what a person calls it."""


def read_configuration(file: Path) -> Json | None:
    """The JSON object in `file`; None where there is none, or none that can be read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def differences(before: Mapping[str, Any], asked: Mapping[str, Any], words: Mapping[str, str] = WORDS) -> list[str]:
    """What of `asked` is not as it was, in a person's words, in the order of `asked`."""
    return [words.get(key, key) for key in asked if before.get(key) != asked[key]]
