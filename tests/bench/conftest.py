"""A random model of the shape `tiny` with dictionaries at every kind of site, and the ways to ask it."""

from __future__ import annotations

import pytest
import torch

from knowscope_tui.bench.saelens import Bridge
from knowscope_tui.bench.shapes import KINDS, SHAPES
from knowscope_tui.bench.subject import Subject, make_subject


@pytest.fixture(scope="session")
def subject() -> Subject:
    return make_subject(SHAPES["tiny"], KINDS, torch.device("cpu"), torch.float32, seed=3)


@pytest.fixture(scope="session")
def bridge(subject: Subject) -> Bridge:
    return Bridge(subject)
