"""A saved checkpoint onto the Hugging Face hub, in one commit.

The files go up first, where nobody sees them; one commit makes them visible together, so that a repository never holds
half of a checkpoint. (`upload_folder` of huggingface_hub makes several commits of a large folder.) The parent of the
commit is the one whose files were looked at: what somebody else commits meanwhile is never overwritten.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.record import DELTA, RECORD, public_name
from knowscope_tui.engine.deltas.files import as_bytes
from knowscope_tui.engine.deltas.parts import Delta
from knowscope_tui.engine.hub import is_offline
from knowscope_tui.engine.saving.saved import Saved, read
from knowscope_tui.engine.upload_errors import bad_name, no_token, offline, said_uploading
from knowscope_tui.errors import HubError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LEFT_OUT = (".partial", ".lock", ".tmp")
"""Endings of files that belong to work under way."""

HARMLESS = frozenset({".gitattributes", "README.md", "LICENSE"})
"""What a repository may hold and still count as empty."""

_WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json")


def check_repo(repo: str) -> None:
    """Raises `HubError` for a name that cannot be, offline, and without a token; the hub is not asked."""
    from huggingface_hub import get_token
    from huggingface_hub.utils._validators import validate_repo_id

    with said_uploading(repo):
        validate_repo_id(repo)
    if repo.count("/") != 1:
        raise bad_name(repo)
    if is_offline():
        raise offline()
    if get_token() is None:
        raise no_token()


def push(folder: Path, repo: str, *, private: bool = True, on_progress: OnProgress = silent) -> str:
    """Uploads the saved checkpoint `folder` as the model repository `repo`, owner/name; its address.

    A repository that is not there is made, `private` or not; one that is there keeps its visibility, and must be empty
    or hold an edit of the same base. Endpoint and token are those of huggingface_hub. Of a base that is a folder of
    this machine only the last part of its path goes along. `on_progress` may raise to stop. Raises `HubError`, or
    `SaveError` for a folder that is no checkpoint; no commit is visible then.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    check_repo(repo)
    saved = read(folder)
    files = shipped(saved)
    api = HfApi()
    with said_uploading(repo):
        on_progress(f"Asking for {repo}", None)
        address = str(api.create_repo(repo, private=private, exist_ok=True))
        parent, present = _present(api, repo, saved)
        additions = [CommitOperationAdd(name, content) for name, content in files.items()]
        total, done = sum(addition.upload_info.size for addition in additions), 0
        for addition in additions:
            on_progress(f"Uploading {addition.path_in_repo}", done / total)
            api.preupload_lfs_files(repo, [addition], free_memory=False)
            done += addition.upload_info.size
    stale = [CommitOperationDelete(name) for name in present if name.endswith(_WEIGHTS) and name not in files]
    on_progress("Making the commit", 1.0)
    with said_uploading(
        repo, cut=f"The commit may or may not have arrived: look at {address}, and upload it again if not."
    ):
        api.create_commit(
            repo,
            [*additions, *stale],
            commit_message="Upload an edited model with its record",
            parent_commit=parent,
        )
    return address


def shipped(saved: Saved) -> dict[str, str | bytes]:
    """Name in the repository → the file to upload, or the content where it is not that of the file.

    The record and the delta of an edited folder name it by its path, which is this machine's affair.
    """
    files: dict[str, str | bytes] = {
        path.name: str(path)
        for path in sorted(saved.folder.iterdir())
        if path.is_file() and not path.name.startswith(".") and not path.name.endswith(LEFT_OUT)
    }
    base = public_name(saved.record)
    if base == saved.base_name:
        return files
    delta = as_bytes(Delta(saved.delta.parts, {**saved.delta.about, "base": base}))
    record = {
        **saved.record,
        "base": {**saved.record["base"], "name": base},
        "delta_sha256": hashlib.sha256(delta).hexdigest(),
    }
    text = json.dumps(record, ensure_ascii=False, indent=2, allow_nan=False)
    return {**files, DELTA: delta, RECORD: f"{text}\n".encode()}


def _present(api: HfApi, repo: str, saved: Saved) -> tuple[str | None, list[str]]:
    """The commit that `repo` is at and the files it holds. Raises `HubError` for one that holds something else."""
    info = api.model_info(repo)
    names = [sibling.rfilename for sibling in info.siblings or ()]
    if set(names) <= HARMLESS:
        return info.sha, names
    if RECORD in names and _base_in(api.hf_hub_download(repo, RECORD, revision=info.sha)) == public_name(saved.record):
        return info.sha, names
    raise HubError(f"{repo} holds another model.", "Choose a name that is free.")


def _base_in(record: str) -> str | None:
    """The base that a record file names; None for one that is broken."""
    try:
        return str(json.loads(Path(record).read_text(encoding="utf-8"))["base"]["name"])
    except (ValueError, KeyError, TypeError):
        return None
