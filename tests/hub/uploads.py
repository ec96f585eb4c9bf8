"""Uploads to the hub of the tests: repositories are made, files come up by LFS, and one commit shows them together.

What the real hub checks is checked: the token's right to the namespace, the sha256 and size of every LFS object, the
parent commit, the front matter of a model card. Large objects are asked for in parts, as the hub does. Xet is not
spoken: clients are told by `HF_HUB_DISABLE_XET` to use LFS.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import yaml

from tests.hub.contents import LFS_NAMES, LFS_SIZE, LFS_SUFFIXES, read_revision

if TYPE_CHECKING:
    from tests.hub.server import HubServer, Request

ATTRIBUTES = "*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


class Refused(Exception):
    """An answer that is an error, as the hub words it."""

    def __init__(self, status: int, code: str | None, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers


@dataclass(frozen=True)
class Answer:
    content: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Uploads:
    """Who may write where, the objects that have come, and what was committed.

    A step of an upload, `preupload`, `batch` or `commit`, fails by `HubServer.fail(repo, step)`.

    `part_size` is the size in bytes from which an object is asked for in parts of that size. `room` is what an account
    may store.
    """

    def __init__(self, hub: HubServer) -> None:
        self.part_size: int | None = None
        self.room: int | None = None
        self.commits: list[tuple[str, str]] = []
        """Repository and commit, in order."""
        self.objects: dict[str, bytes] = {}
        """LFS objects by sha256: visible in no repository until a commit names them."""
        self._hub = hub
        self._writers: dict[str, str] = {}
        self._private: dict[str, str] = {}
        self._parts: dict[tuple[str, int], bytes] = {}
        self._breaks: list[int] = []

    # --- what a test sets up

    def grant(self, token: str, owner: str) -> None:
        """Lets the bearer of `token` write to everything below `owner`."""
        self._writers[token] = owner

    def break_off(self, after: int, times: int) -> None:
        """Resets the connection of the next `times` PUT requests after so many bytes of their bodies."""
        self._breaks = [after] * times

    def breaks_off(self, method: str, length: int) -> int | None:
        """After how many bytes of its body a request is broken off; None for one that is not."""
        return min(self._breaks.pop(), length) if method == "PUT" and self._breaks else None

    def owner(self, token: str | None) -> str | None:
        return self._writers.get(token or "")

    def is_private(self, repo: str) -> bool:
        return repo in self._private

    def shows(self, repo: str, token: str | None) -> bool:
        """Whether the bearer of `token` may know of `repo`."""
        return repo not in self._private or self.owner(token) == self._private[repo]

    # --- routes

    def ask_hub(
        self, method: str, parts: list[str], query: Mapping[str, list[str]], content: bytes, asked: Request
    ) -> Answer | None:
        """The hub's answer to a request of an upload; None for any other."""
        if method != "POST" or asked.token in self._hub.rejected_tokens:
            return None
        match parts:
            case ["api", "repos", "create"]:
                return self._create(json.loads(content), asked)
            case ["api", "validate-yaml"]:
                return _validate(json.loads(content)["content"])
            case ["api", "models", owner, name, "preupload", _revision]:
                self._check(f"{owner}/{name}", "preupload", asked)
                return Answer({"files": [_mode(file) for file in json.loads(content)["files"]]})
            case [owner, name, "info", "lfs", "objects", "batch"] if name.endswith(".git"):
                self._check(f"{owner}/{name.removesuffix('.git')}", "batch", asked)
                return self._batch(json.loads(content)["objects"])
            case ["lfs-complete", oid, size]:
                return self._complete(oid, int(size), json.loads(content)["parts"])
            case ["lfs-verify"]:
                return self._verify(json.loads(content))
            case ["api", "models", owner, name, "commit", "main"]:
                self._check(f"{owner}/{name}", "commit", asked)
                return self._commit(f"{owner}/{name}", [json.loads(line) for line in content.splitlines()])
        return None

    def ask_store(
        self, method: str, parts: list[str], query: Mapping[str, list[str]], content: bytes, asked: Request
    ) -> Answer | None:
        """The other origin's answer: bodies of objects, whole or in parts."""
        if method != "PUT":
            return None
        match parts:
            case ["objects", oid]:
                self._take(oid, content)
                return Answer()
            case ["objects", oid, number]:
                self._parts[oid, int(number)] = content
                return Answer(headers={"ETag": f'"{hashlib.md5(content).hexdigest()}"'})
        raise Refused(403, None, "AccessDenied")

    # --- answers

    def _check(self, repo: str, step: str, asked: Request) -> None:
        """Whether who asks may write to `repo`, which must be there, and whether the test lets this step fail."""
        asked.repo = repo
        self._check_owner(repo.partition("/")[0], asked)
        if not self._hub.folders(repo):
            raise Refused(404, "RepoNotFound", "Repository not found")
        for fault in self._hub.faults(repo, step, of_body=False):
            raise Refused(fault.status or 503, None, "The test wants it so.")

    def _check_owner(self, owner: str, asked: Request) -> None:
        if asked.token is None:
            raise Refused(401, None, "Invalid username or password.")
        if self.owner(asked.token) != owner:
            raise Refused(403, None, f'You don\'t have the rights to create a model under the namespace "{owner}"')

    def _create(self, wanted: dict[str, Any], asked: Request) -> Answer:
        owner = str(wanted["organization"] or self.owner(asked.token))
        repo = asked.repo = f"{owner}/{wanted['name']}"
        url = f"{self._hub.endpoint}/{repo}"
        self._check_owner(owner, asked)
        if self._hub.folders(repo):
            return Answer({"error": "You already created this model repo", "url": url}, 409)
        folder = Path(mkdtemp(prefix="repo-", dir=self._place()))
        (folder / ".gitattributes").write_text(ATTRIBUTES)
        if wanted.get("visibility") == "private" or wanted.get("private"):
            self._private[repo] = owner
        self._hub.add_revision(repo, "main", folder)
        return Answer({"url": url, "name": repo, "id": hashlib.sha1(repo.encode()).hexdigest()[:24]})

    def _place(self) -> Path:
        """Where folders of commits lie: beside the root, which shows its own folders as repositories."""
        place = self._hub.root.parent / f"{self._hub.root.name}-commits"
        place.mkdir(exist_ok=True)
        return place

    def _batch(self, objects: list[dict[str, Any]]) -> Answer:
        return Answer({"transfer": "basic", "objects": [self._action(one["oid"], one["size"]) for one in objects]})

    def _action(self, oid: str, size: int) -> dict[str, Any]:
        about: dict[str, Any] = {"oid": oid, "size": size}
        if oid in self.objects:
            return about
        if self.room is not None and sum(map(len, self.objects.values())) + size > self.room:
            message = "Private repository storage limit reached, please upgrade your plan to increase your limit."
            return {**about, "error": {"code": 403, "message": message}}
        verify = {"href": f"{self._hub.endpoint}/lfs-verify"}
        address = f"{self._hub.store}/objects/{oid}"
        if self.part_size is None or size <= self.part_size:
            return {**about, "actions": {"upload": {"href": address}, "verify": verify}}
        numbers = range(1, -(-size // self.part_size) + 1)
        header = {"chunk_size": str(self.part_size), **{str(number): f"{address}/{number}" for number in numbers}}
        done = f"{self._hub.endpoint}/lfs-complete/{oid}/{size}"
        return {**about, "actions": {"upload": {"href": done, "header": header}, "verify": verify}}

    def _complete(self, oid: str, size: int, parts: list[dict[str, Any]]) -> Answer:
        pieces = [self._parts.pop((oid, part["partNumber"])) for part in parts]
        etags = [f'"{hashlib.md5(piece).hexdigest()}"' for piece in pieces]
        if etags != [part["etag"] for part in parts]:
            raise Refused(400, None, "InvalidPart")
        content = b"".join(pieces)
        if len(content) != size:
            raise Refused(400, None, "EntityTooSmall")
        self._take(oid, content)
        return Answer({})

    def _take(self, oid: str, content: bytes) -> None:
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refused(400, None, "BadDigest")
        self.objects[oid] = content

    def _verify(self, told: dict[str, Any]) -> Answer:
        if len(self.objects.get(told["oid"], b"")) != told["size"]:
            raise Refused(404, None, "Object not found")
        return Answer({})

    def _commit(self, repo: str, lines: list[dict[str, Any]]) -> Answer:
        """Makes a new folder of the present one and `lines`, and then lets `main` be that."""
        present = self._hub.folders(repo)["main"]
        parent = read_revision(present).commit
        header = lines[0]["value"]
        if header.get("parentCommit", parent) != parent:
            raise Refused(412, None, "A commit has happened since. Please refresh and try again.")
        folder = Path(mkdtemp(prefix="commit-", dir=self._place()))
        shutil.copytree(present, folder, dirs_exist_ok=True)
        for line in lines[1:]:
            self._change(folder, line["key"], line["value"])
        commit = self._hub.add_revision(repo, "main", folder)
        self.commits.append((repo, commit))
        address = f"{self._hub.endpoint}/{repo}/commit/{commit}"
        return Answer({"success": True, "commitOid": commit, "commitUrl": address, "hookOutput": ""})

    def _change(self, folder: Path, key: str, value: dict[str, Any]) -> None:
        target = folder / value["path"]
        if not target.resolve().is_relative_to(folder.resolve()):
            raise Refused(400, None, "Invalid path")
        if key == "deletedFile":
            target.unlink()
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if key == "file":
            target.write_bytes(base64.b64decode(value["content"]))
        elif key == "lfsFile" and len(self.objects.get(value["oid"], b"")) == value["size"]:
            target.write_bytes(self.objects[value["oid"]])
        else:
            raise Refused(400, None, f"LFS object of {value['path']} is not there")


def _mode(file: dict[str, Any]) -> dict[str, Any]:
    path = Path(file["path"])
    lfs = path.suffix in LFS_SUFFIXES or path.name in LFS_NAMES or file["size"] > LFS_SIZE
    return {"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}


def _validate(card: str) -> Answer:
    """What the hub says of a model card's front matter."""
    if not card.startswith("---\n"):
        return Answer({"warnings": [{"message": "empty or missing yaml metadata in repo card"}], "errors": []})
    try:
        front = yaml.safe_load(card[4:].partition("\n---")[0])
        wrong = [] if isinstance(front, dict) else ["the metadata are no mapping"]
    except yaml.YAMLError as error:
        wrong, front = [f"YAML is invalid: {error}"], None
    licence = front.get("license") if isinstance(front, dict) else None
    if licence is not None and licence not in LICENCES:
        wrong.append(f'"license" must be one of {sorted(LICENCES)}')
    if licence == "other" and isinstance(front, dict) and not front.get("license_name"):
        wrong.append('"license_name" is required')
    errors = [{"message": message} for message in wrong]
    return Answer({"errors": errors, "warnings": []}, 400 if wrong else 200)


LICENCES = frozenset({"apache-2.0", "mit", "gemma", "llama3.2", "cc-by-4.0", "other"})
"""Some of those that the hub knows."""
