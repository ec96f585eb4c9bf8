"""How long work says what it does."""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[str, float | None], None]
"""Called with what is being done and how far it is, 0 to 1 or None; may raise `Cancelled` to stop."""


def silent(_doing: str, _fraction: float | None) -> None:
    """Progress that nobody watches."""


def unstopped() -> None:
    """A check of work that nobody stops."""
