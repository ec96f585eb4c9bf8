"""Between the host and a GPU without making either wait for the other."""

from __future__ import annotations

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`; to a GPU through pinned memory, so that what it still computes is not waited for."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class Landing:
    """A vector on its way to the host; `values` waits for it, and for nothing that was started later."""

    def __init__(self, vector: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if vector.device.type != "cuda":
            self._host = vector
            return
        self._host = torch.empty(vector.shape, dtype=vector.dtype, pin_memory=True)
        self._host.copy_(vector, non_blocking=True)
        self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        # The stream of the vector's device, which need not be torch's current one.
        self._event.record(torch.cuda.current_stream(vector.device))

    def values(self) -> list[float]:
        if self._event is not None:
            self._event.synchronize()
        values: list[float] = self._host.tolist()
        return values
