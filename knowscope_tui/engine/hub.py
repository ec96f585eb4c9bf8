"""The Hugging Face hub: what a repository holds, bringing it here, and saying what went wrong in a sentence.

Files come through huggingface_hub into its own cache; a large one that was cut short goes on where it was (see
`downloads`). What arrives is held against the hash that the hub gives for it, because the client compares sizes only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from knowscope_tui.core.progress import OnProgress
from knowscope_tui.engine.downloads import AT_ONCE, LARGE, ByteCounter, bring_large
from knowscope_tui.engine.hashes import git_hash, sha256
from knowscope_tui.engine.hub_errors import OutOfReach, said
from knowscope_tui.errors import HubError

MODEL_FILES = (
    *("*.json", "model*.safetensors", "*.model", "*.txt", "*.jinja"),
    *("LICENSE*", "NOTICE*", "USE_POLICY*", "README.md"),
)
"""What a model is made of, and the licence that travels with it.

Weights as pickles, in other forms and for other frameworks are left where they are."""


@dataclass(frozen=True)
class HubFile:
    """A file of a repository: its size in bytes, where known, and whether it is on this machine."""

    name: str
    size: int | None
    cached: bool


def split_revision(source: str) -> tuple[str, str | None]:
    """owner/name@revision as name and revision."""
    name, at, revision = source.partition("@")
    return name, revision if at else None


def listing(repo: str, patterns: Sequence[str], *, revision: str | None = None) -> tuple[HubFile, ...]:
    """The files of `repo` that match `patterns`. Raises `HubError`; offline too, for it has to ask."""
    from huggingface_hub import snapshot_download

    with said(repo, revision, patterns):
        found = snapshot_download(
            repo,
            revision=revision,
            allow_patterns=list(patterns),
            dry_run=True,
            tqdm_class=ByteCounter("", 0, lambda doing, fraction: None).bar(),
        )
    return tuple(HubFile(file.filename, file.file_size, not file.will_download) for file in found)


def fetch(
    repo: str,
    patterns: Sequence[str],
    *,
    revision: str | None = None,
    offline: bool = False,
    on_progress: OnProgress,
) -> Path:
    """The folder of a snapshot of `repo` that holds what matches `patterns`, downloaded where it is not here.

    `on_progress` hears bytes and may raise to stop. Raises `HubError`.
    """
    from huggingface_hub import snapshot_download

    if offline or is_offline():
        return cached(repo, patterns, revision=revision)
    try:
        files = listing(repo, patterns, revision=revision)
    except OutOfReach as out_of_reach:
        try:
            return cached(repo, patterns, revision=revision)
        except HubError:
            raise out_of_reach from None
    if not files:
        raise HubError(f"{repo} does not hold {patterns[0]!r}.", "It may have moved; see its page on the hub.")
    missing = [file for file in files if not file.cached]
    counter = ByteCounter(f"Downloading {repo}", sum(file.size or 0 for file in missing), on_progress)
    with said(repo, revision, patterns):
        if missing:
            names = [file.name for file in missing]
            bring_large(repo, names, revision=revision, counter=counter, cache=cache_place())
        folder = Path(
            snapshot_download(
                repo,
                revision=revision,
                allow_patterns=list(patterns),
                max_workers=AT_ONCE,
                tqdm_class=counter.bar(),
            )
        )
    for file in missing:
        _check_hash(repo, folder / file.name, file.size or 0)
    return folder


def cache_place() -> Path:
    """Where huggingface_hub keeps what it downloads."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def cached(repo: str, patterns: Sequence[str], *, revision: str | None = None) -> Path:
    """The folder of the cached snapshot, without asking the hub. Raises `HubError` that says what is missing."""
    from huggingface_hub import snapshot_download

    with said(repo, revision, patterns):
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(patterns), local_files_only=True))


def commit_of(folder: Path) -> str:
    """The commit of a snapshot folder, which is its name."""
    return folder.name


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE=1 says that the hub must not be asked."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def stay_offline() -> None:
    """From here on huggingface_hub, and all in this process that goes through it, works from the cache alone."""
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = True


def _check_hash(repo: str, path: Path, size: int) -> None:
    """Compares a file with its hash, which is the name of its blob in the hub's cache; removes a damaged one.

    Large files were compared before they became blobs.
    """
    blob = path.resolve()
    if size >= LARGE or not blob.is_file() or blob.name in (sha256(blob), git_hash(blob)):
        return
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob.name):
        return  # a server that names its files otherwise
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)
    raise HubError(f"{path.name} of {repo} arrived damaged: its hash is not the hub's.", "Run the command again.")


def quiet() -> None:
    """Keeps the hub's and transformers' own bars and warnings off the terminal."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    logging.get_logger().setLevel("ERROR")
