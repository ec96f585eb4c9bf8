"""Where the processor's threads run while it is timed. Imports nothing heavy: it has to come before torch."""

from __future__ import annotations

import os

BINDING = "OMP_PROC_BIND"


def keep_apart() -> None:
    """Has each thread of OpenMP stay on a core of its own, unless whoever calls said otherwise.

    Threads that wait for one another spin. Where the system puts two of them on one core, each waits until the other's
    time slice is over, and a forward of milliseconds takes a second. Without effect once torch is loaded.
    """
    os.environ.setdefault(BINDING, "true")


def binding() -> str | None:
    """What OpenMP was told."""
    return os.environ.get(BINDING)
