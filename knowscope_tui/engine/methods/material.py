"""What an edit may see beside the facts it changes: what it must keep."""

from __future__ import annotations

from dataclasses import dataclass

from knowscope_tui.core.facts import Fact


@dataclass(frozen=True)
class Material:
    """`retained` facts and general `texts`; neither holds anything that the edit is judged by."""

    retained: tuple[Fact, ...] = ()
    texts: tuple[str, ...] = ()
