"""The self-test: its figures by hand, and every way of opening the wrong dictionary named."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from knowscope_tui.core.as_json import self_test_json
from knowscope_tui.core.checks import DictionaryCheck, SelfTest
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.demo import bundle, corpus
from knowscope_tui.engine import parity, selftest
from knowscope_tui.engine.dictionary import Dictionary, make_dictionary
from knowscope_tui.engine.library import Library, load_library
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.selftest import measure, self_test
from knowscope_tui.engine.texts import SELF_TEST_TEXTS
from knowscope_tui.session.scope import Scope
from tests.tiny import DICTIONARY_KINDS, LAYERS, random_sae, write_params, write_sae_lens

RESID = SiteKind.RESID_POST
TINY_TEXTS = ("The capital of France is Paris.", "Orla Venn lives at the old mill.", "The tired baker stayed near.")


@pytest.fixture(scope="module")
def demo(demo_scope: Scope) -> LanguageModel:
    return demo_scope._lm


@pytest.fixture(scope="module")
def demo_library(demo: LanguageModel) -> Library:
    return load_library(demo, bundle.dictionary_folders().items())


@pytest.fixture(scope="module")
def demo_texts() -> tuple[str, ...]:
    return tuple(corpus.reference_texts()[:12])


def moved(folder: Path, layer: int, there: int, kind: SiteKind = RESID, **changes: Any) -> Path:
    """The demo's dictionary of `layer`, with a configuration that says it is of layer `there`."""
    place = folder / f"layer_{there}"
    shutil.copytree(bundle.dictionary_folders()[kind] / f"layer_{layer}", place)
    config = json.loads((place / "cfg.json").read_text(encoding="utf-8"))
    config["metadata"] |= {"hook_name": Site(there, kind).transformer_lens_name, **changes}
    (place / "cfg.json").write_text(json.dumps(config), encoding="utf-8")
    return place


def only(test: SelfTest) -> DictionaryCheck:
    (check,) = test.dictionaries
    return check


def test_a_sweep_that_is_wrong_on_this_machine_is_called_out(
    lm: LanguageModel, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert self_test(lm, library, TINY_TEXTS, trained_on=None).problems == ()
    monkeypatch.setattr(parity, "sweep", lambda _lm, _library, _trace, units: [0.5] * len(units))
    test = self_test(lm, library, TINY_TEXTS, trained_on=None)
    assert not test.passed
    assert any("Exact effects are off" in problem for problem in test.problems)
    monkeypatch.setattr(parity, "sweep", lambda _lm, _library, _trace, units: [math.nan] * len(units))
    (problem,) = self_test(lm, library, TINY_TEXTS, trained_on=None).problems
    assert "Exact effects are off" in problem


# --- figures --------------------------------------------------------------------------------------------------------


def test_the_demo_as_it_is_shipped_passes(demo_scope: Scope) -> None:
    told: list[tuple[str, float | None]] = []
    test = demo_scope.self_test(lambda doing, fraction: told.append((doing, fraction)))
    assert test.passed
    assert (test.parity, test.problems, test.wrong) == (0, (), ())
    assert test.ablation_gap < 1e-5
    assert [check.site for check in test.dictionaries] == [used.site for used in demo_scope.info.dictionaries]
    assert test.tokens > 200
    for check in test.dictionaries:
        assert check.explained > 0.9
        assert 5 < check.l0 < 30
        assert (check.dtype, check.expected_l0) == ("bfloat16", None)
        assert check.features == demo_scope._library.at(check.site).d_sae
    shares = [fraction or 0.0 for _doing, fraction in told]
    assert shares == sorted(shares)
    assert len(told) == len(test.dictionaries) + 2
    json.dumps(self_test_json(test), allow_nan=False)


@torch.no_grad()
def test_its_figures_are_those_of_a_computation_by_hand(
    demo: LanguageModel, demo_library: Library, demo_texts: tuple[str, ...]
) -> None:
    """The residual stream as transformers tells it, the published tensors as they lie, and the formulas, in float64."""
    test = self_test(demo, demo_library, demo_texts, trained_on=None)
    states: dict[int, list[Tensor]] = {layer: [] for layer in range(demo.n_layers)}
    for text in demo_texts:
        ids = demo.tensor([demo.encode_text(text)])
        hidden = demo.model(input_ids=ids, output_hidden_states=True).hidden_states
        for layer in range(demo.n_layers - 1):  # the last one comes after the final norm
            states[layer].append(hidden[layer + 1][0, 1:].double())
    for layer in range(demo.n_layers - 1):
        h = torch.cat(states[layer])
        folder = bundle.dictionary_folders()[RESID] / f"layer_{layer}"
        sae = {name: tensor.double() for name, tensor in load_file(folder / "sae_weights.safetensors").items()}
        p = (h - sae["b_dec"]) @ sae["W_enc"] + sae["b_enc"]
        f = torch.where((p > sae["threshold"]) & (p > 0), p, 0.0)
        missed = (h - f @ sae["W_dec"] - sae["b_dec"]).square().sum()
        spread = (h - h.mean(dim=0)).square().sum()
        check = next(check for check in test.dictionaries if check.site == Site(layer, RESID))
        assert check.l0 == pytest.approx(float((f != 0).sum(dim=-1).double().mean()), rel=1e-3)
        assert check.explained == pytest.approx(float(1 - missed / spread), abs=1e-4)
        assert test.tokens == len(h)


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
def test_measuring_in_pieces_is_measuring_at_once(
    lm: LanguageModel, library: Library, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    dictionary = library.at(Site(1, RESID))
    h = 2 * torch.randn(100, dictionary.d_in, generator=torch.Generator().manual_seed(8))
    f = dictionary.encode(h)
    missed = (h - dictionary.decode(f, h)).square().sum()
    expected = float(1 - missed / (h - h.mean(dim=0)).square().sum())
    monkeypatch.setattr(selftest, "TOKENS_AT_ONCE", rows)
    l0, explained = measure(dictionary, h)
    assert l0 == pytest.approx(int((f != 0).sum()) / 100)
    assert explained == pytest.approx(expected, rel=1e-4)


def test_a_tiny_model_has_parity_zero_and_its_random_dictionaries_are_all_named(
    lm: LanguageModel, library: Library
) -> None:
    test = self_test(lm, library, TINY_TEXTS, trained_on=None)
    assert test.parity == 0
    assert test.tokens == sum(len(lm.encode_text(text)) - 1 for text in TINY_TEXTS), "without <bos>"
    assert [check.site for check in test.dictionaries] == sorted(
        Site(layer, kind) for layer, kind in product(range(LAYERS), DICTIONARY_KINDS)
    )
    assert not test.passed
    assert test.wrong == test.dictionaries
    for check in test.dictionaries:
        assert check.explained < selftest.LEAST_EXPLAINED
        assert check.problem.startswith(f"It explains {check.explained:.0%} of the variance of {check.site}.")


def test_without_dictionaries_parity_alone_is_tested(lm: LanguageModel) -> None:
    test = self_test(lm, Library(), SELF_TEST_TEXTS[:1], trained_on="gemma-2-2b")
    assert (test.parity, test.tokens, test.dictionaries, test.passed) == (0, 0, (), True)


# --- the wrong dictionary -------------------------------------------------------------------------------------------


def test_a_dictionary_at_the_wrong_layer_is_named(
    demo: LanguageModel, demo_texts: tuple[str, ...], tmp_path: Path
) -> None:
    place = moved(tmp_path, 0, 3)
    check = only(self_test(demo, load_library(demo, [(RESID, tmp_path)]), demo_texts, trained_on=None))
    assert (check.site, check.source) == (Site(3, RESID), str(place))
    assert check.explained < 0
    assert check.problem == f"It explains {check.explained:.0%} of the variance of 3.resid_post."


def test_dictionaries_that_were_swapped_are_each_named_with_where_they_belong(
    demo: LanguageModel, demo_texts: tuple[str, ...], tmp_path: Path
) -> None:
    swapped = {1: 2, 2: 1}
    right = self_test(
        demo, load_library(demo, [(RESID, bundle.dictionary_folders()[RESID])]), demo_texts, trained_on=None
    )
    for layer, there in swapped.items():
        moved(tmp_path, layer, there)
    test = self_test(demo, load_library(demo, [(RESID, tmp_path)]), demo_texts, trained_on=None)
    assert [check.site.layer for check in test.dictionaries] == [1, 2]
    for check in test.dictionaries:
        own = right.dictionaries[swapped[check.site.layer]]
        assert check.problem.endswith(f"{own.explained:.0%} of {own.site}: wrong site?")


def test_a_dictionary_of_another_kind_of_site_is_named(
    demo: LanguageModel, demo_texts: tuple[str, ...], tmp_path: Path
) -> None:
    """It says the wrong kind itself, so that no check of names finds it."""
    shutil.copytree(bundle.dictionary_folders()[SiteKind.MLP_OUT] / "layer_1", tmp_path / "layer_1")
    config = json.loads((tmp_path / "layer_1" / "cfg.json").read_text(encoding="utf-8"))
    config["metadata"]["hook_name"] = Site(1, RESID).transformer_lens_name
    (tmp_path / "layer_1" / "cfg.json").write_text(json.dumps(config), encoding="utf-8")
    check = only(self_test(demo, load_library(demo, [(RESID, tmp_path)]), demo_texts, trained_on=None))
    assert check.problem.startswith("It explains ")


@pytest.mark.parametrize(
    ("trained", "opened", "named"),
    [
        ("gemma-2-9b", "gemma-2-2b", True),
        ("gpt2-small", "gemma-2-2b", True),
        ("google/gemma-2-2b", "gemma-2-2b", False),
        ("gemma-2-2b", "google/gemma-2-2b-it", False),
        ("gemma-3-1b-pt", "gemma-3-1b", False),
        ("gpt2", "gpt2-small", False),
        ("gemma-2-9b", None, False),
    ],
)
def test_a_dictionary_of_another_model_is_named_and_of_one_it_was_tuned_from_is_not(
    demo: LanguageModel, demo_texts: tuple[str, ...], tmp_path: Path, trained: str, opened: str | None, named: bool
) -> None:
    moved(tmp_path, 1, 1, model_name=trained)
    library = load_library(demo, [(RESID, tmp_path)])
    assert library.at(Site(1, RESID)).spec.model == trained
    test = self_test(demo, library, demo_texts, trained_on=opened)
    assert only(test).problem == (f"It was trained on {trained}, and this is {opened}." if named else "")
    assert test.passed == (not named)


def test_a_dictionary_in_float16_is_named(demo: LanguageModel, demo_texts: tuple[str, ...], tmp_path: Path) -> None:
    site = Site(1, RESID)
    tensors = load_file(bundle.dictionary_folders()[RESID] / "layer_1" / "sae_weights.safetensors")
    for dtype, problem in ((torch.float16, "It is kept in float16, whose range it can leave"), (torch.bfloat16, "")):
        folder = tmp_path / str(dtype)
        numbers = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        write_sae_lens(folder / "layer_1", numbers, site, apply_b_dec_to_input=True)
        check = only(self_test(demo, load_library(demo, [(RESID, folder)]), demo_texts, trained_on=None))
        assert check.dtype == str(dtype).removeprefix("torch.")
        assert check.problem.partition(":")[0] == problem


@pytest.mark.parametrize(
    ("expected", "wrong"), [(500.0, True), (1.0, True), (20.0, False), (4.0, False), (None, False)]
)
def test_an_l0_far_from_the_one_in_a_name_is_named(
    demo: LanguageModel, demo_library: Library, demo_texts: tuple[str, ...], expected: float | None, wrong: bool
) -> None:
    original = demo_library.at(Site(1, RESID))
    tensors = {"encoder": original.encoder, "decoder": original.decoder, **original.vectors(torch.device("cpu"))}
    named = make_dictionary(replace(original.spec, expected_l0=expected), tensors)
    test = self_test(demo, Library([named]), demo_texts, trained_on=None)
    check = only(test)
    assert check.expected_l0 == expected
    l0 = check.l0
    assert 5 < l0 < 12
    told = f"{l0:.0f} features are active per token, and its name says {expected:.0f}." if expected and wrong else ""
    assert check.problem == told


def test_the_l0_in_the_name_of_a_folder_is_what_is_expected(lm: LanguageModel, tmp_path: Path) -> None:
    numbers = random_sae(torch.randn(50, 32), seed=2)
    write_params(tmp_path / "layer_1" / "width_16k" / "average_l0_71", numbers)
    assert load_library(lm, [(RESID, tmp_path)]).at(Site(1, RESID)).spec.expected_l0 == 71


def test_a_dictionary_with_numbers_that_are_not_finite_is_named_and_the_others_are_tested(
    demo: LanguageModel, demo_texts: tuple[str, ...], tmp_path: Path
) -> None:
    moved(tmp_path, 0, 0)
    site = Site(1, RESID)
    tensors = load_file(bundle.dictionary_folders()[RESID] / "layer_1" / "sae_weights.safetensors")
    tensors["W_dec"][5, 5] = float("inf")
    write_sae_lens(tmp_path / "layer_1", tensors, site)
    test = self_test(demo, load_library(demo, [(RESID, tmp_path)]), demo_texts, trained_on=None)
    whole, broken = test.dictionaries
    assert whole.problem == ""
    assert broken.problem.endswith("holds numbers that are not finite.")
    assert math.isnan(broken.l0)
    json.dumps(self_test_json(test), allow_nan=False)


# --- the model ------------------------------------------------------------------------------------------------------


def test_a_hook_that_changes_the_logits_is_a_problem_of_the_model(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "parity", lambda lm, texts: 0.25)
    test = self_test(lm, Library(), TINY_TEXTS, trained_on=None)
    assert test.problems == ("Hooks that change nothing change the logits by up to 0.25.",)
    assert not test.passed


def test_a_gemma_in_float16_is_a_problem_of_the_model(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LanguageModel, "dtype", torch.float16)
    test = self_test(lm, Library(), TINY_TEXTS[:1], trained_on=None)
    assert test.problems == ("Gemma's activations overflow float16: open it with --dtype bfloat16.",)


def test_activations_that_are_not_finite_are_a_problem_of_what_is_measured_on_them(
    lm: LanguageModel, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    dictionary: Dictionary = library.at(Site(1, RESID))
    broken = {dictionary.site: torch.full((5, dictionary.d_in), float("nan"))}
    monkeypatch.setattr(selftest, "_activations", lambda lm, texts, sites: broken)
    check = only(self_test(lm, Library([dictionary]), TINY_TEXTS, trained_on=None))
    assert check.problem
