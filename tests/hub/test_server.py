"""The real clients work against the server, and its faults come out as the real hub's do."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.hub.clients import Outcome, client_environment, run_client
from tests.hub.server import HubServer

MODEL, WEIGHTS = "google/gemma-2-2b", "model-00002-of-00003.safetensors"
BIG, BIG_FILE, BIG_SIZE = "someone/big", "weights.safetensors", 12 * 1024 * 1024
MEBIBYTE = 1024 * 1024
DOWNLOAD_PART = 10 * MEBIBYTE
"""What huggingface_hub writes at a time: a resumed download starts at a multiple of it."""

SNAPSHOT = f"""
from huggingface_hub import snapshot_download
value = snapshot_download({MODEL!r})
"""

MODEL_AND_TOKENIZER = f"""
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained({MODEL!r})
model = AutoModelForCausalLM.from_pretrained({MODEL!r})
inputs = tokenizer("The capital of", return_tensors="pt")
value = [type(model).__name__, len(model.model.layers), float(model(**inputs).logits.float().std())]
"""

DICTIONARIES = """
from sae_lens import SAE
def load(release, name):
    sae = SAE.from_pretrained(release, name)
    return [list(sae.W_enc.shape), sae.cfg.metadata.hook_name]
value = [
    load("gemma-scope-2b-pt-res-canonical", "layer_0/width_16k/canonical"),
    load("gemma-scope-2-270m-pt-res-all", "layer_1_width_16k_l0_small"),
    load("gemma-scope-2-270m-pt-mlp-all", "layer_0_width_16k_l0_small"),
]
try:
    load("gemma-scope-2b-pt-mlp-canonical", "layer_0/width_16k/canonical")
except RuntimeError as error:
    value.append(str(error))
"""


def fetch(repo: str, path: str, **options: str) -> str:
    """Code that downloads one file; its value is the file's sha256."""
    told = "".join(f", {name}={value!r}" for name, value in options.items())
    return f"""
import hashlib
from huggingface_hub import hf_hub_download
with open(hf_hub_download({repo!r}, {path!r}{told}), "rb") as stream:
    value = hashlib.sha256(stream.read()).hexdigest()
"""


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture(scope="module")
def big_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a file of more than one part."""
    root = tmp_path_factory.mktemp("big")
    (root / BIG).mkdir(parents=True)
    (root / BIG / BIG_FILE).write_bytes(os.urandom(BIG_SIZE))
    return root


# --- whole repositories ---------------------------------------------------------------------------------------------


def test_snapshot_is_the_repository_and_then_needs_no_hub(hub: HubServer, hub_root: Path, home: Path) -> None:
    first = run_client(SNAPSHOT, client_environment(hub, home))
    folder = Path(first.value)
    originals = [file for file in (hub_root / MODEL).iterdir() if file.is_file()]
    assert folder.name == hub.commit(MODEL)
    assert {file.name for file in folder.iterdir()} == {file.name for file in originals}
    assert all(sha256(folder / file.name) == sha256(file) for file in originals)
    assert len(hub.bodies(MODEL)) == len(originals)

    hub.requests.clear()
    assert run_client(SNAPSHOT, client_environment(hub, home)).value == first.value
    assert [asked.path for asked in hub.requests] == [f"/api/models/{MODEL}/revision/main"]

    hub.requests.clear()
    assert run_client(SNAPSHOT, client_environment(hub, home, offline=True)).value == first.value
    assert hub.requests == []


def test_transformers_loads_a_sharded_model(hub: HubServer, home: Path) -> None:
    first = run_client(MODEL_AND_TOKENIZER, client_environment(hub, home))
    assert first.error is None, first.message
    assert first.value[:2] == ["Gemma2ForCausalLM", 4]
    assert len([asked for asked in hub.bodies(MODEL) if str(asked.file).endswith(".safetensors")]) == 3

    hub.requests.clear()
    assert run_client(MODEL_AND_TOKENIZER, client_environment(hub, home, offline=True)).value == first.value
    assert hub.requests == []


def test_sae_lens_loads_dictionaries(true_size_hub: HubServer, hub_root: Path, home: Path) -> None:
    scope_2, narrow = "google/gemma-scope-2-270m-pt", "google/gemma-scope-2b-pt-mlp"
    for repo in (scope_2, narrow):
        true_size_hub.add_revision(repo, "main", hub_root / repo)
    outcome = run_client(DICTIONARIES, client_environment(true_size_hub, home))
    assert outcome.error is None, outcome.message
    *loaded, refusal = outcome.value
    assert loaded == [
        [[2304, 16384], "blocks.0.hook_resid_post"],
        [[64, 64], "blocks.1.hook_resid_post"],
        [[64, 64], "blocks.0.hook_mlp_out"],
    ]
    assert "size mismatch for W_enc" in refusal
    ranges = [asked.range for asked in true_size_hub.bodies(scope_2) if str(asked.file).startswith("resid_post_all")]
    assert "bytes=0-7" in ranges


# --- one file, and what can go wrong with it ------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["config.json", WEIGHTS])
def test_a_file_is_fetched_once(hub: HubServer, hub_root: Path, home: Path, path: str) -> None:
    environment = client_environment(hub, home)
    for _ in range(2):
        assert run_client(fetch(MODEL, path), environment).value == sha256(hub_root / MODEL / path)
    (sent,) = hub.bodies(MODEL, path)
    assert sent.sent == (hub_root / MODEL / path).stat().st_size


def test_a_cut_download_is_resumed(big_root: Path, home: Path) -> None:
    with HubServer(big_root) as hub:
        hub.cut(BIG, BIG_FILE, after=11 * MEBIBYTE)
        outcome = run_client(fetch(BIG, BIG_FILE), client_environment(hub, home))
        assert outcome.value == sha256(big_root / BIG / BIG_FILE)
        told = [(asked.range, asked.status, asked.sent) for asked in hub.bodies(BIG)]
    assert told == [(None, 200, 11 * MEBIBYTE), (f"bytes={DOWNLOAD_PART}-", 206, BIG_SIZE - DOWNLOAD_PART)]


def test_a_reset_connection_is_given_up(hub: HubServer, home: Path) -> None:
    hub.cut(MODEL, WEIGHTS, after=1000, reset=True)
    outcome = run_client(fetch(MODEL, WEIGHTS), client_environment(hub, home))
    assert outcome.error == "ReadError"
    assert "OSError" not in outcome.bases
    assert len(hub.bodies(MODEL)) == 1


def test_a_corrupt_file_has_the_true_length_and_etag(hub: HubServer, hub_root: Path, home: Path) -> None:
    hub.corrupt(MODEL, WEIGHTS)
    true = (hub_root / MODEL / WEIGHTS).read_bytes()
    outcome = run_client(fetch(MODEL, WEIGHTS), client_environment(hub, home))
    middle = len(true) // 2
    flipped = true[:middle] + bytes([true[middle] ^ 0xFF]) + true[middle + 1 :]
    assert outcome.value == hashlib.sha256(flipped).hexdigest()
    assert (home / "hub" / "models--google--gemma-2-2b" / "blobs" / hashlib.sha256(true).hexdigest()).is_file()


def test_a_slow_file_takes_its_time(hub: HubServer, hub_root: Path) -> None:
    from time import monotonic

    size = (hub_root / MODEL / WEIGHTS).stat().st_size
    hub.slow(MODEL, WEIGHTS, bytes_per_second=2 * size)
    started = monotonic()
    with urlopen(f"{hub.endpoint}/{MODEL}/resolve/main/{WEIGHTS}") as answer:
        assert len(answer.read()) == size
    assert 0.4 < monotonic() - started < 5


def test_a_failure_passes(hub: HubServer, hub_root: Path, home: Path) -> None:
    hub.fail(MODEL, "config.json", status=503, times=1)
    outcome = run_client(fetch(MODEL, "config.json"), client_environment(hub, home))
    assert outcome.value == sha256(hub_root / MODEL / "config.json")
    assert next(asked.status for asked in hub.asked(MODEL, method="HEAD")) == 503


@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [
        (None, 200, 0, None),
        ("bytes=0-7", 206, 0, 8),
        ("bytes=8-", 206, 8, None),
        ("bytes=-5", 206, -5, None),
        ("bytes=99999999-", 416, 0, 0),
    ],
)
def test_ranges(hub: HubServer, hub_root: Path, asked: str | None, status: int, start: int, stop: int | None) -> None:
    whole = (hub_root / MODEL / "config.json").read_bytes()
    headers = {"Range": asked} if asked else {}
    try:
        with urlopen(Request(f"{hub.endpoint}/{MODEL}/resolve/main/config.json", headers=headers)) as answer:
            got, content = answer.status, answer.read()
    except HTTPError as error:
        got, content = error.code, error.read()
    assert (got, content) == (status, whole[start:stop])


# --- refusals -------------------------------------------------------------------------------------------------------


def refused(hub: HubServer, home: Path, code: str, token: str | None = None) -> Outcome:
    return run_client(code, client_environment(hub, home, token=token))


def test_a_gated_repository_opens_to_its_token_only(hub: HubServer, hub_root: Path, home: Path) -> None:
    hub.gate(MODEL, "hf_good")
    code = fetch(MODEL, WEIGHTS)
    stranger, other = refused(hub, home, code), refused(hub, home, code, "hf_other")
    assert (stranger.error, other.error) == ("GatedRepoError", "GatedRepoError")
    assert stranger.message.startswith("401 Client Error")
    assert "Please log in." in stranger.message
    assert other.message.startswith("403 Client Error")
    assert "ask for access" in other.message
    assert refused(hub, home, SNAPSHOT).error == "GatedRepoError"
    assert hub.bodies(MODEL) == []

    assert refused(hub, home, code, "hf_good").value == sha256(hub_root / MODEL / WEIGHTS)
    (sent,) = hub.bodies(MODEL)
    assert sent.token is None, "the store of large files is another origin: it is told no token"


def test_a_rejected_token(hub: HubServer, home: Path) -> None:
    hub.rejected_tokens.add("hf_expired")
    outcome = refused(hub, home, fetch(MODEL, "config.json"), "hf_expired")
    assert outcome.error == "HfHubHTTPError"
    assert "Invalid credentials" in outcome.message


@pytest.mark.parametrize(
    ("code", "token", "error", "status"),
    [
        (fetch("google/gemma-nine", "config.json"), None, "RepositoryNotFoundError", 401),
        (fetch("google/gemma-nine", "config.json"), "hf_any", "RepositoryNotFoundError", 404),
        (fetch(MODEL, "config.json", revision="elsewhere"), None, "RevisionNotFoundError", 404),
        (SNAPSHOT.replace(repr(MODEL), f"{MODEL!r}, revision='elsewhere'"), None, "RevisionNotFoundError", 404),
        (fetch(MODEL, "config.toml"), None, "RemoteEntryNotFoundError", 404),
    ],
)
def test_what_is_not_there(hub: HubServer, home: Path, code: str, token: str | None, error: str, status: int) -> None:
    outcome = refused(hub, home, code, token)
    assert outcome.error == error
    assert outcome.message.startswith(f"{status} Client Error")


def test_another_revision(hub: HubServer, hub_root: Path, home: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{}")
    commit = hub.add_revision(MODEL, "refs/pr/1", tmp_path / "other")
    assert commit != hub.commit(MODEL)
    for revision in ("refs/pr/1", commit):
        outcome = run_client(fetch(MODEL, "config.json", revision=revision), client_environment(hub, home))
        assert outcome.value == hashlib.sha256(b"{}").hexdigest()


def test_a_stopped_server_refuses_connections_and_comes_back(hub_root: Path, home: Path) -> None:
    hub = HubServer(hub_root)
    hub.start()
    endpoint, port = hub.endpoint, hub.port
    hub.stop()
    outcome = run_client(SNAPSHOT, client_environment(endpoint, home))
    assert outcome.error == "LocalEntryNotFoundError"
    assert "ConnectError" in outcome.causes
    hub.start(port)
    try:
        assert run_client(SNAPSHOT, client_environment(endpoint, home)).error is None
    finally:
        hub.stop()


# --- the repositories -----------------------------------------------------------------------------------------------


def test_dictionaries_lie_where_the_registry_says(hub_root: Path) -> None:
    from tests.hub.repositories import KINDS, canonical

    assert canonical("res", 0) == "layer_0/width_16k/average_l0_105"
    for kind in KINDS:
        for layer in range(4):
            assert (hub_root / f"google/gemma-scope-2b-pt-{kind}" / canonical(kind, layer) / "params.npz").is_file()


def test_the_chat_template_is_gemmas(hub_root: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(hub_root / "google/gemma-2-2b-it")
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": " Who? "}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<bos><start_of_turn>user\nWho?<end_of_turn>\n<start_of_turn>model\n"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    names = tokenizer.convert_ids_to_tokens(ids)
    assert [name for name in names if name.startswith("<") and "turn" in name] == [
        "<start_of_turn>",
        "<end_of_turn>",
        "<start_of_turn>",
    ]
    plain = AutoTokenizer.from_pretrained(hub_root / MODEL)
    assert plain.chat_template is None
