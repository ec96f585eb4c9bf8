"""What this machine has, for faces, which do not ask the engine."""

from knowscope_tui.engine.host import host_memory

__all__ = ["host_memory"]
