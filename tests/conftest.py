"""What every room's tests share: a tiny random model with dictionaries, and the embedded demo."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.disk import Disk, recorded

if TYPE_CHECKING:
    from knowscope_tui.core.facts import Fact
    from knowscope_tui.core.units import SiteKind
    from knowscope_tui.engine.library import Library
    from knowscope_tui.engine.model import LanguageModel
    from knowscope_tui.session.scope import Scope

# Nothing here may reach out, and two workers on two cores are faster with a thread each.
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", WANDB_MODE="disabled", OMP_NUM_THREADS="1")

# No test reads or writes the caches of whoever runs it, this program's or the hub's. Goes when the process ends.
_CACHES = tempfile.TemporaryDirectory(prefix="knowscope-tests-", ignore_cleanup_errors=True)
os.environ.update(XDG_CACHE_HOME=_CACHES.name, HF_HOME=os.path.join(_CACHES.name, "huggingface"))
os.environ["XDG_STATE_HOME"] = os.path.join(_CACHES.name, "state")
for _name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN"):
    os.environ.pop(_name, None)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Gemma-2 in a Hugging Face folder (see `tests.tiny`)."""
    from tests.tiny import save_tiny_model

    folder = tmp_path_factory.mktemp("tiny") / "model"
    save_tiny_model(folder)
    return folder


@pytest.fixture(scope="session")
def lm(tiny_folder: Path) -> LanguageModel:
    """The tiny model, loaded. Shared: a test that changes it takes the change back."""
    from knowscope_tui.engine.loading import load_model

    return load_model(str(tiny_folder), device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def sources(tiny_folder: Path, lm: LanguageModel) -> dict[SiteKind, Path]:
    """Site kind → folder of the tiny model's random dictionaries, in sae-lens's layout."""
    from tests.tiny import DICTIONARY_KINDS, save_dictionaries

    folder = tiny_folder.parent / "dictionaries"
    save_dictionaries(lm, folder)
    return {kind: folder / kind.value for kind in DICTIONARY_KINDS}


@pytest.fixture(scope="session")
def library(lm: LanguageModel, sources: dict[SiteKind, Path]) -> Library:
    from knowscope_tui.engine.library import load_library

    return load_library(lm, sources.items())


@pytest.fixture(scope="session")
def facts(lm: LanguageModel) -> list[Fact]:
    """Facts that the tiny model knows, each with a paraphrase it knows too."""
    from tests.tiny import known_facts

    return known_facts(lm, 12)


@pytest.fixture
def untouched(lm: LanguageModel) -> Iterator[None]:
    """Fails a test that leaves a hook on the tiny model or a bit of it changed."""
    from tests.tiny import bits, hook_count

    before, hooks = bits(lm.model), hook_count(lm.model)
    yield
    assert hook_count(lm.model) == hooks
    assert bits(lm.model) == before


@pytest.fixture(scope="session")
def demo_scope() -> Scope:
    """The embedded demo as it is shipped. Shared: a test that edits it undoes the edit."""
    import knowscope_tui

    return knowscope_tui.open(device="cpu", dtype="float32")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """What is made safe on the disk and renamed from here on."""
    return recorded(monkeypatch)
