"""A saved checkpoint goes up whole or not at all, and comes down again as what was saved."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from knowscope_tui.core.record import DELTA, RECORD
from knowscope_tui.core.saved import SaveOptions
from knowscope_tui.engine.deltas.change import SparseChange
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.saving.save import save
from knowscope_tui.engine.saving.saved import problems, read
from tests.hub.clients import Outcome, client_environment, run_client
from tests.hub.server import HubServer

TOKEN, OWNER, REPO = "hf_writer", "alice", "alice/edited"
WEIGHTS = "model.safetensors"
CARD = "---\nlicense: gemma\nlibrary_name: transformers\n---\n\n# Edited\n"

PUSH = """
import time
from pathlib import Path
from knowscope_tui.engine.upload import push
time.sleep = lambda seconds: None  # The client waits between its tries.
def push_all(folder, repo, **options):
    heard = []
    address = push(Path(folder), repo, on_progress=lambda doing, share: heard.append([doing, share]), **options)
    return [address, heard]
"""

LOAD = """
import hashlib, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained({source!r}, dtype="float32")
value = {{name: hashlib.sha256(p.detach().numpy().tobytes()).hexdigest() for name, p in model.named_parameters()}}
"""


def saved_edit(lm: LanguageModel, target: Path, base: str, *, value: float = 0.0) -> Path:
    """A checkpoint in which the first ten entries of a `down_proj` are `value`."""
    name = "model.layers.1.mlp.down_proj.weight"
    shape = tuple(lm.model.get_parameter(name).shape)
    change = SparseChange(name, shape, torch.arange(10), torch.full((10,), value))
    record = {
        "base_name": base,
        "edits": [{"method": "positions", "edited": ["one"]}],
        "delta": {"method": "positions"},
    }
    save(base, [change], record, CARD, target, SaveOptions(), lambda doing, share: None)
    return target


@pytest.fixture(scope="module")
def edited(lm: LanguageModel, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_edit(lm, tmp_path_factory.mktemp("saved") / "edited", str(tiny_folder))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HubServer]:
    (tmp_path / "hub").mkdir()
    with HubServer(tmp_path / "hub") as hub:
        hub.uploads.grant(TOKEN, OWNER)
        yield hub


def push(hub: HubServer, home: Path, folder: Path, repo: str = REPO, *, token: str | None = TOKEN) -> Outcome:
    code = f"{PUSH}\nvalue = push_all({str(folder)!r}, {repo!r})"
    return run_client(code, client_environment(hub, home, token=token))


def held(hub: HubServer, repo: str = REPO) -> dict[str, str]:
    """Name → sha256 of what `repo` shows, but for what every repository is born with."""
    found = hub.find(repo, "main")
    blobs = found.blobs if found else {}
    return {name: blob.sha256 for name, blob in blobs.items() if name != ".gitattributes"}


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


# --- there and back -------------------------------------------------------------------------------------------------


def test_what_comes_down_is_what_was_saved(server: HubServer, edited: Path, tiny_folder: Path, tmp_path: Path) -> None:
    pushed = push(server, tmp_path / "home", edited)
    assert pushed.error is None, pushed.message
    address, heard = pushed.value
    assert address == f"{server.endpoint}/{REPO}"
    assert [repo for repo, _commit in server.uploads.commits] == [REPO]
    shares = [share for _doing, share in heard if share is not None]
    assert shares == sorted(shares)
    assert shares[-1] == 1

    reader = client_environment(server, tmp_path / "reader", token=TOKEN)
    loaded = run_client(LOAD.format(source=REPO), reader)
    assert loaded.error is None, loaded.message
    here = run_client(LOAD.format(source=str(edited)), reader)
    base = run_client(LOAD.format(source=str(tiny_folder)), reader)
    assert loaded.value == here.value
    differing = {name for name in base.value if base.value[name] != loaded.value[name]}
    assert differing == {"model.layers.1.mlp.down_proj.weight"}


def test_it_is_private(server: HubServer, edited: Path, tmp_path: Path) -> None:
    assert push(server, tmp_path / "home", edited).error is None
    stranger = run_client(LOAD.format(source=REPO), client_environment(server, tmp_path / "stranger"))
    assert "OSError" in (stranger.error, *stranger.bases)
    assert server.bodies(REPO, "config.json") == []


def test_the_path_of_the_base_stays_here(server: HubServer, edited: Path, tiny_folder: Path, tmp_path: Path) -> None:
    assert push(server, tmp_path / "home", edited).error is None
    revision = server.find(REPO, "main")
    assert revision is not None
    place = str(tiny_folder.parent).encode()
    assert place in (edited / RECORD).read_bytes()
    assert place in (edited / DELTA).read_bytes()
    assert [name for name, blob in revision.blobs.items() if place in blob.file.read_bytes()] == []
    fetched = read(revision.blobs[RECORD].file.parent)
    assert fetched.base_name == tiny_folder.name
    assert problems(fetched, str(tiny_folder)) == []
    others = {path.name: sha256(path) for path in edited.iterdir() if path.name not in (RECORD, DELTA)}
    assert {name: digest for name, digest in held(server).items() if name in others} == others


def test_a_base_with_a_name_goes_up_as_it_lies(server: HubServer, edited: Path, tmp_path: Path) -> None:
    folder = tmp_path / "named"
    shutil.copytree(edited, folder)
    record = json.loads((folder / RECORD).read_text())
    record["base"]["name"] = "google/gemma-2-2b"
    (folder / RECORD).write_text(json.dumps(record))
    (folder / ".cache").write_text("hidden")
    (folder / "model.safetensors.partial").write_text("under way")
    (folder / "save.lock").touch()
    assert push(server, tmp_path / "home", folder).error is None
    assert held(server) == {path.name: sha256(path) for path in edited.iterdir() if path.name != RECORD} | {
        RECORD: sha256(folder / RECORD)
    }


def test_large_files_go_in_parts(server: HubServer, edited: Path, tmp_path: Path) -> None:
    server.uploads.part_size = (edited / WEIGHTS).stat().st_size // 3
    pushed = push(server, tmp_path / "home", edited)
    assert pushed.error is None, pushed.message
    assert held(server)[WEIGHTS] == sha256(edited / WEIGHTS)
    assert len([asked for asked in server.asked(method="PUT") if sha256(edited / WEIGHTS) in asked.path]) == 4


def test_another_edit_of_the_same_base_takes_its_place(
    server: HubServer, edited: Path, lm: LanguageModel, tiny_folder: Path, tmp_path: Path
) -> None:
    first = tmp_path / "first"
    shutil.copytree(edited, first)
    (first / WEIGHTS).rename(first / "model-00001-of-00001.safetensors")
    assert push(server, tmp_path / "home", first).error is None
    second = saved_edit(lm, tmp_path / "second", str(tiny_folder), value=0.5)
    assert push(server, tmp_path / "home", second).error is None
    assert held(server)[WEIGHTS] == sha256(second / WEIGHTS)
    assert "model-00001-of-00001.safetensors" not in held(server), "transformers could load it instead"


# --- whole or not at all --------------------------------------------------------------------------------------------


def test_a_broken_connection_is_tried_again(server: HubServer, edited: Path, tmp_path: Path) -> None:
    server.uploads.break_off(after=1000, times=2)
    assert push(server, tmp_path / "home", edited).error is None
    assert held(server)[WEIGHTS] == sha256(edited / WEIGHTS)


def test_an_upload_that_is_cut_shows_nothing(server: HubServer, edited: Path, tmp_path: Path) -> None:
    server.uploads.break_off(after=1000, times=100)
    cut = push(server, tmp_path / "home", edited)
    assert "HubError" in cut.bases
    assert "was cut" in cut.message
    assert server.uploads.commits == []
    assert held(server) == {}

    server.uploads.break_off(after=0, times=0)
    assert push(server, tmp_path / "home", edited).error is None
    assert held(server)[WEIGHTS] == sha256(edited / WEIGHTS)


def test_stopping_before_the_commit_shows_nothing(server: HubServer, edited: Path, tmp_path: Path) -> None:
    code = f"""{PUSH}
from knowscope_tui.errors import Cancelled
def stop(doing, share):
    if doing == "Making the commit":
        raise Cancelled
push(Path({str(edited)!r}), {REPO!r}, on_progress=stop)
"""
    assert run_client(code, client_environment(server, tmp_path / "home", token=TOKEN)).error == "Cancelled"
    assert server.uploads.objects
    assert held(server) == {}


def test_a_commit_without_an_answer_is_told_as_that(server: HubServer, edited: Path, tmp_path: Path) -> None:
    server.fail(REPO, "commit", status=502)
    cut = push(server, tmp_path / "home", edited)
    assert cut.error == "OutOfReach"
    assert f"may or may not have arrived: look at {server.endpoint}/{REPO}" in cut.message


def test_what_somebody_else_commits_is_not_overwritten(server: HubServer, edited: Path, tmp_path: Path) -> None:
    code = f"""{PUSH}
from huggingface_hub import HfApi
def meddle(doing, share):
    if doing == "Making the commit":
        HfApi().upload_file(path_or_fileobj=b"mine", path_in_repo="notes.txt", repo_id={REPO!r})
push(Path({str(edited)!r}), {REPO!r}, on_progress=meddle)
"""
    outcome = run_client(code, client_environment(server, tmp_path / "home", token=TOKEN))
    assert outcome.error == "HubError"
    assert "changed while it was written to" in outcome.message
    assert set(held(server)) == {"notes.txt"}


# --- refusals -------------------------------------------------------------------------------------------------------


def test_refusals_are_sentences(server: HubServer, edited: Path, tiny_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_folder, other)
    server.add_revision("alice/other", "main", other)
    server.rejected_tokens.add("hf_expired")
    code = f"""{PUSH}
import os
from knowscope_tui.errors import KnowscopeError
def tried(repo, token):
    os.environ.pop("HF_TOKEN", None)
    if token:
        os.environ["HF_TOKEN"] = token
    try:
        push_all({str(edited)!r}, repo)
    except KnowscopeError as error:
        return type(error).__name__ + ": " + error.what
value = [
    tried("alice/edited", None), tried("edited", {TOKEN!r}), tried("alice/ed ited", {TOKEN!r}),
    tried("bob/edited", {TOKEN!r}), tried("alice/edited", "hf_expired"), tried("alice/other", {TOKEN!r}),
]
"""
    told = run_client(code, client_environment(server, tmp_path / "home"))
    assert told.error is None, told.message
    assert told.value == [
        "HubError: There is no token to upload with.",
        "HubError: 'edited' is no name that a repository could have.",
        "HubError: 'alice/ed ited' is no name that a repository could have.",
        "HubError: Your token may not write to bob/edited: "
        'You don\'t have the rights to create a model under the namespace "bob".',
        "HubError: The hub rejects your token.",
        "HubError: alice/other holds another model.",
    ]
    assert server.uploads.commits == []
    offline = client_environment(server, tmp_path / "home", token=TOKEN, offline=True)
    assert "offline" in run_client(f"{PUSH}\npush_all({str(edited)!r}, {REPO!r})", offline).message


def test_an_account_that_is_full(server: HubServer, edited: Path, tmp_path: Path) -> None:
    server.uploads.room = 10
    full = push(server, tmp_path / "home", edited)
    assert full.error == "HubError"
    assert "storage limit is reached" in full.message
    assert held(server) == {}


def test_a_card_that_the_hub_refuses(server: HubServer, edited: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(edited, folder)
    (folder / "README.md").write_text("---\nlicense: my own\n---\n")
    refused = push(server, tmp_path / "home", folder)
    assert refused.error == "HubError"
    assert "license" in refused.message
    assert held(server) == {}


def test_a_folder_that_is_no_checkpoint(server: HubServer, tiny_folder: Path, tmp_path: Path) -> None:
    assert push(server, tmp_path / "home", tiny_folder).error == "SaveError"
    assert server.asked() == []


# --- saving and uploading in one go ---------------------------------------------------------------------------------

SAVE = """
import knowscope_tui
from knowscope_tui.core.saved import SaveOptions
scope = knowscope_tui.open({base!r}, sae=[], device="cpu")
fact = knowscope_tui.Fact(prompt="The capital of Finland is", answer="a")
scope.edit([fact], method="neurons", site="mlp_act", neighbors=[])
saved = scope.save({target!r}, SaveOptions(push_to_hub={repo!r}))
value = [saved.folder, saved.pushed_to, saved.not_pushed, scope.unsaved]
"""


def test_an_upload_that_fails_leaves_a_saved_folder_that_push_uploads(
    server: HubServer, tiny_folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "edited"
    there = client_environment(server, tmp_path / "home", token=TOKEN)
    failed = run_client(SAVE.format(base=str(tiny_folder), target=str(target), repo="bob/edited"), there)
    assert failed.error is None, failed.message
    folder, pushed_to, not_pushed, unsaved = failed.value
    assert (pushed_to, unsaved) == (None, False)
    assert "may not write to bob/edited" in not_pushed
    assert f"knowscope-tui push {folder} bob/edited" in not_pushed
    assert problems(read(target), str(tiny_folder)) == []
    words = [sys.executable, "-m", "knowscope_tui", "push", str(target), REPO, "--json"]
    done = subprocess.run(words, env=there, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pushed_to"] == f"{server.endpoint}/{REPO}"
    assert held(server)[WEIGHTS] == sha256(target / WEIGHTS)
