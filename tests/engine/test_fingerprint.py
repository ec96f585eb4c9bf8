"""Fingerprints: the same numbers have the same, any other bit has another."""

from __future__ import annotations

import copy

import pytest
import torch

from knowscope_tui.engine.fingerprint import dictionary_fingerprint, weights_fingerprint
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.loading import load_model
from knowscope_tui.engine.model import LanguageModel


def test_the_same_weights_have_the_same_fingerprint(lm: LanguageModel) -> None:
    again = load_model(lm.source, device="cpu", dtype="float32")
    assert weights_fingerprint(again) == weights_fingerprint(lm)
    assert weights_fingerprint(load_model(lm.source, device="cpu", dtype="bfloat16")) != weights_fingerprint(lm)


@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.1.mlp.down_proj.weight"])
@torch.no_grad()
def test_one_weight_that_changed_shows_until_it_is_put_back(lm: LanguageModel, name: str) -> None:
    before = weights_fingerprint(lm)
    weight = lm.model.get_parameter(name).view(-1)
    value = weight[-1].clone()
    weight[-1] = 0.0
    changed = weights_fingerprint(lm)
    weight[-1] = value
    assert changed != before
    assert weights_fingerprint(lm) == before


@torch.no_grad()
def test_a_dictionary_that_was_trained_again_shows(library: Library) -> None:
    dictionary = library.at(library.sites[0])
    other = copy.copy(dictionary)
    vectors = {name: vector.clone() for name, vector in dictionary.vectors(torch.device("cpu")).items()}
    other._vectors = {torch.device("cpu"): vectors}
    assert dictionary_fingerprint(other) == dictionary_fingerprint(dictionary)
    vectors["threshold"][-1] += 1e-3
    assert dictionary_fingerprint(other) != dictionary_fingerprint(dictionary)
