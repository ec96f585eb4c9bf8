"""How fast the program starts, against floors measured in the same run.

    python benchmarks/startup.py [--runs 7]

- first paint: from starting the process to the first painted screen in a real pseudo-terminal, against a bare Textual
  app that shows one word. The bar: at most 0.3 s later.
- help: wall time of `--help` of every verb, against an interpreter that imports click and rich. The bar: at most twice.

Runs alternate, and medians are compared, so that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import os
import pty
import select
import signal
import statistics
import subprocess
import sys
import time

BARE_APP = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("painted-by-bare")
Bare().run()
"""
APP = "from knowscope_tui.cli.main import main; main(['open'])"
VERBS = ("open", "probe", "ablate", "edit", "verify", "saes", "cache", "demo", "doctor")


def first_paint(code: str, marker: bytes, timeout: float = 60.0) -> float:
    """Seconds from starting `python -c code` in a 120×36 terminal until `marker` is on its way to the screen."""
    started = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS="120", LINES="36")
        os.execv(sys.executable, [sys.executable, "-c", code])
    seen = b""
    try:
        while marker not in seen:
            left = timeout - (time.perf_counter() - started)
            if left <= 0 or not select.select([terminal], [], [], left)[0]:
                raise TimeoutError(f"{marker!r} was not painted within {timeout:.0f} s")
            seen += os.read(terminal, 65536)
        return time.perf_counter() - started
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def wall(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    bare, ours = [], []
    for _ in range(runs):
        bare.append(first_paint(BARE_APP, b"painted-by-bare"))
        ours.append(first_paint(APP, b"knowscope"))
    floor, paint = statistics.median(bare), statistics.median(ours)
    print(
        f"first paint   bare {floor:.2f} s   knowscope-tui {paint:.2f} s   later by {paint - floor:+.2f} s (bar 0.30)"
    )
    for verb in VERBS:
        base, helped = [], []
        for _ in range(runs):
            base.append(wall(["-c", "import click, rich.console, rich.table"]))
            helped.append(wall(["-m", "knowscope_tui", verb, "--help"]))
        floor, took = statistics.median(base), statistics.median(helped)
        print(f"{verb:<7}--help   imports {floor:.2f} s   --help {took:.2f} s   ratio {took / floor:.2f} (bar 2.00)")


if __name__ == "__main__":
    main()
