"""What becomes of a fetch when the hub is whole, gated, wrong, cut, damaged, slow or gone: bytes, and sentences."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.hub.clients import Outcome, client_environment, run_client
from tests.hub.server import HubServer

FETCH = """
from knowscope_tui.engine import hub
hub.quiet()
told = []
folder = hub.fetch({repo!r}, {patterns!r}, revision={revision!r}, on_progress=lambda *step: told.append(step))
value = {{"files": sorted(path.name for path in folder.rglob("*") if path.is_file()), "told": told}}
"""
MODEL = "google/gemma-2-2b"
WEIGHTS = ("*.safetensors",)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def fetch(
    server: HubServer | str,
    home: Path,
    repo: str = MODEL,
    patterns: tuple[str, ...] = WEIGHTS,
    revision: str | None = None,
    *,
    token: str | None = None,
    offline: bool = False,
    before: str = "",
) -> Outcome:
    """What `hub.fetch` comes to in a process of its own."""
    code = before + FETCH.format(repo=repo, patterns=patterns, revision=revision)
    return run_client(code, client_environment(server, home, token=token, offline=offline))


def sentence(outcome: Outcome) -> str:
    """The message of an error that a person sees; anything else is a fault of the program."""
    assert outcome.error in ("HubError", "OutOfReach"), (outcome.error, outcome.message)
    assert "\n" not in outcome.message
    return outcome.message


def test_what_was_fetched_is_fetched_once_and_then_needs_no_hub(hub: HubServer, home: Path) -> None:
    first = fetch(hub, home)
    assert first.error is None, first.message
    assert len(first.value["files"]) > 1
    assert first.value["told"][-1] is not None
    bodies = len(hub.bodies(MODEL))
    assert fetch(hub, home).value["files"] == first.value["files"]
    assert len(hub.bodies(MODEL)) == bodies
    asked = len(hub.requests)
    assert fetch(hub, home, offline=True).value["files"] == first.value["files"]
    assert len(hub.requests) == asked


def test_progress_is_in_bytes_and_ends_at_the_whole(hub: HubServer, home: Path) -> None:
    shares = [share for doing, share in fetch(hub, home).value["told"] if "Downloading" in doing]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert shares.count(1.0) == 1  # Every byte counts once.


def test_a_cut_connection_is_resumed_where_it_broke(hub: HubServer, hub_root: Path, home: Path) -> None:
    file = next((hub_root / MODEL).glob("*.safetensors"))
    hub.cut(MODEL, file.name, after=1000, times=2)
    outcome = fetch(hub, home)
    assert outcome.error is None, outcome.message
    assert len(hub.bodies(MODEL, file.name)) >= 3


def test_a_connection_that_breaks_for_good_says_so_and_the_next_run_goes_on(
    hub: HubServer, hub_root: Path, home: Path
) -> None:
    first, *rest = sorted(path.name for path in (hub_root / MODEL).glob("*.safetensors"))
    hub.cut(MODEL, first, after=1000, times=None, reset=True)
    assert "the hub did not answer" in sentence(fetch(hub, home))
    hub.heal()
    assert fetch(hub, home).error is None
    for name in rest:
        assert len([body for body in hub.bodies(MODEL, name) if body.status == 200]) <= 2


def test_a_damaged_file_is_named_and_thrown_away(hub: HubServer, hub_root: Path, home: Path) -> None:
    file = sorted((hub_root / MODEL).glob("*.safetensors"))[0]
    hub.corrupt(MODEL, file.name)
    message = sentence(fetch(hub, home))
    assert file.name in message
    assert "damaged" in message
    hub.heal()
    assert fetch(hub, home).error is None


def test_a_gated_model_names_the_licence_page_and_the_login(hub: HubServer, home: Path) -> None:
    hub.gate(MODEL, token="hf_good")
    without = sentence(fetch(hub, home))
    assert "no token was sent" in without
    assert "hf auth login" in without
    assert f"https://huggingface.co/{MODEL}" in without
    refused = sentence(fetch(hub, home, token="hf_other"))
    assert "your token has no access" in refused
    assert fetch(hub, home, token="hf_good").error is None


def test_a_rejected_token_is_said(hub: HubServer, home: Path) -> None:
    hub.rejected_tokens.add("hf_old")
    assert "rejects your token" in sentence(fetch(hub, home, token="hf_old"))


def test_unknown_names_revisions_and_files_are_told_apart(hub: HubServer, home: Path) -> None:
    assert "'google/gemma-9-9b'" in sentence(fetch(hub, home, "google/gemma-9-9b"))
    assert "no revision 'v9'" in sentence(fetch(hub, home, revision="v9"))
    assert "no name that the hub could have" in sentence(fetch(hub, home, "google/gemma 2!"))


def test_a_dead_hub_is_said_unless_the_cache_has_it_all(hub_root: Path, home: Path) -> None:
    with HubServer(hub_root) as server:
        assert fetch(server, home).error is None
        endpoint = server.endpoint
    assert fetch(endpoint, home).error is None
    message = sentence(fetch(endpoint, home, "google/gemma-2-2b-it"))
    assert "the hub did not answer" in message
    assert "--offline" in message


def test_offline_says_what_is_not_whole(hub: HubServer, home: Path) -> None:
    assert "is not whole in the cache" in sentence(fetch(hub, home, offline=True))
    assert not hub.requests


def test_a_full_disk_is_said_and_leaves_nothing_half(hub: HubServer, home: Path) -> None:
    full = (
        "import errno, huggingface_hub.file_download as download\n"
        "def full(*args, **kwargs):\n"
        "    raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "download.http_get = full\n"
    )
    message = sentence(fetch(hub, home, before=full))
    assert "The disk is full" in message
    assert not list(home.rglob("*.incomplete"))


def test_two_processes_at_once_both_get_whole_files(hub: HubServer, hub_root: Path, home: Path) -> None:
    code = FETCH.format(repo=MODEL, patterns=WEIGHTS, revision=None) + "\nprint(len(value['files']))"
    env = client_environment(hub, home)
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    expected = len(list((hub_root / MODEL).glob("*.safetensors")))
    assert [out.strip() for out, _err in outputs] == [str(expected)] * 2


def test_a_killed_download_goes_on_where_it_was(tmp_path: Path, home: Path) -> None:
    size = 44 * 1024 * 1024
    folder = tmp_path / "root" / "google" / "big"
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(bytes(range(256)) * (size // 256))
    with HubServer(tmp_path / "root") as server:
        server.slow("google/big", "weights.safetensors", bytes_per_second=24 * 1024 * 1024)
        code = FETCH.format(repo="google/big", patterns=("*.safetensors",), revision=None)
        killed = subprocess.Popen([sys.executable, "-c", code], env=client_environment(server, home))
        while not any(path.stat().st_size for path in home.rglob("*.knowscope.incomplete")):
            assert killed.poll() is None
            time.sleep(0.05)
        killed.kill()
        killed.wait()
        partial = next(home.rglob("*.knowscope.incomplete")).stat().st_size
        server.heal()
        server.requests.clear()
        outcome = fetch(server, home, "google/big")
        assert outcome.error is None, outcome.message
        (body,) = server.bodies("google/big")
        assert body.range == f"bytes={partial}-"
        assert body.sent == size - partial
    assert not list(home.rglob("*.incomplete*"))


def test_stopping_several_downloads_is_heard_as_a_stop(tmp_path: Path, home: Path) -> None:
    folder = tmp_path / "root" / "google" / "big"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"model-{number}.safetensors").write_bytes(bytes([number]) * (34 * 1024 * 1024))
    code = (
        "from knowscope_tui.engine import hub\n"
        "from knowscope_tui.errors import Cancelled\n"
        "def stop(doing, fraction):\n"
        "    if fraction and fraction > 0.2:\n"
        "        raise Cancelled\n"
        "hub.fetch('google/big', ('*.safetensors',), on_progress=stop)\n"
    )
    with HubServer(tmp_path / "root") as server:
        for _ in range(3):
            assert run_client(code, client_environment(server, home)).error == "Cancelled"
        assert fetch(server, home, "google/big").error is None


def test_a_download_starts_no_thread_that_outlives_it_and_no_lock_between_processes(hub: HubServer, home: Path) -> None:
    code = FETCH.format(repo=MODEL, patterns=WEIGHTS, revision=None) + (
        "import threading\n"
        "from tqdm.std import TqdmDefaultWriteLock\n"
        "value = [thread.name for thread in threading.enumerate()], hasattr(TqdmDefaultWriteLock, 'mp_lock')\n"
    )
    assert run_client(code, client_environment(hub, home)).value == [["MainThread"], False]


@pytest.mark.parametrize(
    ("status", "expected"), [(429, "fewer requests"), (451, "refuses google/gemma-2-2b"), (500, "trouble of its own")]
)
def test_what_the_hub_answers_is_told_apart_from_no_answer(
    hub: HubServer, home: Path, status: int, expected: str
) -> None:
    hub.fail(MODEL, status=status)
    message = sentence(fetch(hub, home))
    assert expected in message
    assert "Check the network" not in message


def test_an_offline_pull_asks_the_hub_nothing(hub: HubServer, home: Path) -> None:
    code = (
        "from knowscope_tui.session import shelf\n"
        "shelf.pull('gemma-scope-2b-pt-res-canonical', ids=['layer_0/width_16k/canonical'], offline=True)\n"
    )
    assert "average_l0_105 of google/gemma-scope-2b-pt-res is not whole" in sentence(
        run_client(code, client_environment(hub, home))
    )
    assert not hub.requests


def test_a_cache_that_cannot_be_written_is_named(hub: HubServer, home: Path) -> None:
    read_only = (
        "import errno, huggingface_hub.file_download as download\n"
        "def refuse(*args, **kwargs):\n"
        "    raise OSError(errno.EROFS, 'Read-only file system')\n"
        "download.http_get = refuse\n"
    )
    message = sentence(fetch(hub, home, before=read_only))
    assert "cannot be written" in message
    assert "HF_HOME" in message
