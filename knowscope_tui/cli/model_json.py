"""What is open as a JSON object. The session's word for it is not the core's, so that this is not in `core.as_json`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from knowscope_tui.core.as_json import memory_json
from knowscope_tui.session.protocol import ModelInfo


def model_json(info: ModelInfo) -> dict[str, Any]:
    """What `open --json` prints, and `doctor --json` under `model`."""
    in_use = [asdict(dictionary) | {"site": str(dictionary.site)} for dictionary in info.dictionaries]
    return asdict(info) | {"dictionaries": in_use, "plan": memory_json(info.plan)}
