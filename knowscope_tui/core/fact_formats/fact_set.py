"""What a fact file holds."""

from __future__ import annotations

from dataclasses import dataclass

from knowscope_tui.core.facts import Fact


@dataclass(frozen=True)
class FactSet:
    """Facts, and the facts that the file names beside them to see whether they stay as they are."""

    form: str
    facts: tuple[Fact, ...]
    neighbors: tuple[Fact, ...] = ()
    remarks: tuple[str, ...] = ()
    """What was left out and why, a sentence each."""
