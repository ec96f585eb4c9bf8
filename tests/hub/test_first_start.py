"""Opening published models with their dictionaries: the first time, from the cache, offline, twice at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hub.clients import Outcome, client_environment, run_client
from tests.hub.server import HubServer

OPEN = """
import sys
import knowscope_tui
plans = []
from knowscope_tui.session.protocol import SourceSpec
from knowscope_tui.core.dictionaries import Choice, DictionarySource
from knowscope_tui.session.scope import Scope
spec = SourceSpec({model!r}, {sae}, device="cpu", offline={offline!r})
scope = Scope.open(spec, on_plan=plans.append)
reading = scope.probe("The capital of France is", top=5)
test = scope.self_test()
value = {{
    "trained_on": scope.info.trained_on,
    "sources": [d.source for d in scope.info.dictionaries],
    "dtypes": sorted({{d.dtype for d in scope.info.dictionaries}}),
    "expected": [check.expected_l0 for check in test.dictionaries],
    "measured": [(check.l0, check.explained) for check in test.dictionaries],
    "units": [str(row.unit) for row in reading.units],
    "parity": test.parity,
    "download": sum(need.bytes for need in plans[0].needs if need.what == "download"),
    "remarks": scope.info.remarks,
    "sae_lens": "sae_lens" in sys.modules,
}}
"""
GEMMA_3 = "[DictionarySource(release=f'gemma-scope-2-270m-pt-{part}-all') for part in ('res', 'mlp', 'att')]"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def environment(server: HubServer | str, home: Path, **more: Any) -> dict[str, str]:
    return client_environment(server, home, XDG_CACHE_HOME=str(home / "xdg"), **more)


def opened(
    server: HubServer | str, home: Path, model: str = "google/gemma-2-2b", sae: str = "None", *, offline: bool = False
) -> Outcome:
    return run_client(OPEN.format(model=model, sae=sae, offline=offline), environment(server, home))


def test_the_usual_set_comes_once_and_is_then_mapped_without_hub_and_sae_lens(
    true_size_hub: HubServer, home: Path
) -> None:
    first = opened(true_size_hub, home)
    assert first.error is None, first.message
    assert first.value["trained_on"] == "gemma-2-2b"
    assert first.value["sources"] == [
        f"gemma-scope-2b-pt-{part}-canonical layer_0/width_16k/canonical" for part in ("att", "mlp", "res")
    ]
    assert first.value["expected"] == [104.0, 119.0, 105.0]
    assert first.value["parity"] == 0.0
    assert first.value["download"] > 0
    assert first.value["dtypes"] == ["bfloat16"]

    before = len([request for request in true_size_hub.requests if "gemma-scope" in request.path])
    second = opened(true_size_hub, home)
    assert second.error is None, second.message
    assert second.value["units"] == first.value["units"]
    assert second.value["measured"] == first.value["measured"]
    assert second.value["download"] == 0
    assert not second.value["sae_lens"]
    assert len([request for request in true_size_hub.requests if "gemma-scope" in request.path]) == before

    asked = len(true_size_hub.requests)
    third = opened(true_size_hub, home, offline=True)
    assert third.error is None, third.message
    assert third.value["units"] == first.value["units"]
    assert len(true_size_hub.requests) == asked


def test_gemma_3_opens_with_gemma_scope_2_at_three_sites(hub: HubServer, home: Path) -> None:
    layers = ", choice=Choice(l0=10, layers=(0, 2))"
    code = OPEN.replace(', device="cpu"', layers + ', device="cpu"')
    arguments = {"model": "google/gemma-3-270m", "sae": GEMMA_3, "offline": False}
    outcome = run_client(code.format(**arguments), environment(hub, home))
    assert outcome.error is None, outcome.message
    assert len(outcome.value["sources"]) == 9
    assert outcome.value["parity"] == 0.0
    assert outcome.value["trained_on"] == "gemma-3-270m"


def test_a_damaged_dictionary_is_named_and_the_next_start_fetches_it_again(
    true_size_hub: HubServer, home: Path
) -> None:
    repo = "google/gemma-scope-2b-pt-res"
    true_size_hub.corrupt(repo, "layer_0/width_16k/average_l0_105/params.npz")
    code = (
        "from knowscope_tui.session import shelf\nvalue = shelf.pull('gemma-scope-2b-pt-res-canonical', ids=[ID]).made"
    )
    code = code.replace("ID", "'layer_0/width_16k/canonical'")
    broken = run_client(code, environment(true_size_hub, home))
    assert broken.error == "HubError"
    assert "params.npz" in broken.message
    assert not list((home / "xdg").rglob("*.safetensors"))
    true_size_hub.heal()
    assert run_client(code, environment(true_size_hub, home)).value == 1


def test_two_processes_at_once_make_one_copy(true_size_hub: HubServer, home: Path) -> None:
    code = (
        "import json\nfrom knowscope_tui.session import shelf\n"
        "pulled = shelf.pull('gemma-scope-2b-pt-res-canonical', ids=['layer_0/width_16k/canonical'])\n"
        "print(json.dumps([pulled.made, pulled.present]))"
    )
    env = environment(true_size_hub, home)
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert all(sum(json.loads(out)) == 1 for out, _err in outputs)
    assert len(list((home / "xdg").rglob("*.safetensors"))) == 1
    assert not list((home / "xdg").rglob("*.partial"))


def test_offline_without_dictionaries_opens_the_model_and_says_what_is_missing(
    true_size_hub: HubServer, home: Path
) -> None:
    fetched = run_client(
        "from knowscope_tui.engine.loading import load_model\nload_model('google/gemma-2-2b', device='cpu')",
        environment(true_size_hub, home),
    )
    assert fetched.error is None, fetched.message
    outcome = opened(true_size_hub, home, offline=True)
    assert outcome.error is None, outcome.message
    assert outcome.value["sources"] == []
    assert "26 of the 26" in outcome.value["remarks"][0] or "of the 3 usual" in outcome.value["remarks"][0]
    named = "[DictionarySource(release='gemma-scope-2b-pt-res-canonical')]"
    refused = opened(true_size_hub, home, sae=named, offline=True)
    assert refused.error == "HubError"
    assert "offline" in refused.message


def test_a_revision_can_be_named(hub: HubServer, hub_root: Path, home: Path, tmp_path: Path) -> None:
    hub.add_revision("google/gemma-2-2b", "v2", hub_root / "google/gemma-2-2b")
    code = (
        "from knowscope_tui.engine.loading import load_model\n"
        "lm = load_model('google/gemma-2-2b@v2', device='cpu')\nvalue = [lm.source, lm.n_layers]"
    )
    outcome = run_client(code, environment(hub, home))
    assert outcome.value == ["google/gemma-2-2b@v2", 4], outcome.message
