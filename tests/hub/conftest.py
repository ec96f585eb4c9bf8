"""The hub and its repositories. The folders are shared: a test that changes files copies them first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.hub.server import HubServer


@pytest.fixture(scope="session")
def hub_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every repository of `tests.hub.repositories` at its tiny size."""
    from tests.hub.repositories import save_tiny_hub

    root = tmp_path_factory.mktemp("hub")
    save_tiny_hub(root)
    return root


@pytest.fixture(scope="session")
def true_size_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Gemma 2 2B of one layer and its dictionaries, as wide as the real ones: sae-lens loads those only."""
    from tests.hub.repositories import save_true_sizes

    root = tmp_path_factory.mktemp("true-sizes")
    save_true_sizes(root)
    return root


@pytest.fixture
def hub(hub_root: Path) -> Iterator[HubServer]:
    """A server of the tiny repositories, without faults."""
    from tests.hub.server import HubServer

    with HubServer(hub_root) as server:
        yield server


@pytest.fixture
def true_size_hub(true_size_root: Path) -> Iterator[HubServer]:
    """A server of the repositories of the true sizes."""
    from tests.hub.server import HubServer

    with HubServer(true_size_root) as server:
        yield server
