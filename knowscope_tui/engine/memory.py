"""What fits where: decided before anything is loaded, from sizes alone.

- The model lies on its device whole.
- Dictionaries are mapped from disk. On a GPU, encoders are copied there as they are used, within a budget; on the CPU
  they are read where they are mapped, which takes page cache and no memory that cannot be dropped.
- Converting a published dictionary for the first time takes host memory for one at a time.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from knowscope_tui.core.memory import MemoryPlan, Need, Place
from knowscope_tui.text import count, file_size

WORKING_BYTES = 1 << 30
"""Logits, activations and gradients of what is asked of a large model at once."""

WORKING_SHARE = 4
"""Times the model that this comes to at most: a small model has small ones."""

RESERVE = 0.05
"""Share of a device that is left free: its allocator loses some to fragments."""

CONVERSION_FACTOR = 3
"""Times its published size that a dictionary takes on the host while it is converted."""


@dataclass(frozen=True)
class Sizes:
    """What is to be loaded, in bytes."""

    model: int
    encoders: int = 0
    """All encoders, as they would lie on a device."""
    mapped: int = 0
    """All dictionaries, as files."""
    download: int = 0
    convert: int = 0
    """What conversion will add to the cache."""
    largest_published: int = 0
    """The largest dictionary that is still to be converted, as published."""
    dictionaries: int = 0


@dataclass(frozen=True)
class Room:
    """Free bytes: on the device (None on the CPU), on the host, and on the disk that holds the caches."""

    host: int
    device: int | None = None
    disk: int | None = None


def plan(device: str, sizes: Sizes, room: Room, *, sae_memory: int | None, dtype: str) -> MemoryPlan:
    """What goes where, with a `problem` where it cannot. `dtype` is the model's, for the suggestion."""
    on_gpu = room.device is not None
    place = Place.DEVICE if on_gpu else Place.HOST
    conversion = CONVERSION_FACTOR * sizes.largest_published
    budget = _encoder_budget(sizes, room, sae_memory)
    needs = [Need("model", place, sizes.model), Need("working memory", place, working_bytes(sizes.model))]
    if on_gpu and sizes.encoders:
        needs.append(Need("encoders", Place.DEVICE, budget))
    if sizes.mapped:
        needs.append(Need(count(sizes.dictionaries, "dictionary", "dictionaries"), Place.MAPPED, sizes.mapped))
    if conversion:
        needs.append(Need("conversion, one at a time", Place.HOST, conversion))
    if sizes.download:
        needs.append(Need("download", Place.DISK, sizes.download))
    if sizes.convert:
        needs.append(Need("converted dictionaries", Place.DISK, sizes.convert))
    known = {Place.DEVICE: room.device, Place.HOST: room.host, Place.DISK: room.disk}
    free = {place: size for place, size in known.items() if size is not None}
    made = MemoryPlan(device, tuple(needs), free, sizes.encoders, budget)
    problem, hint = _problem(made, sizes, dtype)
    return MemoryPlan(device, tuple(needs), free, sizes.encoders, budget, problem, hint)


def working_bytes(model: int) -> int:
    """What is needed beside a model of so many bytes."""
    return min(WORKING_BYTES, WORKING_SHARE * model)


def _encoder_budget(sizes: Sizes, room: Room, sae_memory: int | None) -> int:
    """Bytes of the device for encoders: all of them where there is room, never more than was allowed."""
    if room.device is None:
        return 0
    left = int(room.device * (1 - RESERVE)) - sizes.model - working_bytes(sizes.model)
    wanted = sizes.encoders if sae_memory is None else min(sizes.encoders, sae_memory)
    return max(0, min(wanted, left))


def _problem(made: MemoryPlan, sizes: Sizes, dtype: str) -> tuple[str, str]:
    """What does not fit, and what would."""
    for place, where in ((Place.DEVICE, made.device), (Place.HOST, "this machine's memory"), (Place.DISK, "the disk")):
        if place not in made.room:
            continue
        needed, free = made.total(place), made.room[place]
        if needed > free:
            return (
                f"This needs {file_size(needed)} of {where}, and {file_size(free)} are free.",
                _suggestion(made, place, sizes, dtype),
            )
    return "", ""


def _suggestion(made: MemoryPlan, place: Place, sizes: Sizes, dtype: str) -> str:
    if place is Place.DISK:
        return "Take fewer dictionaries (--layers 10-20, or --sae none), or point HF_HOME and XDG_CACHE_HOME elsewhere."
    saved = sizes.model // 2
    if dtype == "float32" and made.total(place) - saved <= made.room[place]:
        return f"--dtype bfloat16 needs {file_size(saved)} less."
    if place is Place.DEVICE and made.room.get(Place.HOST, 0) > sizes.model + working_bytes(sizes.model):
        return "Use --device cpu, or a smaller model."
    return "Use a smaller model, or a machine with more memory."


# --- what there is --------------------------------------------------------------------------------------------------


def device_memory(device: torch.device) -> int | None:
    """Free bytes of a GPU; None for the CPU."""
    if device.type != "cuda":
        return None
    try:
        free, _total = torch.cuda.mem_get_info(device)
    except RuntimeError:  # Even asking takes some memory, which a card that others have filled does not have.
        return 0
    return int(free)


def choose_gpu(needed: int) -> tuple[torch.device, bool]:
    """The first GPU with `needed` bytes free; where none has them, the first, and whether all together have.

    The CPU where there is no GPU.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu"), False
    free: list[int] = []
    for index in range(torch.cuda.device_count()):
        free.append(device_memory(torch.device("cuda", index)) or 0)
        if free[-1] >= needed:
            return torch.device("cuda", index), False
    return torch.device("cuda", 0), len(free) > 1 and sum(free) * (1 - RESERVE) >= needed


def disk_free(folder: Path) -> int | None:
    """Free bytes of the disk that `folder` lies on, or would."""
    import shutil

    for place in (folder, *folder.parents):
        with suppress(OSError):
            return shutil.disk_usage(place).free
    return None
