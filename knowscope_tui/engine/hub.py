"""The Hugging Face hub: what a repository holds, bringing it here, and saying what went wrong in a sentence.

Files come through huggingface_hub into its own cache; a large one that was cut short goes on where it was (see
`downloads`). What arrives is held against the hash that the hub gives for it, because the client compares sizes only.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowscope_tui.engine.downloads import AT_ONCE, LARGE, ByteCounter, bring_large
from knowscope_tui.engine.hashes import sha256
from knowscope_tui.errors import HubError, KnowscopeError

OnProgress = Callable[[str, float | None], None]

MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
"""What a model is made of; weights as pickles and other frameworks' weights are left where they are."""


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

    with _said(repo, revision):
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
    with _said(repo, revision):
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


def listing_or_none(repo: str, patterns: Sequence[str], *, revision: str | None = None) -> tuple[HubFile, ...] | None:
    """`listing`, or None where the hub cannot be asked but the cache may still do."""
    try:
        return listing(repo, patterns, revision=revision)
    except OutOfReach:
        return None


def cached(repo: str, patterns: Sequence[str], *, revision: str | None = None) -> Path:
    """The folder of the cached snapshot, without asking the hub. Raises `HubError` that says what is missing."""
    from huggingface_hub import snapshot_download

    with _said(repo, revision):
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
    if size >= LARGE or len(blob.name) != 64 or not blob.is_file() or sha256(blob) == blob.name:
        return
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)
    raise HubError(f"{path.name} of {repo} arrived damaged: its hash is not the hub's.", "Run the command again.")


# --- errors ---------------------------------------------------------------------------------------------------------


class OutOfReach(HubError):
    """The hub did not answer."""


@contextmanager
def _said(repo: str, revision: str | None = None) -> Iterator[None]:
    """Turns what the hub's client raises within the block into a `HubError` in a sentence."""
    try:
        yield
    except KnowscopeError:
        raise
    except Exception as error:
        raise hub_error(error, repo, revision) from error


def hub_error(error: BaseException, repo: str, revision: str | None = None) -> HubError:
    """What `error`, raised while `repo` was asked for, means to a person."""
    from huggingface_hub import errors

    chain = list(_chain(error))
    for cause in chain:
        if isinstance(cause, errors.GatedRepoError):
            return _gated(cause, repo)
        if isinstance(cause, errors.RevisionNotFoundError):
            return HubError(f"{repo} has no revision {revision!r}.", f"See https://huggingface.co/{repo}/tree/main.")
        if isinstance(cause, errors.RepositoryNotFoundError):
            return HubError(
                f"The hub has no {repo!r}, or does not show it to you.",
                "Check the spelling; for a private one run `hf auth login` first.",
            )
        if getattr(getattr(cause, "response", None), "status_code", None) == 401:
            return HubError("The hub rejects your token.", "Run `hf auth login` with a valid one.")
        if isinstance(cause, errors.HFValidationError):
            return HubError(f"{repo!r} is no name that the hub could have.", "Name it as owner/name.")
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            return disk_full(str(cache_place()))
    for cause in chain:
        if isinstance(cause, errors.OfflineModeIsEnabled):
            return _not_cached(repo)
        if isinstance(cause, errors.RemoteEntryNotFoundError):
            return HubError(f"{repo} does not hold {_file_of(cause)}.", "It may have moved; see its page on the hub.")
        if _is_network(cause):
            return OutOfReach(
                f"{repo} cannot be fetched: the hub did not answer ({_reason(cause)}).",
                "Check the network and run it again, which goes on where it was; --offline uses what is cached.",
            )
    if any(isinstance(cause, errors.LocalEntryNotFoundError) for cause in chain):
        return _not_cached(repo)
    return HubError(f"{repo} cannot be fetched: {_reason(error)}.", "Run the command again.")


def disk_full(folder: str) -> HubError:
    return HubError(
        f"The disk is full: there is no space left in {folder!r}.",
        "Free some space (`knowscope-tui cache prune`, `hf cache rm`), or point HF_HOME elsewhere; then run it again.",
    )


def cache_place() -> Path:
    """Where huggingface_hub keeps what it downloads."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _gated(error: Any, repo: str) -> HubError:
    page = f"https://huggingface.co/{repo}"
    if getattr(getattr(error, "response", None), "status_code", 401) == 403:
        return HubError(
            f"{repo} is gated, and your account has no access to it.", f"Ask for it, and accept the licence, at {page}."
        )
    return HubError(
        f"{repo} is gated, and no token was sent.", f"Accept its licence at {page}, then run `hf auth login`."
    )


def _not_cached(repo: str) -> HubError:
    return HubError(
        f"{repo} is not whole in the cache, and nothing may be fetched (offline).",
        "Run it once without --offline and HF_HUB_OFFLINE, or name a folder.",
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        following = error.__cause__ or error.__context__
        if following is None:
            return
        error = following


def _is_network(error: BaseException) -> bool:
    """Whether a client library says that the network failed; huggingface_hub and sae-lens use different ones."""
    library = type(error).__module__.partition(".")[0]
    return library.startswith(("httpx", "httpcore", "requests", "urllib3")) or isinstance(
        error, (ConnectionError, TimeoutError)
    )


def _file_of(error: BaseException) -> str:
    url = str(getattr(getattr(error, "response", None), "url", ""))
    return repr(url.partition("/resolve/")[2].partition("/")[2]) if "/resolve/" in url else "what was asked for"


def _reason(error: BaseException) -> str:
    text = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return text or type(error).__name__


def quiet() -> None:
    """Keeps the hub's and transformers' own bars and warnings off the terminal."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    logging.get_logger().setLevel("ERROR")
