"""What is timed: one model, its dictionaries, and one question about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

import torch

from knowscope_tui.bench.random_dictionaries import random_library
from knowscope_tui.bench.random_model import random_model
from knowscope_tui.bench.shapes import Shape
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.units import SiteKind
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel, Question

PROMPT, ANSWER = "Every schoolbook gives the capital of France as", "Paris"

T = TypeVar("T")


@dataclass(frozen=True)
class Subject:
    """A random model with its dictionaries, and a question whose answer is one token."""

    shape: Shape
    lm: LanguageModel
    library: Library
    question: Question

    def timed(self, task: Callable[[], T]) -> tuple[float, T]:
        """Seconds that `task` takes until the device has nothing left to do, and what it returns."""
        self._finish()
        started = perf_counter()
        result = task()
        self._finish()
        return perf_counter() - started, result

    def _finish(self) -> None:
        if self.lm.device.type == "cuda":
            torch.cuda.synchronize(self.lm.device)


def make_subject(
    shape: Shape,
    kinds: Sequence[SiteKind],
    device: torch.device,
    dtype: torch.dtype,
    seed: int,
    on_progress: OnProgress = silent,
) -> Subject:
    on_progress("Making the model", None)
    lm = random_model(shape, seed, device, dtype)
    question = lm.ask(PROMPT, ANSWER)
    return Subject(shape, lm, random_library(lm, shape, question, kinds, seed, on_progress), question)
