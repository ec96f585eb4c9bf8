"""What the hub's client raises while a folder is uploaded, as a sentence with the next step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from knowscope_tui.engine.hub_errors import OutOfReach, chain, is_network, reason
from knowscope_tui.errors import HubError, KnowscopeError

AGAIN = "Nothing of it is visible there; check the network and upload it again."


@contextmanager
def said_uploading(repo: str, *, cut: str = AGAIN) -> Iterator[None]:
    """Turns what the client raises within the block into a `HubError`; `cut` is the hint when the network fails."""
    try:
        yield
    except KnowscopeError:
        raise
    except Exception as error:
        raise _told(error, repo, cut) from error


def _told(error: BaseException, repo: str, cut: str) -> HubError:
    from huggingface_hub import errors

    causes = list(chain(error))
    for cause in causes:
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(status, int) and status >= 400:
            return _refused(status, cause, repo, cut)
    for cause in causes:
        if isinstance(cause, errors.HFValidationError):
            return bad_name(repo)
        if isinstance(cause, errors.OfflineModeIsEnabled):
            return offline()
        if is_network(cause):
            return OutOfReach(f"The upload to {repo} was cut: the hub did not answer ({reason(cause)}).", cut)
    return _limited(str(error), repo) or HubError(f"The upload to {repo} failed: {reason(error)}.", AGAIN)


def _refused(status: int, cause: Any, repo: str, cut: str) -> HubError:
    """What an answer of the hub that is no success means."""
    told = str(getattr(cause, "server_message", None) or f"error {status}").strip().rstrip(".")
    if limited := _limited(told, repo):
        return limited
    if status == 401:
        return HubError("The hub rejects your token.", "Run `hf auth login` with a valid one.")
    if status == 403:
        return HubError(
            f"Your token may not write to {repo}: {told}.",
            "Use a token with the right to write there, or a namespace of your own.",
        )
    if status == 404:
        return HubError(f"The hub knows no place for {repo}.", "Check the owner's spelling.")
    if status == 412:
        return HubError(f"{repo} changed while it was written to.", "Look at what is there, and upload it again.")
    if status == 429:
        return HubError("The hub asks for fewer requests.", "Wait some minutes, then upload it again.")
    if status >= 500:
        return OutOfReach(f"The hub has trouble of its own (error {status}).", cut)
    return HubError(f"The hub refuses {repo}: {told}.", "The folder on this machine is whole; upload it again.")


def _limited(told: str, repo: str) -> HubError | None:
    """That the account has no room left, which the hub says in words."""
    words = told.lower()
    if not ("storage" in words and ("limit" in words or "quota" in words)):
        return None
    return HubError(
        f"There is no room for {repo}: the account's storage limit is reached.",
        "Free some on the hub, or upload to another owner.",
    )


def bad_name(repo: str) -> HubError:
    return HubError(f"{repo!r} is no name that a repository could have.", "Name it as owner/name.")


def offline() -> HubError:
    return HubError("Nothing can be uploaded offline.", "Unset HF_HUB_OFFLINE, or leave out --offline.")


def no_token() -> HubError:
    return HubError("There is no token to upload with.", "Run `hf auth login` first, or set HF_TOKEN.")
