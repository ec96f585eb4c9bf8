"""A server that speaks the Hugging Face hub's protocol on loopback (for its clients see `clients`).

As the real hub does, it sends a client that resolves a small file on to `/api/resolve-cache/…`, and one that resolves a
large file (Git LFS) to another origin, where no token is needed: here a second port. Faults are set while it runs. What
is uploaded (see `uploads`) is served like what was there before.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.hub.contents import Blob, Revision, read_revision
from tests.hub.uploads import Refused, Uploads

CHUNK = 64 * 1024
DATE = "2024-08-01T00:00:00.000Z"


# --- what happened, and what is to go wrong --------------------------------------------------------------------------


@dataclass
class Request:
    """A request that came in. `sent` counts the bytes of the body handed to the connection."""

    method: str
    path: str
    range: str | None
    token: str | None
    status: int = 0
    sent: int = 0
    repo: str | None = None
    """`owner/name`, whichever address it came by."""
    file: str | None = None
    """Path inside the repository."""


@dataclass
class Fault:
    """What goes wrong with a file. A `times` of None is for ever."""

    times: int | None = None
    cut_after: int | None = None
    reset: bool = False
    corrupt_at: int | None = None
    bytes_per_second: float | None = None
    status: int | None = None


class HubServer:
    """Serves every folder `root/OWNER/NAME` as the model repository `OWNER/NAME`, revision `main`.

    A context manager. Folders are read at every request: a file added later is there, under a new commit. `path` of a
    fault is a path inside the repository.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.requests: list[Request] = []
        self.rejected_tokens: set[str] = set()
        self._revisions: dict[str, dict[str, Path]] = {}
        self._gates: dict[str, str | None] = {}
        self._faults: dict[tuple[str, str | None], list[Fault]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._listeners: list[_Listener] = []
        self.uploads = Uploads(self)

    # --- its life

    def __enter__(self) -> HubServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, port: int = 0) -> None:
        """Listens, on a free port unless one is given (to come back where it was)."""
        self._stopping.clear()
        self._listeners = [_Listener(self, port, on_hub=True), _Listener(self, 0, on_hub=False)]

    def stop(self) -> None:
        """Stops listening and closes every connection. The address then refuses connections."""
        self._stopping.set()
        for listener in self._listeners:
            listener.end()

    @property
    def port(self) -> int:
        return int(self._listeners[0].server_address[1])

    @property
    def endpoint(self) -> str:
        """For `HF_ENDPOINT`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def store(self) -> str:
        """The other origin, where large files lie."""
        return f"http://127.0.0.1:{int(self._listeners[1].server_address[1])}"

    # --- what it holds

    def add_revision(self, repo: str, name: str, folder: Path) -> str:
        """Serves `folder` as revision `name` (a branch or tag) of `repo`; the commit."""
        self._revisions.setdefault(repo, {})[name] = folder
        return read_revision(folder).commit

    def commit(self, repo: str, revision: str = "main") -> str:
        found = self.find(repo, revision)
        assert found is not None, f"{repo} has no revision {revision}"
        return found.commit

    def folders(self, repo: str) -> dict[str, Path]:
        """Revision → folder; empty for an unknown repository."""
        main = self.root / repo
        here = {"main": main} if repo.count("/") == 1 and ".." not in repo and main.is_dir() else {}
        return {**here, **self._revisions.get(repo, {})}

    def find(self, repo: str, revision: str) -> Revision | None:
        """By the name of a branch or tag, or by commit."""
        folders = self.folders(repo)
        if revision in folders:
            return read_revision(folders[revision])
        return next((found for found in map(read_revision, folders.values()) if found.commit == revision), None)

    # --- what goes wrong

    def gate(self, repo: str, token: str | None = None) -> None:
        """The files of `repo` are for the bearer of `token` only (None: for nobody); its listing stays public."""
        self._gates[repo] = token

    def ungate(self, repo: str) -> None:
        self._gates.pop(repo, None)

    def cut(self, repo: str, path: str, after: int, times: int | None = 1, reset: bool = False) -> None:
        """Closes the connection after so many bytes of a body; `reset` does it with a TCP reset."""
        self._add(repo, path, Fault(times, cut_after=after, reset=reset))

    def corrupt(self, repo: str, path: str, at: int | None = None, times: int | None = None) -> None:
        """Flips the bits of the byte `at` (default: the middle one); length and etag stay those of the true file."""
        size = (self.root / repo / path).stat().st_size
        self._add(repo, path, Fault(times, corrupt_at=size // 2 if at is None else at))

    def slow(self, repo: str, path: str, bytes_per_second: float) -> None:
        self._add(repo, path, Fault(bytes_per_second=bytes_per_second))

    def fail(self, repo: str, path: str | None = None, status: int = 503, times: int | None = None) -> None:
        """Answers every request for `path`, or for anything in `repo`, with `status`."""
        self._add(repo, path, Fault(times, status=status))

    def heal(self) -> None:
        """Takes every fault and gate back."""
        with self._lock:
            self._faults.clear()
            self._gates.clear()
            self.rejected_tokens.clear()

    def _add(self, repo: str, path: str | None, fault: Fault) -> None:
        with self._lock:
            self._faults.setdefault((repo, path), []).append(fault)

    def faults(self, repo: str, path: str | None, *, of_body: bool) -> list[Fault]:
        """The faults of one answer, each counted as used: those of its body, or of its status."""
        with self._lock:
            wanted = [
                fault
                for key in {(repo, path), (repo, None)}
                for fault in self._faults.get(key, [])
                if fault.times != 0 and (fault.status is None) == of_body
            ]
            for fault in wanted:
                fault.times = None if fault.times is None else fault.times - 1
            return wanted

    # --- what was asked

    def note(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)

    def asked(self, repo: str | None = None, file: str | None = None, method: str | None = None) -> list[Request]:
        """The requests so far for `repo`, `file` and `method`, where given."""
        with self._lock:
            return [
                request
                for request in self.requests
                if (repo is None or request.repo == repo)
                and (file is None or request.file == file)
                and (method is None or request.method == method)
            ]

    def bodies(self, repo: str, file: str | None = None) -> list[Request]:
        """The requests that bytes of a file of `repo` were sent for."""
        return [asked for asked in self.asked(repo, file, "GET") if asked.file and asked.status in (200, 206)]

    def allows(self, repo: str, token: str | None) -> bool:
        return repo not in self._gates or (token is not None and token == self._gates[repo])

    def is_gated(self, repo: str) -> bool:
        return repo in self._gates

    def pause(self, seconds: float) -> None:
        """Sleeps; `stop` wakes it."""
        self._stopping.wait(seconds)


# --- HTTP -----------------------------------------------------------------------------------------------------------


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, hub: HubServer, port: int, *, on_hub: bool) -> None:
        self.hub = hub
        self.on_hub = on_hub
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "hub"
    disable_nagle_algorithm = True
    server: _Listener

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    # --- routes

    def _answer(self) -> None:
        self.hub = self.server.hub
        bearer = (self.headers.get("Authorization") or "").partition("Bearer ")[2].strip()
        self.asked = Request(self.command, self.path, self.headers.get("Range"), bearer or None)
        self.hub.note(self.asked)
        length = int(self.headers.get("Content-Length") or 0)
        broken = self.hub.uploads.breaks_off(self.command, length)
        self.content = self.rfile.read(length if broken is None else broken)
        if broken is not None:
            self._hang_up(reset=True)
            return
        address = urlsplit(self.path)
        self.query = parse_qs(address.query)
        # Revisions such as refs/pr/1 come with their slashes quoted: split first.
        parts = [unquote(part) for part in address.path.strip("/").split("/")]
        try:
            if self._uploaded(parts):
                return
            self._route(parts) if self.server.on_hub else self._store(parts)
        except Refused as refusal:
            self._refuse(refusal)

    def _route(self, parts: list[str]) -> None:
        if self.asked.token in self.hub.rejected_tokens:
            raise Refused(401, None, "Invalid credentials in Authorization header")
        match parts:
            case ["api", "agent-harnesses"]:
                self._json({"standardEnvVars": [], "harnesses": {}})
            case ["api", "whoami-v2"]:
                self._whoami()
            case ["api", "resolve-cache", "models", owner, name, commit, *path]:
                self._resolve_cache(f"{owner}/{name}", commit, "/".join(path))
            case ["api", "models", owner, name, *rest]:
                self._api(f"{owner}/{name}", rest)
            case [owner, name, "resolve", revision, *path]:
                self._resolve(f"{owner}/{name}", revision, "/".join(path))
            case ["api", "models", name] | [name, "resolve", _, *_]:
                self._folders(name)
            case _:
                raise Refused(404, None, "Sorry, we can't find the page you are looking for.")

    def _uploaded(self, parts: list[str]) -> bool:
        """Answers a request that belongs to an upload, if it is one."""
        ask = self.hub.uploads.ask_hub if self.server.on_hub else self.hub.uploads.ask_store
        answer = ask(self.command, parts, self.query, self.content, self.asked)
        if answer is None:
            return False
        about = {"Content-Type": "application/json; charset=utf-8", **answer.headers}
        self._send(answer.status, json.dumps(answer.content).encode(), **about)
        return True

    def _api(self, repo: str, rest: list[str]) -> None:
        folders = self._folders(repo)
        match rest:
            case []:
                self._json(self._info(repo, self._revision(repo, "main")))
            case ["revision", revision]:
                self._json(self._info(repo, self._revision(repo, revision)))
            case ["tree", revision, *path]:
                self._tree(self._revision(repo, revision), "/".join(path))
            case ["paths-info", revision]:
                self._paths_info(self._revision(repo, revision))
            case ["refs"]:
                self._refs(folders)
            case ["auth-check"]:
                self._check_access(repo)
                self._json({})
            case _:
                raise Refused(404, None, "Not Found")

    def _whoami(self) -> None:
        if self.asked.token is None:
            raise Refused(401, None, "Invalid username or password.")
        name = self.hub.uploads.owner(self.asked.token) or "tester"
        self._json({"type": "user", "name": name, "fullname": name.title(), "auth": {"type": "access_token"}})

    def _info(self, repo: str, revision: Revision) -> dict[str, Any]:
        with_sizes = self.query.get("blobs", ["false"])[0].lower() in ("true", "1")
        return {
            "_id": hashlib.sha1(repo.encode()).hexdigest()[:24],
            "id": repo,
            "modelId": repo,
            "author": repo.partition("/")[0],
            "sha": revision.commit,
            "lastModified": DATE,
            "createdAt": DATE,
            "private": self.hub.uploads.is_private(repo),
            "gated": "manual" if self.hub.is_gated(repo) else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "library_name": "transformers",
            "usedStorage": sum(blob.size for blob in revision.blobs.values()),
            "siblings": [_sibling(path, blob, with_sizes) for path, blob in revision.blobs.items()],
        }

    def _tree(self, revision: Revision, folder: str) -> None:
        entries = revision.tree(folder, self.query.get("recursive", ["false"])[0].lower() in ("true", "1"))
        if entries is None:
            raise Refused(404, "EntryNotFound", f"{folder} does not exist on this revision")
        self._json(entries)

    def _paths_info(self, revision: Revision) -> None:
        text = self.content.decode()
        is_json = "json" in (self.headers.get("Content-Type") or "")
        wanted = json.loads(text)["paths"] if is_json else parse_qs(text).get("paths", [])
        entries = {entry["path"]: entry for entry in revision.tree("", recursive=True) or []}
        self._json([entries[path] for path in map(str, wanted) if path in entries])

    def _refs(self, folders: Mapping[str, Path]) -> None:
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": read_revision(folder).commit}
            for name, folder in folders.items()
        ]
        self._json({"branches": branches, "converts": [], "tags": []})

    def _resolve(self, repo: str, name: str, path: str) -> None:
        """Where the file lies, with what is known about it."""
        blob, commit = self._entry(repo, name, path)
        if blob.lfs:
            where, status = f"{self.hub.store}/{repo}/{commit}/{quote(path)}?Signature=loopback", 302
            about = {"X-Linked-Size": str(blob.size), "X-Linked-ETag": f'"{blob.etag}"'}
        else:
            where, status = f"/api/resolve-cache/models/{repo}/{commit}/{quote(path)}?etag=%22{blob.etag}%22", 307
            about = {"ETag": f'"{blob.etag}"'}
        self._send(status, f"Redirecting to {where}".encode(), Location=where, **{"X-Repo-Commit": commit}, **about)

    def _resolve_cache(self, repo: str, commit: str, path: str) -> None:
        blob, commit = self._entry(repo, commit, path)
        self._send_file(repo, path, blob, **{"X-Repo-Commit": commit})

    def _store(self, parts: list[str]) -> None:
        """The other origin: whoever holds the address may read."""
        owner, name, commit, *path = parts
        repo, self.asked.repo, self.asked.file = f"{owner}/{name}", f"{owner}/{name}", "/".join(path)
        revision = self.hub.find(repo, commit)
        if revision is None or self.asked.file not in revision.blobs:
            raise Refused(403, None, "AccessDenied")
        self._send_file(repo, self.asked.file, revision.blobs[self.asked.file])

    # --- what may be read

    def _folders(self, repo: str) -> Mapping[str, Path]:
        self.asked.repo = repo
        folders = self.hub.folders(repo) if self.hub.uploads.shows(repo, self.asked.token) else {}
        if not folders and self.asked.token is None:
            raise Refused(401, "RepoNotFound", "Invalid username or password.")
        if not folders:
            raise Refused(404, "RepoNotFound", "Repository not found")
        for fault in self.hub.faults(repo, self.asked.file, of_body=False):
            raise Refused(fault.status or 503, None, "The test wants it so.")
        return folders

    def _revision(self, repo: str, name: str) -> Revision:
        revision = self.hub.find(repo, name)
        if revision is None:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {name}")
        return revision

    def _check_access(self, repo: str) -> None:
        if self.hub.allows(repo, self.asked.token):
            return
        restricted = f"Access to model {repo} is restricted"
        if self.asked.token is None:
            how = "You must have access to it and be authenticated to access it. Please log in."
            raise Refused(401, "GatedRepo", f"{restricted}. {how}")
        where = f"https://huggingface.co/{repo}"
        why = f"and you are not in the authorized list. Visit {where} to ask for access."
        raise Refused(403, "GatedRepo", f"{restricted} {why}")

    def _entry(self, repo: str, name: str, path: str) -> tuple[Blob, str]:
        self.asked.file = path
        self._folders(repo)
        self._check_access(repo)
        revision = self._revision(repo, name)
        if path not in revision.blobs:
            raise Refused(404, "EntryNotFound", "Entry not found", **{"X-Repo-Commit": revision.commit})
        return revision.blobs[path], revision.commit

    # --- answers

    def _json(self, content: Any) -> None:
        self._send(200, json.dumps(content).encode(), **{"Content-Type": "application/json; charset=utf-8"})

    def _refuse(self, refusal: Refused) -> None:
        told = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message, **refusal.headers}
        body = json.dumps({"error": refusal.message}).encode()
        headers = {name: value for name, value in told.items() if value is not None}
        self._send(refusal.status, body, **{"Content-Type": "application/json; charset=utf-8"}, **headers)

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self._head(status, {"Content-Length": str(len(body)), **headers})
        if self.command != "HEAD":
            self.asked.sent += len(body)
            self.wfile.write(body)

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.asked.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_file(self, repo: str, path: str, blob: Blob, **headers: str) -> None:
        about = {"ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes", **headers}
        about["Content-Type"] = "application/octet-stream" if blob.lfs else "text/plain; charset=utf-8"
        span = _span(self.asked.range, blob.size)
        if span is None:
            self._head(416, {"Content-Range": f"bytes */{blob.size}", "Content-Length": "0", **about})
            return
        start, stop = span
        if self.asked.range and (start, stop) != (0, blob.size):
            about["Content-Range"] = f"bytes {start}-{stop - 1}/{blob.size}"
        self._head(206 if "Content-Range" in about else 200, {"Content-Length": str(stop - start), **about})
        if self.command == "GET":
            self._send_body(blob.file, start, stop, self.hub.faults(repo, path, of_body=True))

    def _send_body(self, file: Path, start: int, stop: int, faults: list[Fault]) -> None:
        cut = next((fault for fault in faults if fault.cut_after is not None), None)
        end = stop if cut is None else min(stop, start + (cut.cut_after or 0))
        flips = [fault.corrupt_at for fault in faults if fault.corrupt_at is not None]
        rates = [fault.bytes_per_second for fault in faults if fault.bytes_per_second]
        chunk = max(1, min(CHUNK, int(min(rates) / 20))) if rates else CHUNK
        with file.open("rb") as stream:
            stream.seek(start)
            for at in range(start, end, chunk):
                piece = bytearray(stream.read(min(chunk, end - at)))
                for flip in flips:
                    if at <= flip < at + len(piece):
                        piece[flip - at] ^= 0xFF
                self.asked.sent += len(piece)
                self.wfile.write(piece)
                if rates:
                    self.hub.pause(len(piece) / min(rates))
        if cut is not None and end < stop:
            self._hang_up(cut.reset)

    def _hang_up(self, reset: bool) -> None:
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()


def _sibling(path: str, blob: Blob, with_sizes: bool) -> dict[str, Any]:
    if not with_sizes:
        return {"rfilename": path}
    lfs = {"lfs": {"sha256": blob.sha256, "size": blob.size, "pointerSize": 134}} if blob.lfs else {}
    return {"rfilename": path, "size": blob.size, "blobId": blob.oid, **lfs}


def _span(asked: str | None, size: int) -> tuple[int, int] | None:
    """The bytes [start, stop) that a Range header asks for; None if it cannot be satisfied."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", asked or "")
    if match is None or match.groups() == ("", ""):
        return 0, size
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    start, stop = int(first), min(size, int(last) + 1) if last else size
    return (start, stop) if start < stop else None
