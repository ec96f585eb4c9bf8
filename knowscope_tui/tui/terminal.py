"""The terminal that the program runs in."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading


def end_with_terminal() -> None:
    """Has this process, which holds a model in memory, end when its terminal is closed.

    Closing sends a signal, which a parent may have ignored, and which does not reach everybody (a container, `setsid`).
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if sys.stdin.isatty():
        threading.Thread(target=_wait_for_hang_up, args=(sys.stdin.fileno(),), name="terminal", daemon=True).start()


def _wait_for_hang_up(terminal: int) -> None:
    waiting = select.poll()
    waiting.register(terminal, 0)  # That it hung up is told whatever is asked.
    if any(told & (select.POLLHUP | select.POLLERR) for _file, told in waiting.poll()):
        os.kill(os.getpid(), signal.SIGHUP)
