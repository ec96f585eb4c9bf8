"""Large files of the hub, brought into its own cache so that a break costs seconds and not the file.

huggingface_hub's client resumes within a call and starts a file over in the next one. Here a large file is written to
a place of its own beside the cache's blobs, which the next run goes on with, and it becomes a blob only when its hash
is the hub's. The client then finds the blob and links it into the snapshot.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from knowscope_tui.core.progress import OnProgress
from knowscope_tui.engine.hashes import sha256
from knowscope_tui.engine.locks import waited_lock
from knowscope_tui.errors import HubError
from knowscope_tui.text import file_size

LARGE = 32 * 1024 * 1024
"""Files of at least so many bytes are worth resuming."""

RECEIVED = "Downloading bytes"
"""What the hub's client calls the bar of bytes off the network, which it counts beside those of the files."""

AT_ONCE = 4
"""Files that are fetched side by side."""


def bring_large(repo: str, names: Sequence[str], *, revision: str | None, counter: ByteCounter, cache: Path) -> None:
    """Fetches those of `names` that are large into the blobs of `repo`, going on where an earlier run stopped.

    Raises what the hub's client raises, and `HubError` for a file whose hash is not the hub's.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.file_download import repo_folder_name

    api = HfApi()
    commit = api.model_info(repo, revision=revision).sha
    found: list[Any] = list(api.get_paths_info(repo, list(names), revision=commit))
    blobs = cache / repo_folder_name(repo_id=repo, repo_type="model") / "blobs"
    large = [
        file for file in found if getattr(file, "lfs", None) and LARGE <= file.size <= constants.MAX_HTTP_DOWNLOAD_SIZE
    ]
    if not large:
        return
    blobs.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        jobs = [pool.submit(_bring, repo, commit, file, blobs / file.lfs.sha256, counter) for file in large]
        try:
            wait(jobs, return_when=FIRST_EXCEPTION)
        finally:
            if not all(job.done() and job.exception() is None for job in jobs):
                counter.stop()
    failures = [error for job in jobs if (error := job.exception()) is not None]
    for error in sorted(failures, key=lambda error: isinstance(error, _Stopped)):
        raise error


def _bring(repo: str, commit: str | None, file: Any, blob: Path, counter: ByteCounter) -> None:
    """One file; another process that fetches it too is waited for."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._headers import build_hf_headers

    partial = blob.with_name(f"{blob.name}.knowscope.incomplete")
    with waited_lock(Path(f"{partial}.lock"), counter.check):
        if blob.exists():
            counter.add(file.size)
            return
        with partial.open("ab") as stream:
            counter.add(stream.tell())
            http_get(
                hf_hub_url(repo, file.path, revision=commit),
                stream,
                resume_size=stream.tell(),
                headers=build_hf_headers(),
                expected_size=file.size,
                tqdm_class=counter.bar(),
            )
        if sha256(partial) != blob.name:
            partial.unlink()
            raise HubError(
                f"{file.path} of {repo} arrived damaged: its hash is not the hub's.", "Run the command again."
            )
        partial.rename(blob)
    Path(f"{partial}.lock").unlink(missing_ok=True)


class ByteCounter:
    """Counts the bytes of several downloads together and tells of them; several threads may add."""

    def __init__(self, doing: str, total: int, on_progress: OnProgress) -> None:
        self._doing = doing
        self._total = total
        self._on_progress = on_progress
        self._done = 0
        self._stopped = False
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Counts `count` more bytes. Raises what `on_progress` raises, in every thread that adds from then on."""
        with self._lock:
            if self._stopped:
                raise _Stopped
            self._done += count
            if not self._total:
                return
            done = min(max(self._done, 0), self._total)
            try:
                self._on_progress(f"{self._doing}: {file_size(done)} of {file_size(self._total)}", done / self._total)
            except BaseException:
                self._stopped = True
                raise

    def stop(self) -> None:
        """From here on every thread that adds is stopped."""
        self._stopped = True

    def check(self) -> None:
        """For a thread that waits: raises what `add` would."""
        self.add(0)

    def bar(self) -> type[Any]:
        """A tqdm class for the hub's client that shows nothing and counts bytes here.

        Bars that are shown can deadlock: one that the garbage collector closes in the thread that watches over them
        waits for the lock of the one that starts this thread. These start none and take no lock when they are closed.
        """
        from huggingface_hub.utils.tqdm import tqdm

        counter = self

        class Bar(tqdm):
            monitor_interval = 0

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                self._counts = kwargs.get("unit") == "B" and kwargs.get("desc") != RECEIVED
                super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

            def update(self, n: float | None = 1) -> None:
                if self._counts:
                    counter.add(int(n or 0))

        return Bar


class _Stopped(Exception):
    """Another download of the same call failed or was stopped."""
