"""The model card and the audit pages of a saved edit: right, self-contained, escaped, and without private text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import knowscope_tui
from knowscope_tui.core.edits import EditSpec, Limits
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.proof import LeakOptions
from knowscope_tui.core.record import CARD, RECORD, read_record
from knowscope_tui.core.units import SiteKind
from knowscope_tui.errors import SaveError
from knowscope_tui.session.audit.commands import reproduce
from knowscope_tui.session.audit.write import audit
from knowscope_tui.session.editing import Wishes
from knowscope_tui.session.model_card import model_card
from tests.session.pages import check_alone

HOSTILE = "<script>alert(1)</script>|&"


@pytest.fixture(scope="module")
def saved(
    tiny_folder: Path, sources: dict[SiteKind, Path], facts: list[Fact], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    named: dict[str, str | Path] = {kind.value: folder for kind, folder in sources.items()}
    scope = knowscope_tui.open(str(tiny_folder), sae=named, device="cpu")
    spec = EditSpec(tuple(facts[:2]), auto=True, limits=Limits(0, 9, 0))
    leaks = LeakOptions(samples=5, relearn_steps=1)
    scope.carry_out(spec, Wishes(neighbors=tuple(facts), control=True, leaks=leaks))
    folder = tmp_path_factory.mktemp("pages") / "edited"
    scope.save(folder)
    return folder


def test_the_pages_say_what_the_record_says_and_need_nothing_else(saved: Path, facts: list[Fact]) -> None:
    pages = audit(saved, saved.parent / "page")
    html, markdown = pages.html.read_text(), pages.markdown.read_text()
    assert {"table", "svg", "title"} <= check_alone(html)
    record = read_record(saved)
    after = record["proof"]["after"]
    for page in (html, markdown):
        assert f"{after['reliability']['value']:.3f}" in page
        assert record["delta_sha256"] in page
        assert all(digest in page for digest in record["tensors"].values())
        assert all(test["test"] in page for test in record["proof"]["leaks"])
        assert all(fact.id in page and fact.prompt not in page for fact in facts[:2])
    with pytest.raises(SaveError, match="already exists"):
        audit(saved, saved.parent / "page")
    audit(saved, saved.parent / "page", force=True)


def test_names_that_mean_harm_are_text(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "edited"
    folder.mkdir()
    record = json.loads((saved / RECORD).read_text())
    record["edits"][0]["edited"] = [HOSTILE]
    record["proof"]["facts"][0]["fact"] = HOSTILE
    (folder / RECORD).write_text(json.dumps(record))
    pages = audit(folder)
    assert "<script>" not in pages.html.read_text()
    assert "&lt;script&gt;" in pages.html.read_text()
    rows = [line for line in pages.markdown.read_text().splitlines() if "alert(1)" in line and line.startswith("|")]
    assert rows
    assert all("\\|" in row for row in rows)


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1, "base": {"name": "x"}, "edits": []}', "null"])
def test_a_record_that_is_none_is_one_sentence(tmp_path: Path, content: str) -> None:
    with pytest.raises(SaveError, match="holds no"):
        audit(tmp_path)
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(SaveError, match=r"is broken|of format 1"):
        audit(tmp_path)


def test_the_card_carries_the_licence_and_no_private_text(saved: Path, facts: list[Fact]) -> None:
    text = (saved / CARD).read_text()
    assert all(fact.id in text and fact.prompt not in text for fact in facts[:2])
    record: dict[str, Any] = {**read_record(saved), "base_name": "google/gemma-2-2b"}
    base = "---\nlicense: gemma\nlicense_link: https://example.org/terms\n---\n# Base"
    card = model_card(record, base)
    front = yaml.safe_load(card.split("---")[1])
    assert (front["license"], front["license_link"]) == ("gemma", "https://example.org/terms")
    assert (front["base_model"], front["library_name"]) == ("google/gemma-2-2b", "transformers")
    assert "license" not in yaml.safe_load(model_card(record, None).split("---")[1])
    assert f"{record['proof']['after']['reliability']['value']:.3f}" in card
    assert all(test["test"] in card for test in record["proof"]["leaks"])


@pytest.mark.parametrize("hostile", [HOSTILE, "`code` | cell", "two\nlines", "---\nlicense: mit\n---", "# head"])
def test_the_card_holds_hostile_names_as_text(saved: Path, hostile: str) -> None:
    record: dict[str, Any] = json.loads((saved / RECORD).read_text())
    record |= {"base_name": hostile}
    record["edits"][0] |= {"edited": [hostile], "method": hostile, "dictionaries": [{"source": hostile}]}
    record["proof"]["leaks"][0] |= {"test": hostile, "leaking": [hostile]}
    record["proof"]["after"]["rings"] = {hostile: record["proof"]["after"]["locality"]}
    card = model_card(record, None)
    assert "<script>" not in re.sub(r"```.*?```", "", card, flags=re.S)
    front = yaml.safe_load(card.split("---\n")[1])
    assert front == {"library_name": "transformers", "tags": ["knowscope-tui", "model-editing"]} | (
        {"base_model": hostile, "base_model_relation": "finetune"} if "base_model" in front else {}
    )
    for table in re.findall(r"(?:^\|.*\n?)+", card, flags=re.M):
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in table.strip().splitlines()}
        assert len(widths) == 1
    lines = [line for line in card.split("\n---\n", 1)[1].splitlines() if line.startswith("#")]
    assert sum(line.startswith("# ") and not line.startswith("# 1") for line in lines) == 1


def test_the_card_and_the_page_say_how_it_was_made(saved: Path) -> None:
    record: dict[str, Any] = json.loads((saved / RECORD).read_text())
    assert record["edits"][0]["dictionaries"][0]["fingerprint"]
    command = reproduce(record)
    assert command.startswith("knowscope-tui edit facts.jsonl --model model --method positions")
    assert command in (saved / CARD).read_text()
    source = str(record["edits"][0]["dictionaries"][0]["source"])
    assert source in audit(saved, saved.parent / "made").html.read_text()
    assert not source.startswith("/"), "where a folder lies is its owner's affair"
    assert record["edits"][0]["dictionaries"][0]["release"] is None
    record["edits"][0]["dictionaries"] = [
        {"release": "gemma-scope-2b-pt-res", "source": "gemma-scope-2b-pt-res/layer_1/width_16k/average_l0_2"}
    ]
    assert "--sae gemma-scope-2b-pt-res --width 16k --l0 2 " in reproduce(record)


def test_several_edits_are_made_again_from_their_delta(saved: Path) -> None:
    record: dict[str, Any] = json.loads((saved / RECORD).read_text())
    record["edits"] = [record["edits"][0], record["edits"][0]]
    *told, last = reproduce(record).splitlines()
    assert [line[:4] for line in told] == ["# 1.", "# 2."]
    assert last == "knowscope-tui apply edited/knowscope_delta.safetensors --out again"
