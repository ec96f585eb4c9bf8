"""Progress on stderr, and Ctrl-C while something goes on in another thread."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from knowscope_tui.cli.progress import Teller, progress
from knowscope_tui.errors import Cancelled


def test_ctrl_c_ends_what_goes_on_in_threads() -> None:
    before = signal.getsignal(signal.SIGINT)
    started = time.monotonic()
    downloads: list[Future[None]] = []

    def download(tell: Teller) -> None:
        while time.monotonic() - started < 60:
            tell("Downloading", 0.5)
            time.sleep(0.01)

    def interrupted() -> None:
        with progress() as tell, ThreadPoolExecutor() as pool:
            downloads.append(pool.submit(download, tell))
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert isinstance(downloads[0].exception(), Cancelled)
    assert time.monotonic() - started < 30
    assert signal.getsignal(signal.SIGINT) is before


def test_notes_stay_unless_json_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    for as_json in (False, True):
        with progress(as_json=as_json) as tell:
            tell("Loading", 0.5)
            tell.note("It \x1b[31mfits.")
    assert capsys.readouterr() == ("", "It ␛[31mfits.\n")


def test_lines_say_each_step_once(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(lines=True) as tell:
        tell("Dictionary 1 of 2: 1 MB", 0.25)
        tell("Dictionary 1 of 2: 2 MB", 0.5)
        tell("Dictionary 2 of 2: 1 MB", 0.75)
    assert capsys.readouterr().err.splitlines() == [" 25% Dictionary 1 of 2: 1 MB", " 75% Dictionary 2 of 2: 1 MB"]
