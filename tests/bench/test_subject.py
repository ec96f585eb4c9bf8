"""What is timed: weights, dictionaries and a question of the shape that was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from knowscope_tui.bench import random_model as made
from knowscope_tui.bench.noise import BLOCK, Noise
from knowscope_tui.bench.random_dictionaries import ACTIVE
from knowscope_tui.bench.shapes import KINDS, SHAPES
from knowscope_tui.bench.subject import Subject
from knowscope_tui.core.units import Site, SiteKind
from tests.tiny import activations, plain_logits

TINY = SHAPES["tiny"]


def test_logits_are_those_of_the_same_weights_from_a_folder(subject: Subject, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    subject.lm.model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager")
    assert loaded.config._attn_implementation == subject.lm.model.config._attn_implementation
    with torch.no_grad():
        logits = loaded(torch.tensor([subject.question.input_ids])).logits[0]
    assert torch.equal(logits, plain_logits(subject.lm, subject.question))


def test_the_weights_are_there_once(subject: Subject) -> None:
    model = subject.lm.model
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert sum(parameter.numel() for parameter in model.parameters()) == TINY.parameters
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    deviations = [float(parameter.std()) for parameter in model.parameters() if parameter.ndim > 1]
    assert deviations == pytest.approx([0.02] * len(deviations), rel=0.05)


def test_each_weight_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Tensor] = []
    draw = made.drawn

    def keep(*words: Any) -> Tensor:
        drawn.append(draw(*words))
        return drawn[-1]

    monkeypatch.setattr(made, "drawn", keep)
    model = made.random_model(TINY, 0, torch.device("cpu"), torch.float32).model
    assert sum(tensor.numel() for tensor in drawn) == TINY.parameters
    assert {tensor.data_ptr() for tensor in drawn} == {parameter.data_ptr() for parameter in model.parameters()}


def test_a_seed_makes_the_same_model_again_and_another_one_another() -> None:
    one, same, other = (
        made.random_model(TINY, seed, torch.device("cpu"), torch.bfloat16).model.lm_head.weight for seed in (1, 1, 2)
    )
    assert one.dtype is torch.bfloat16
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_shape_counts_what_the_model_has(subject: Subject) -> None:
    layers = subject.lm.model.model.layers
    sizes = [sum(parameter.numel() for parameter in layer.parameters()) for layer in layers]
    assert sizes == [TINY.layer] * TINY.layers
    assert TINY.above(Site(1, SiteKind.RESID_POST)) == TINY.above(Site(1, SiteKind.MLP_OUT)) == 2 * TINY.layer
    assert TINY.above(Site(3, SiteKind.RESID_POST)) == 0
    reading = ("q_proj", "k_proj", "v_proj", "input_layernorm")
    after = [p.numel() for name, p in layers[1].named_parameters() if not any(part in name for part in reading)]
    assert TINY.above(Site(1, SiteKind.ATTN_Z)) == 2 * TINY.layer + sum(after)


def test_every_token_has_a_spelling_and_the_answer_is_one(subject: Subject) -> None:
    assert len(subject.lm.tokenizer) == TINY.vocabulary
    assert len(subject.question.answer_ids) == 1
    assert 8 <= len(subject.question.input_ids) <= 12


def test_so_many_features_fire_at_the_last_token_of_every_site(subject: Subject) -> None:
    sites = [Site(layer, kind) for layer in range(TINY.layers) for kind in KINDS]
    assert subject.library.sites == sorted(sites)
    for site, activation in activations(subject.lm, subject.question, sites).items():
        features = subject.library.at(site).encode(activation[subject.question.last])
        assert int((features > 0).sum()) == ACTIVE


def test_dictionaries_share_no_memory(subject: Subject) -> None:
    dictionaries = [subject.library.at(site) for site in subject.library.sites]
    matrices: list[Tensor] = [matrix for each in dictionaries for matrix in (each.encoder, each.decoder)]
    assert len({matrix.untyped_storage().data_ptr() for matrix in matrices}) == len(matrices)
    assert all(matrix.untyped_storage().nbytes() == matrix.nbytes for matrix in matrices)
    assert not torch.equal(dictionaries[0].decoder, dictionaries[1].decoder)


def test_noise_goes_on_from_its_beginning() -> None:
    noise = Noise(torch.arange(5))
    assert noise.take(2, 3).tolist() == [[0, 1, 2], [3, 4, 0]]
    filled = torch.zeros(7, dtype=torch.long)
    noise.fill(filled)
    assert filled.tolist() == [1, 2, 3, 4, 0, 1, 2]
    assert all(BLOCK % divisor for divisor in range(2, 4097))
