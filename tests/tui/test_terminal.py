"""The program ends with its terminal, whether or not it is told by a signal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys

import pytest

CODE = """
import signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from knowscope_tui.tui.terminal import end_with_terminal
end_with_terminal()
print("started", flush=True)
time.sleep(float(sys.argv[1]))
"""


@pytest.fixture
def terminal() -> tuple[int, int]:
    """Both ends of a terminal that is nobody's controlling one, so that its closing signals nobody."""
    return pty.openpty()


def started(seconds: float, stdin: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CODE, str(seconds)]
    process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


def test_a_closed_terminal_ends_the_program(terminal: tuple[int, int]) -> None:
    ours, its = terminal
    with started(60, its) as process:
        os.close(its)
        assert process.poll() is None
        os.write(ours, b"keys")  # What is typed is no end.
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        os.close(ours)
        assert process.wait(20) == -signal.SIGHUP


def test_a_pipe_that_ends_does_not() -> None:
    read, write = os.pipe()
    with started(0.5, read) as process:
        os.close(read)
        os.close(write)
        assert process.wait(20) == 0
