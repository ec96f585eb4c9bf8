"""An injected model as a folder that plain transformers loads, there whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from knowscope_tui.core.injection import INJECTION
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.saving.folder import beside
from knowscope_tui.engine.saving.save import versions

PACKAGES = ("knowscope-tui", "torch", "transformers", "safetensors", "peft")
"""Whose versions the record holds."""


def write_model(lm: LanguageModel, target: Path, record: Mapping[str, Any]) -> None:
    """Writes `lm` as it stands, its tokenizer and `record`, which must hold no text of a fact. Raises `SaveError`."""
    with beside(target) as partial:
        lm.model.save_pretrained(partial)
        plain = (partial / "config.json").stat().st_mode & 0o777
        for file in partial.glob("*.safetensors"):
            file.chmod(plain)  # safetensors writes files that only their owner can read.
        lm.tokenizer.save_pretrained(partial)
        text = json.dumps({**record, "versions": versions(PACKAGES)}, ensure_ascii=False, indent=2, allow_nan=False)
        (partial / INJECTION).write_text(f"{text}\n", encoding="utf-8")
