"""What numbers depend on, as JSON: what was measured with anything else is not gone on with.

Of the device it is the type. Other processors, libraries and batches round differently, and are not told apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from knowscope_tui import __version__
from knowscope_tui.core.configuration import Json
from knowscope_tui.core.facts import Fact
from knowscope_tui.engine.fingerprint import dictionary_fingerprint, weights_fingerprint
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel


def identity(lm: LanguageModel, library: Library) -> Json:
    """The program, the model as it stands, edits included, and the dictionaries in use."""
    return {
        "program": __version__,
        "model": lm.name,
        "weights": weights_fingerprint(lm),
        "device": lm.device.type,
        "dtype": str(lm.dtype).removeprefix("torch."),
        "chat": lm.chat,
        "dictionaries": [
            {
                "site": str(site),
                "source": library.at(site).source,
                "features": library.at(site).d_sae,
                "dtype": library.at(site).dtype,
                "fingerprint": dictionary_fingerprint(library.at(site)),
            }
            for site in library.sites
        ],
    }


def identity_of_facts(facts: Sequence[Fact]) -> Json:
    """How many facts, and the SHA-256 of all that they say."""
    return sha256([fact.to_json() for fact in facts])


def sha256(items: Sequence[Any]) -> Json:
    """How many items, and the SHA-256 of their JSON."""
    return {"count": len(items), "sha256": hashlib.sha256(json.dumps(items).encode()).hexdigest()}
