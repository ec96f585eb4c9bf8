"""The last word on what a person asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Said:
    """A sentence; `sign` carries the meaning where there is no colour."""

    sign: str
    text: str
    style: str
