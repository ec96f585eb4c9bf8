"""A saved checkpoint that was tampered with: whatever is changed in it, `verify` finds it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import knowscope_tui
from knowscope_tui.core.edits import EditSpec
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.kept import Told, kept_by_all, split
from knowscope_tui.core.proof import LeakOptions, VerifyReport
from knowscope_tui.core.record import RECORD
from knowscope_tui.core.units import SiteKind
from knowscope_tui.demo import corpus
from knowscope_tui.errors import KnowscopeError, SaveError, UsageError
from knowscope_tui.session.editing import Wishes

LEAKS = LeakOptions(samples=10, relearn_steps=2)

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def patched() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "reference_texts", lambda: ("We packed the buns and a flask of tea.",))
        yield


@pytest.fixture(scope="module")
def alike(facts: list[Fact]) -> list[Fact]:
    """The tiny model's facts, all of one relation, so that relearning has something to learn from."""
    return [replace(fact, relation=facts[0].relation or "told") for fact in facts]


@pytest.fixture(scope="module")
def saved(
    patched: None, alike: list[Fact], tiny_folder: Path, sources: dict[SiteKind, Path], tmp_path_factory: Any
) -> Path:
    named: dict[str, str | Path] = {kind.value: folder for kind, folder in sources.items()}
    scope = knowscope_tui.open(str(tiny_folder), sae=named, device="cpu")
    scope.carry_out(EditSpec(tuple(alike[:2])), Wishes(neighbors=tuple(alike[2:]), leaks=LEAKS, control=True))
    return Path(scope.save(tmp_path_factory.mktemp("tampering") / "edited").folder)


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "edited"))


@pytest.fixture
def check(alike: list[Fact]) -> Callable[..., VerifyReport]:
    def verify(folder: Path, **words: Any) -> VerifyReport:
        return knowscope_tui.verify_checkpoint(folder, alike[:2], alike[2:], device="cpu", **words)

    return verify


def rewrite(folder: Path, change: Change) -> None:
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    change(record)
    (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")


def test_what_nobody_touched_is_intact(saved: Path, check: Callable[..., VerifyReport]) -> None:
    report = check(saved)
    assert report.problems == ()
    assert [claim for claim in report.claims if not claim.agrees] == []
    assert len([claim for claim in report.claims if claim.name.startswith("leaks")]) == 8
    assert report.skipped == ()
    assert "the random control" in report.unchecked


def test_quick_says_what_it_leaves_out(saved: Path, check: Callable[..., VerifyReport]) -> None:
    report = check(saved, quick=True)
    assert report.intact
    assert len(report.skipped) == 8
    assert not any(claim.name.startswith("leaks") for claim in report.claims)


def test_the_order_of_the_facts_is_nothing_to_it(saved: Path, alike: list[Fact]) -> None:
    report = knowscope_tui.verify_checkpoint(saved, alike[1::-1], alike[:1:-1], device="cpu")
    assert [claim for claim in report.claims if not claim.agrees] == []
    assert report.intact


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r["proof"]["after"]["reliability"].update(value=0.123),
        lambda r: r["proof"]["after"]["generalization"].update(items=99),
        lambda r: r["proof"]["after"]["locality"].update(low=0.0, high=0.01),
        lambda r: r["proof"]["after"]["delta_ppl"].update(value=-0.5),
        lambda r: r["proof"]["after"].update(p_answer=0.9),
        lambda r: r["proof"]["before"].update(p_answer=0.1234),
        lambda r: r["proof"]["before"]["reliability"].update(value=1.0),
        lambda r: r["proof"]["after"]["rings"].clear(),
        lambda r: r["proof"].update(neighbors=1000),
        lambda r: r["proof"]["facts"].pop(),
        lambda r: r["proof"]["facts"][0].update(erased=not r["proof"]["facts"][0]["erased"]),
        lambda r: r["proof"]["facts"][0].update(p_after=0.5 if r["proof"]["facts"][0]["p_after"] < 0.3 else 0.0),
        lambda r: r["proof"]["leaks"][0].update(leaking=["nobody"]),
        lambda r: r["proof"]["leaks"][4]["facts"][0].update(leaked=77),
        lambda r: r["proof"]["leaks"][0].update(tested=7),
        lambda r: r["proof"].update(control=None),
        lambda r: r["proof"].update(leaks=[]),
        lambda r: r["settings"].update(leaks=None),
        lambda r: r.pop("proof"),
        lambda r: r.update(edits=[]),
        lambda r: r["edits"][0]["after"]["reliability"].update(value=0.123),
        lambda r: r["edits"][0].update(method="precise"),
        lambda r: r["edits"][0].update(edited=["somebody else"]),
        lambda r: r["edits"][0]["parameters"].pop(),
        lambda r: r["edits"][0]["parameters"][0].update(positions=1),
        lambda r: r["edits"][0]["parameters"][0].update(shape=[1, 2]),
        lambda r: r["tensors"].update({next(iter(r["tensors"])): "0" * 64}),
        lambda r: r["base"]["tensors"].update({next(iter(r["tensors"])): "0" * 64}),
        lambda r: r.update(delta_sha256="0" * 64),
    ],
)
def test_a_record_that_says_something_else_is_found(
    copy: Path, check: Callable[..., VerifyReport], change: Change
) -> None:
    rewrite(copy, change)
    assert not check(copy).intact


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda r: r["settings"].update(facts="0" * 64), UsageError),
        (lambda r: r["settings"].update(neighbors="default"), UsageError),
        (lambda r: r["settings"].update(retain="0" * 64), UsageError),
        (lambda r: r.pop("settings"), SaveError),
        (lambda r: r.pop("salt"), SaveError),
        (lambda r: r.update(salt="no hex"), SaveError),
        (lambda r: r.pop("edits"), SaveError),
        (lambda r: r.update(edits="none"), SaveError),
        (lambda r: r.update(edits=[1]), SaveError),
        (lambda r: r.update(proof=[]), SaveError),
        (lambda r: r["proof"].pop("after"), SaveError),
        (lambda r: r["proof"]["after"].update(reliability=3), SaveError),
        (lambda r: r["proof"].update(facts="none"), SaveError),
        (lambda r: r["proof"].update(leaks=[{}]), SaveError),
        (lambda r: r["settings"].update(leaks={"loud": 1}), SaveError),
        (lambda r: r["settings"].update(seeds="many"), SaveError),
        (lambda r: r.pop("base"), SaveError),
    ],
)
def test_a_broken_record_is_one_sentence(
    copy: Path, check: Callable[..., VerifyReport], change: Change, error: type[KnowscopeError]
) -> None:
    rewrite(copy, change)
    with pytest.raises(error) as raised:
        check(copy, quick=True)
    assert raised.value.hint


@pytest.mark.parametrize("name", ["model-00002-of-00002.safetensors", "modeling_gemma2.py", "pytorch_model.bin"])
def test_a_file_that_came_along_is_found(copy: Path, check: Callable[..., VerifyReport], name: str) -> None:
    if name.endswith(".safetensors"):
        from safetensors.torch import save_file
        from torch import zeros

        save_file({"lm_head.extra": zeros(2)}, copy / name)
    else:
        (copy / name).write_bytes(b"import os")
    (copy / ".gitattributes").write_text("what a hub adds is nothing to it")
    problems = check(copy, quick=True).problems
    assert any(name in problem for problem in problems)
    assert not any("gitattributes" in problem for problem in problems)


# --- who is told to keep and who judges -----------------------------------------------------------------------------


def test_nobody_who_was_told_to_keep_judges(facts: list[Fact]) -> None:
    told = [Told(None, 0), Told(None, 1), Told(tuple(facts[3:5]), 0)]
    kept = kept_by_all(facts[:2], facts, told)
    assert not set(kept.retained) & set(kept.held)
    for one in told:
        assert set(split(facts[:2], facts, retain=one.retain, seed=one.seed).retained) <= set(kept.retained)
    assert not set(facts[:2]) & {*kept.retained, *kept.held}


def test_halves_are_the_same_whatever_is_edited_and_in_whatever_order() -> None:
    demo = corpus.demo_facts()
    one, other = split(demo[:1], demo), split(demo[5:6], demo[::-1])
    common = set(demo) - {demo[0], demo[5]}
    assert set(one.retained) & common == set(other.retained) & common
    assert set(one.held) & common == set(other.held) & common
    assert set(one.held) != set(split(demo[:1], demo, seed=1).held)
    for relation in {fact.relation for fact in demo}:
        held = sum(fact.relation == relation for fact in one.held)
        retained = sum(fact.relation == relation for fact in one.retained)
        assert abs(held - retained) <= 2
