"""How fast this machine reads memory and multiplies matrices, measured: what floors are made of."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from knowscope_tui.bench.result import Rates

STREAM_BYTES = 1_200_000_000
"""What is read through: several times a processor's last cache."""
COLUMNS = 8192
SIDE = {"cpu": 3072, "cuda": 8192}
"""Of the matrices that are multiplied."""
TRIES = 5


@torch.no_grad()
def measure_rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """Bytes a second read, and operations a second in matrix products of `dtype`; the best of several tries each."""
    return Rates(_bytes_per_second(device, dtype), _operations_per_second(device, dtype))


def _bytes_per_second(device: torch.device, dtype: torch.dtype) -> float:
    """The fastest of three ways through memory: a matrix-vector product, a sum, and on a GPU a copy."""
    weights = torch.full((STREAM_BYTES // dtype.itemsize // COLUMNS, COLUMNS), 0.01, dtype=dtype, device=device)
    vector = torch.ones(COLUMNS, dtype=dtype, device=device)
    numbers = weights.view(torch.float32)
    ways: list[tuple[int, Callable[[], Tensor]]] = [
        (weights.nbytes, lambda: weights @ vector),
        (weights.nbytes, numbers.sum),
    ]
    if device.type == "cuda":
        target = torch.empty_like(weights)
        ways.append((2 * weights.nbytes, lambda: target.copy_(weights)))
    return max(nbytes / _best_seconds(run, device) for nbytes, run in ways)


def _operations_per_second(device: torch.device, dtype: torch.dtype) -> float:
    side = SIDE.get(device.type, SIDE["cpu"])
    matrix = torch.full((side, side), 0.01, dtype=dtype, device=device)
    return 2 * side**3 / _best_seconds(lambda: matrix @ matrix, device)


def _best_seconds(run: Callable[[], Any], device: torch.device) -> float:
    seconds = []
    for _ in range(TRIES + 1):
        _finish(device)
        started = perf_counter()
        run()
        _finish(device)
        seconds.append(perf_counter() - started)
    return min(seconds[1:])


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
