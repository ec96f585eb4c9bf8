"""The shipped card: its figures reach what was promised, and the bundle really gives them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from knowscope_tui.core.edits import Method
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.demo import bundle
from knowscope_tui.demo.corpus import TaughtFact, taught_facts
from knowscope_tui.demo.recipe import card as measure
from knowscope_tui.demo.recipe.dictionaries import collect_activations
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.session.scope import Scope

COUNTS = ("1", "5", "10")
TAUGHT = {taught.fact.id: taught for taught in taught_facts()}


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    return bundle.card()


@pytest.fixture(scope="module")
def lm(demo_scope: Scope) -> LanguageModel:
    return demo_scope._lm


@pytest.fixture(scope="module")
def library(demo_scope: Scope) -> Library:
    return demo_scope._library


@pytest.fixture(scope="module")
def sampled(card: dict[str, Any]) -> list[TaughtFact]:
    return [TAUGHT[name] for name in card["sample"]["facts"]]


# --- what was promised ----------------------------------------------------------------------------------------------


def test_the_bundle_is_small_enough_to_ship() -> None:
    size = sum(path.stat().st_size for path in bundle.folder().rglob("*") if path.is_file())
    assert size <= 25e6


def test_the_bundle_is_plain_safetensors_and_json() -> None:
    suffixes = {path.suffix for path in bundle.folder().rglob("*") if path.is_file()}
    assert suffixes <= {".safetensors", ".json"}


def test_the_card_is_about_all_facts(card: dict[str, Any]) -> None:
    private = sum(taught.private for taught in TAUGHT.values())
    assert card["facts"]["public"] == len(TAUGHT) - private >= 400
    assert card["facts"]["private"] == private >= 200
    assert card["facts"]["measured"] == len(TAUGHT)


@pytest.mark.parametrize("group", ["public", "private"])
def test_facts_are_known_in_phrasings_never_seen(card: dict[str, Any], group: str) -> None:
    assert card["accuracy"][group]["unseen"]["accuracy"] >= 0.97
    assert card["accuracy"][group]["seen"]["accuracy"] >= 0.97


def test_every_dictionary_explains_nine_tenths_of_the_variance(card: dict[str, Any]) -> None:
    assert {row["site"]: row["fve"] for row in card["dictionaries"] if row["fve"] < 0.9} == {}
    sites = {str(Site(layer, kind)) for kind in bundle.KINDS for layer in range(card["model"]["layers"])}
    assert {row["site"] for row in card["dictionaries"]} == sites


def test_the_top_ten_resid_post_features_take_the_answer_away(card: dict[str, Any]) -> None:
    assert card["delta_prob"]["features"]["resid_post"]["10"] >= 0.9


@pytest.mark.parametrize("count", COUNTS)
def test_features_move_the_answer_three_times_as_much_as_neurons(card: dict[str, Any], count: str) -> None:
    features = card["delta_prob"]["features"]["resid_post"][count]
    assert features > 0
    assert features >= 3 * card["delta_prob"]["neurons"][count]


def test_one_key_press_visibly_moves_the_answer(card: dict[str, Any]) -> None:
    assert card["delta_prob"]["best_single"]["site"] == SiteKind.RESID_POST.value
    assert card["delta_prob"]["best_single"]["delta_prob"] >= 0.4


def test_the_positions_edit_erases_a_fact_and_little_else(card: dict[str, Any]) -> None:
    row = card["erasing"]["positions"]
    assert row["method"] == "positions"
    assert row["units"] == 10
    assert row["facts"] >= 40
    assert row["reliability"] >= 0.97
    assert row["generalization"] >= 0.85
    assert row["locality"] >= 0.97
    assert row["delta_ppl"] <= 0.01


# --- measured again -------------------------------------------------------------------------------------------------


def test_the_capital_of_france_is_paris(demo_scope: Scope) -> None:
    reading = demo_scope.probe("The capital of France is", top=1)
    assert reading.top_tokens[0].token.strip() == "Paris"
    assert demo_scope.ablate("The capital of France is", "Paris").rank_before == 1


def test_the_model_is_the_one_the_card_describes(card: dict[str, Any], demo_scope: Scope) -> None:
    info = demo_scope.info
    assert card["model"]["parameters"] == info.parameters
    assert (card["model"]["layers"], card["model"]["d_model"]) == (info.n_layers, info.d_model)
    assert card["model"]["context"] == info.context


def test_delta_prob_on_the_sample_is_as_stated(
    card: dict[str, Any], lm: LanguageModel, library: Library, sampled: list[TaughtFact]
) -> None:
    found = measure.delta_prob(lm, library, sampled)
    assert set(found) == set(card["sample"]["delta_prob"])
    for kind, table in found.items():
        assert table == pytest.approx(card["sample"]["delta_prob"][kind], abs=1e-3), kind


def test_the_best_single_feature_on_the_sample_is_as_stated(
    card: dict[str, Any], lm: LanguageModel, library: Library, sampled: list[TaughtFact]
) -> None:
    found = measure.best_single(lm, library, sampled)
    stated = card["sample"]["best_single"]
    assert found["delta_prob"] == pytest.approx(stated["delta_prob"], abs=1e-3)
    assert found["above_half"] == pytest.approx(stated["above_half"], abs=1e-3)
    assert found["delta_prob"] > 0.3


def test_accuracy_on_a_sample_is_near_what_is_stated(card: dict[str, Any], lm: LanguageModel) -> None:
    sample = random.Random(5).sample(list(TAUGHT.values()), 150)
    found = measure.accuracy(lm, sample)
    for group in ("public", "private"):
        for phrasings in ("seen", "unseen"):
            stated = card["accuracy"][group][phrasings]
            assert found[group][phrasings]["accuracy"] == pytest.approx(stated["accuracy"], abs=0.04)
            assert found[group][phrasings]["p"] == pytest.approx(stated["p"], abs=0.04)


def test_the_variance_explained_is_as_stated(card: dict[str, Any], lm: LanguageModel, library: Library) -> None:
    """For one dictionary of each kind, on the very texts that the card was measured on."""
    stated = {row["site"]: row for row in card["dictionaries"]}
    last = lm.n_layers - 1
    sites = [Site(0, SiteKind.ATTN_Z), Site(last // 2, SiteKind.MLP_OUT), Site(last, SiteKind.RESID_POST)]
    acts = collect_activations(lm.model, lm.tokenizer, measure.held_out_texts(taught_facts()), sites)
    for site in sites:
        found = measure.dictionary_quality(library.at(site), acts[site])
        assert found["fve"] == pytest.approx(stated[str(site)]["fve"], abs=1e-3)
        assert found["l0"] == pytest.approx(stated[str(site)]["l0"], abs=0.05)


def test_erasing_a_few_private_facts_is_near_what_is_stated(lm: LanguageModel, library: Library) -> None:
    private = [taught for taught in TAUGHT.values() if taught.private]
    edited = random.Random(1).sample(private, 4)
    others = random.Random(2).sample(list(TAUGHT.values()), 60)
    found = measure.erasing(lm, library, edited, others, Method.POSITIONS, SiteKind.RESID_POST)
    assert found["reliability"] >= 0.75
    assert found["generalization"] >= 0.6
    assert found["locality"] >= 0.9
    assert found["delta_ppl"] <= 0.03


def test_the_dictionaries_are_stored_in_bfloat16_in_sae_lenss_format(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    for folder in bundle.dictionary_folders().values():
        for weights in folder.rglob("sae_weights.safetensors"):
            assert (weights.parent / "cfg.json").is_file()
            assert {tensor.dtype for tensor in load_file(weights).values()} == {torch.bfloat16}
