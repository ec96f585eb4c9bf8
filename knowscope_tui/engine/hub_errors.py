"""What the hub's client raises, as a sentence with the next step."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from knowscope_tui.errors import HubError, KnowscopeError


class OutOfReach(HubError):
    """The hub did not answer."""


@contextmanager
def said(repo: str, revision: str | None = None, wanted: Sequence[str] = ()) -> Iterator[None]:
    """Turns what the client raises within the block, where `wanted` of `repo` is asked for, into a `HubError`."""
    try:
        yield
    except KnowscopeError:
        raise
    except Exception as error:
        raise hub_error(error, repo, revision, wanted) from error


def hub_error(error: BaseException, repo: str, revision: str | None = None, wanted: Sequence[str] = ()) -> HubError:
    """What `error`, raised while `wanted` of `repo` was asked for, means to a person."""
    causes = list(chain(error))
    for tell in (_refusal, _trouble_here, _no_answer):
        for cause in causes:
            told = tell(cause, repo, revision, wanted)
            if told is not None:
                return told
    return HubError(f"{repo} cannot be fetched: {reason(error)}.", "Run the command again.")


def disk_full(folder: str) -> HubError:
    return HubError(
        f"The disk is full: there is no space left in {folder!r}.",
        "Free some space (`knowscope-tui cache prune`, `hf cache rm`), or point HF_HOME and XDG_CACHE_HOME elsewhere.",
    )


def is_outside_trouble(error: BaseException) -> bool:
    """Whether the network or the disk is to blame, and not what was read."""
    return any(is_network(cause) or getattr(cause, "errno", None) == errno.ENOSPC for cause in chain(error))


def _refusal(cause: BaseException, repo: str, revision: str | None, _wanted: Sequence[str]) -> HubError | None:
    """What the hub answered that is no file."""
    from huggingface_hub import errors

    if isinstance(cause, errors.GatedRepoError):
        return _gated(cause, repo)
    if isinstance(cause, errors.RevisionNotFoundError):
        return HubError(f"{repo} has no revision {revision!r}.", f"See https://huggingface.co/{repo}/tree/main.")
    if isinstance(cause, errors.RepositoryNotFoundError):
        return HubError(
            f"The hub has no {repo!r}, or does not show it to you.",
            "Check the spelling; for a private one run `hf auth login` first.",
        )
    if isinstance(cause, errors.HFValidationError):
        return HubError(f"{repo!r} is no name that the hub could have.", "Name it as owner/name.")
    if isinstance(cause, errors.RemoteEntryNotFoundError):
        return HubError(f"{repo} does not hold {_file_of(cause)}.", "It may have moved; see its page on the hub.")
    status = getattr(getattr(cause, "response", None), "status_code", None)
    return _status(status, cause, repo) if isinstance(status, int) and status >= 400 else None


def _status(status: int, cause: BaseException, repo: str) -> HubError:
    if status == 401:
        return HubError("The hub rejects your token.", "Run `hf auth login` with a valid one.")
    if status == 429:
        return HubError("The hub asks for fewer requests.", "Wait some minutes, or log in with `hf auth login`.")
    if status >= 500:
        return OutOfReach(f"The hub has trouble of its own (error {status}).", "Run it again in a while.")
    told = getattr(cause, "server_message", None) or f"error {status}"
    return HubError(f"The hub refuses {repo}: {str(told).rstrip('.')}.", f"See https://huggingface.co/{repo}.")


def _trouble_here(cause: BaseException, repo: str, _revision: str | None, wanted: Sequence[str]) -> HubError | None:
    """What this machine lacks: room, or permission to ask."""
    from huggingface_hub import constants, errors

    if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
        return disk_full(constants.HF_HUB_CACHE)
    if isinstance(cause, OSError) and cause.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return HubError(
            f"The cache {constants.HF_HUB_CACHE!r} cannot be written.", "Point HF_HOME at a folder that you can write."
        )
    return _not_cached(repo, wanted) if isinstance(cause, errors.OfflineModeIsEnabled) else None


def _no_answer(cause: BaseException, repo: str, _revision: str | None, wanted: Sequence[str]) -> HubError | None:
    from huggingface_hub import errors

    if is_network(cause):
        return OutOfReach(
            f"{repo} cannot be fetched: the hub did not answer ({reason(cause)}).",
            "Check the network and run it again, which goes on where it was; --offline uses what is cached.",
        )
    if isinstance(cause, errors.LocalEntryNotFoundError) and not any(map(is_network, chain(cause))):
        return _not_cached(repo, wanted)
    return None


def _gated(error: Any, repo: str) -> HubError:
    page = f"https://huggingface.co/{repo}"
    if getattr(getattr(error, "response", None), "status_code", 401) == 403:
        return HubError(
            f"{repo} is gated, and your token has no access to it.",
            f"Accept the licence at {page}; a fine-grained token also needs the right to read gated repositories.",
        )
    return HubError(
        f"{repo} is gated, and no token was sent.", f"Accept its licence at {page}, then run `hf auth login`."
    )


def _not_cached(repo: str, wanted: Sequence[str]) -> HubError:
    named = [name for name in wanted if "*" not in name]
    what = f"{named[0]} of {repo}" if named else repo
    return HubError(
        f"{what} is not whole in the cache, and nothing may be fetched (offline).",
        "Run it once without --offline and HF_HUB_OFFLINE, or name a folder.",
    )


def chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and what lies behind it, each once."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__


def is_network(error: BaseException) -> bool:
    """Whether a client library says that the network failed; huggingface_hub and sae-lens use different ones."""
    library = type(error).__module__.partition(".")[0]
    return library.startswith(("httpx", "httpcore", "requests", "urllib3")) or isinstance(
        error, (ConnectionError, TimeoutError)
    )


def _file_of(error: BaseException) -> str:
    url = str(getattr(getattr(error, "response", None), "url", ""))
    return repr(url.partition("/resolve/")[2].partition("/")[2]) if "/resolve/" in url else "what was asked for"


def reason(error: BaseException) -> str:
    text = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return text or type(error).__name__
