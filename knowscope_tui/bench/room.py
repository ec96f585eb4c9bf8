"""Whether a shape fits this machine, before anything of it is made."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from knowscope_tui.bench.random_dictionaries import DTYPE
from knowscope_tui.bench.shapes import KINDS, Shape
from knowscope_tui.core.units import SiteKind
from knowscope_tui.engine.host import host_memory
from knowscope_tui.errors import DoesNotFit
from knowscope_tui.text import file_size

WORKING = 1_500_000_000
"""What libraries, activations and the measurement of the floors take."""
FLOAT32 = 4
MOST_ON_HOST = 4_000_000_000
"""Bytes of dictionaries that are made beside a model on a CPU, unless a person names their kinds."""


def usual_kinds(shape: Shape, device: torch.device) -> tuple[SiteKind, ...]:
    """Every kind; on a CPU `resid_post` alone where all their dictionaries would take more than `MOST_ON_HOST`."""
    few = device.type == "cpu" and dictionary_bytes(shape, KINDS) > MOST_ON_HOST
    return KINDS[:1] if few else KINDS


def dictionary_bytes(shape: Shape, kinds: Sequence[SiteKind]) -> int:
    """Both matrices of every dictionary."""
    return sum(shape.layers * 2 * shape.width * shape.width_at(kind) * DTYPE.itemsize for kind in kinds)


def check_room(shape: Shape, kinds: Sequence[SiteKind], device: torch.device, dtype: torch.dtype) -> None:
    """Raises `DoesNotFit` where the model, its dictionaries and one SAE of sae-lens's would not fit."""
    dictionaries = dictionary_bytes(shape, kinds)
    model = shape.parameters * dtype.itemsize
    sae = 2 * shape.width * max(shape.width_at(kind) for kind in kinds) * FLOAT32
    host = dictionaries + WORKING
    if device.type == "cuda":
        # Encoders are copied to the device, decoders stay on the host.
        _check("device", model + dictionaries // 2 + 2 * sae + WORKING, torch.cuda.mem_get_info(device)[0])
    else:
        host += model + 2 * sae
    _check("machine", host, host_memory()[1])


def _check(place: str, needed: int, free: int) -> None:
    if needed > free:
        raise DoesNotFit(
            f"This shape needs {file_size(needed)} of this {place}'s memory, and {file_size(free)} are free.",
            "Use a smaller --shape, --kinds resid_post, or --dtype bfloat16.",
        )
