"""The unchanged upper layers of one fact as CUDA graphs, one for each layer that a run can start at.

Launching the kernels of a layer one by one takes a processor longer than a GPU takes to run them. A graph is captured
the first time that its start layer is asked for, from static buffers: later runs copy what enters the layer into
place and replay. Elsewhere than on one GPU, and where capturing fails, the layers run one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.readout import logits_of
from knowscope_tui.engine.sites import layer_device
from knowscope_tui.engine.suffix import KeysValues, Suffix

ONE_ROW = torch.zeros(1, dtype=torch.long)
"""The one row belongs to the one fact."""


@dataclass(frozen=True)
class Climbed:
    """What came out of the upper layers."""

    logits: Tensor
    """Where the answer is predicted: (n_answer, vocabulary)."""
    keys_values: tuple[KeysValues, ...]
    """Of each layer that ran."""


@dataclass(frozen=True)
class _Captured:
    graph: Any
    entering: Tensor
    """The static buffer that a run fills: (1, tokens, d_model)."""
    climbed: Climbed
    """The static buffers that a replay fills."""


class SuffixGraphs:
    """Runs the layers from some layer up, for one row of the one fact of `suffix`."""

    def __init__(self, lm: LanguageModel, suffix: Suffix) -> None:
        self._lm, self._suffix = lm, suffix
        self._captured: dict[int, _Captured] = {}
        self._pool: Any = None
        devices = {layer_device(lm.model, layer) for layer in range(lm.n_layers)}
        self._usable = lm.device.type == "cuda" and len(devices) == 1

    @torch.no_grad()
    def run(self, layer: int, hidden: Tensor) -> Climbed:
        """From what enters `layer` (or the final norm, behind the last), (1, tokens, d_model)."""
        if not self._usable:
            return self._climb(layer, hidden)
        if layer not in self._captured:
            # The eager run warms the kernels up, which capturing needs, and is the answer of this time.
            climbed = self._climb(layer, hidden)
            self._capture(layer, hidden)
            return climbed
        captured = self._captured[layer]
        captured.entering.copy_(hidden)
        captured.graph.replay()
        return captured.climbed

    def _climb(self, layer: int, hidden: Tensor) -> Climbed:
        """The layers one by one."""
        seen: list[KeysValues] = []
        for number in range(layer, self._lm.n_layers):
            hidden, keys_values = self._suffix.run_layer(number, hidden, ONE_ROW)
            seen.append(keys_values)
        question = self._suffix.trace.questions[0]
        first = question.last - self._suffix.starts[0]
        logits = logits_of(self._lm, hidden[0, first : first + len(question.answer_ids)])
        return Climbed(logits, tuple(seen))

    def _capture(self, layer: int, hidden: Tensor) -> None:
        """Captures the run from `layer` up; where that fails, nothing is captured any more."""
        entering = hidden.clone()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                climbed = self._climb(layer, entering)
        except RuntimeError:
            self._usable = False
            return
        self._pool = graph.pool()
        self._captured[layer] = _Captured(graph, entering, climbed)
