"""What lands on the host is waited for, and nothing else is: the logic on the CPU, with stand-ins for CUDA's parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from knowscope_tui.engine.transfer import Landing


class Stream:
    """Work in the order it was queued, done when somebody waits for it."""

    def __init__(self) -> None:
        self.queued: list[Any] = []

    def until(self, count: int) -> None:
        """Carries out the first `count` of everything ever queued."""
        for number in range(count):
            work, self.queued[number] = self.queued[number], lambda: None
            work()


class Event:
    """A mark in a stream."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.count = 0

    def record(self, stream: Stream) -> None:
        self.stream, self.count = stream, len(stream.queued)

    def synchronize(self) -> None:
        if self.stream is not None:
            self.stream.until(self.count)


class OnGpu:
    """A vector that a GPU has yet to compute."""

    dtype = torch.float32

    def __init__(self, values: list[float], number: int = 0) -> None:
        self.values = torch.tensor(values)
        self.shape = self.values.shape
        self.device = torch.device("cuda", number)


class Pinned:
    """Pinned memory, into which copies are queued on the stream of where they come from."""

    def __init__(self, size: Any, streams: dict[torch.device, Stream]) -> None:
        self.tensor, self.streams = torch.full(size, torch.nan), streams

    def copy_(self, vector: OnGpu, *, non_blocking: bool) -> None:
        assert non_blocking
        self.streams[vector.device].queued.append(lambda: self.tensor.copy_(vector.values))

    def tolist(self) -> list[float]:
        return self.tensor.tolist()


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> dict[torch.device, Stream]:
    """The streams of two GPUs, of which the first one's is torch's current one."""
    devices = [torch.device("cuda", number) for number in range(2)]
    found = {device: Stream() for device in devices}
    empty = torch.empty

    def pinned(size: Any, *, dtype: torch.dtype, pin_memory: bool = False) -> Any:
        return Pinned(size, found) if pin_memory else empty(size, dtype=dtype)

    monkeypatch.setattr(torch, "empty", pinned)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: found[device or devices[0]])
    return found


@pytest.mark.parametrize("number", [0, 1])
def test_values_wait_for_their_own_copy_and_for_nothing_that_was_started_later(
    streams: dict[torch.device, Stream], number: int
) -> None:
    """On either GPU: the copy is queued on the stream of the vector's own device."""
    first = Landing(OnGpu([0.25, 0.5], number))  # type: ignore[arg-type]
    second = Landing(OnGpu([0.75], number))  # type: ignore[arg-type]
    later = pytest.fail
    streams[torch.device("cuda", number)].queued.append(lambda: later("what was started later was waited for"))
    assert first._host.tolist() != [0.25, 0.5]
    assert first.values() == [0.25, 0.5]
    assert second._host.tolist() != [0.75]
    assert second.values() == [0.75]
    assert first.values() == [0.25, 0.5]


def test_a_vector_on_the_host_is_there_at_once(streams: dict[torch.device, Stream]) -> None:
    assert Landing(torch.tensor([0.5, 1.0])).values() == [0.5, 1.0]
    assert not any(stream.queued for stream in streams.values())
