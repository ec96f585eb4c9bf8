"""The unchanged upper layers of one fact as CUDA graphs, one for each layer that a run can start at.

Launching the kernels of a layer one by one takes a processor longer than a GPU takes to run them. The first run from a
layer goes kernel by kernel and warms them up; the second captures a graph from static buffers; from then on what
enters the layer is copied into place and the graph is replayed. Elsewhere than on one GPU, and where capturing fails or
what is replayed is not what was run, the layers run one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
    """Of each layer that ran, for the row's own tokens."""


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
        self._ran: set[int] = set()
        self._pool: Any = None
        devices = {layer_device(lm.model, layer) for layer in range(lm.n_layers)}
        self._usable = lm.device.type == "cuda" and len(devices) == 1

    @torch.no_grad()
    def run(self, layer: int, hidden: Tensor) -> Climbed:
        """From what enters `layer` (or the final norm, behind the last), (1, tokens, d_model).

        What it returns holds until the next run.
        """
        if self._usable and layer in self._ran and layer not in self._captured:
            self._capture(layer, hidden)
        self._ran.add(layer)
        if layer not in self._captured:
            return self._climb(layer, hidden)
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
        """Captures the run from `layer` up; where that fails or is wrong, nothing is captured any more."""
        device, entering = hidden.device, hidden.clone()
        plain = self._climb(layer, hidden).logits
        graph = torch.cuda.CUDAGraph()
        try:
            with capturing(graph, self._pool, device):
                climbed = self._climb(layer, entering)
            graph.replay()
            self._usable = torch.allclose(climbed.logits.float(), plain.float(), rtol=1e-2, atol=1e-2)
        except RuntimeError:
            self._usable = False
        if self._usable:
            self._pool = graph.pool()
            self._captured[layer] = _Captured(graph, entering, climbed)
        else:
            self._captured.clear()


@contextmanager
def capturing(graph: Any, pool: Any, device: torch.device) -> Iterator[None]:
    """Within the block what runs on `device` goes into `graph`; the current stream is the same again afterwards."""
    before = torch.cuda.current_stream(device)
    # Its own stream, on this device: torch's is on whichever device was current when it was first used.
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    try:
        with torch.cuda.device(device), torch.cuda.graph(graph, pool, stream):
            yield
    finally:
        torch.cuda.set_stream(before)
