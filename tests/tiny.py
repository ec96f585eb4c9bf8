"""A tiny random Gemma-2 and random dictionaries for it: every part is there, and a forward takes milliseconds.

The weights are far larger than an untrained model's, so that no probability is near uniform and every unit matters:
a wrong hook, gain or position shows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.demo.corpus import taught_facts, training_texts
from knowscope_tui.demo.recipe.tokenizer import train_tokenizer
from knowscope_tui.engine.deltas.change import Change, SparseChange
from knowscope_tui.engine.dictionary import Dictionary
from knowscope_tui.engine.hooks import capture
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.probe import own_answer
from knowscope_tui.engine.proof.evaluate import know
from knowscope_tui.engine.trace import Trace, record

SEED = 7
LAYERS, D_MODEL, D_MLP, D_SAE, CONTEXT, SLIDING_WINDOW = 3, 32, 48, 40, 64, 6
DICTIONARY_KINDS = (SiteKind.ATTN_Z, SiteKind.MLP_OUT, SiteKind.RESID_MID, SiteKind.RESID_POST)
INPUT_CENTRED = (SiteKind.MLP_OUT,)
"""Kinds whose dictionaries subtract `b_dec` from their input (sae-lens's `apply_b_dec_to_input`)."""


# --- the model ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def save_tiny_model(folder: Path) -> None:
    """Writes the model and its tokenizer as a Hugging Face folder."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    told = [text for fact in taught_facts()[::4] for text in fact.sentences()]
    tokenizer = train_tokenizer([*told, *training_texts()[:300]], 700)
    torch.manual_seed(SEED)
    config = Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=D_MODEL,
        intermediate_size=D_MLP,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=12,
        query_pre_attn_scalar=12,
        attn_logit_softcapping=4.0,
        final_logit_softcapping=12.0,
        max_position_embeddings=CONTEXT,
        sliding_window=SLIDING_WINDOW,
        dtype="float32",
    )
    model = Gemma2ForCausalLM(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            # The embedding is small and the last norm's gain large, else every token would predict itself.
            parameter.normal_(4.0 if name == "model.norm.weight" else 0.0, 0.3)
        elif "embed" in name:
            parameter.normal_(0.0, 0.15)
        else:
            parameter.normal_(0.0, 1.5 / parameter.shape[1] ** 0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


# --- dictionaries ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def random_sae(activations: Tensor, seed: int) -> dict[str, Tensor]:
    """The tensors of a random JumpReLU SAE scaled to `activations` (n, d_in): about a third of its features fire."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    d_in, scale = activations.shape[1], float(activations.std())
    return {
        "W_enc": normal(d_in, D_SAE) / (d_in**0.5 * scale),
        "b_enc": 0.2 * normal(D_SAE),
        "W_dec": 0.3 * scale * normal(D_SAE, d_in),
        "b_dec": 0.2 * scale * normal(d_in),
        "threshold": 0.2 + 0.4 * torch.rand(D_SAE, generator=generator),
    }


def write_sae_lens(folder: Path, tensors: Mapping[str, Tensor], site: Site, **config: Any) -> None:
    """One dictionary in sae-lens's layout; `config` overrides keys of `cfg.json`, and None removes one."""
    folder.mkdir(parents=True)
    d_in, d_sae = tensors["W_enc"].shape if "W_enc" in tensors else (D_MODEL, D_SAE)
    content = {
        "architecture": "jumprelu",
        "d_in": d_in,
        "d_sae": d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"hook_name": site.transformer_lens_name, "model_name": "tiny", "sae_lens_version": "6.54.12"},
        **config,
    }
    text = json.dumps({key: value for key, value in content.items() if value is not None})
    (folder / "cfg.json").write_text(text, encoding="utf-8")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "sae_weights.safetensors")


def write_params(folder: Path, tensors: Mapping[str, Tensor]) -> Path:
    """One dictionary in Gemma Scope's layout; the file."""
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", **{name: tensor.numpy() for name, tensor in tensors.items()})  # type: ignore[arg-type]
    return folder / "params.npz"


@torch.no_grad()
def save_dictionaries(lm: LanguageModel, folder: Path) -> None:
    """A random dictionary for every site but `mlp_act`, as `KIND/layer_N` below `folder`."""
    sites = [Site(layer, kind) for layer, kind in product(range(LAYERS), DICTIONARY_KINDS)]
    rows: dict[Site, list[Tensor]] = {site: [] for site in sites}
    with capture(lm.model, sites) as cache:
        for text in training_texts()[:30]:
            lm.model(input_ids=lm.tensor([lm.encode(text)]), use_cache=False)
            for site in sites:
                rows[site].append(cache[site][0, 1:])
    for number, site in enumerate(sites):
        tensors = random_sae(torch.cat(rows[site]), SEED + number)
        centred = site.kind in INPUT_CENTRED
        where = folder / site.kind.value / f"layer_{site.layer}"
        write_sae_lens(where, tensors, site, apply_b_dec_to_input=centred)


# --- looking at it --------------------------------------------------------------------------------------------------


def hook_count(model: Any) -> int:
    """Hooks of any kind on any module of `model`."""
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        for module in model.modules()
    )


def bits(model: Any) -> dict[str, str]:
    """A digest of the exact bits of every parameter and buffer."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {
        name: hashlib.sha256(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, tensor in tensors
    }


@torch.no_grad()
def plain_logits(lm: LanguageModel, question: Question) -> Tensor:
    """What plain Hugging Face computes: (pos, vocabulary)."""
    logits: Tensor = lm.model(input_ids=torch.tensor([question.input_ids])).logits[0]
    return logits


@torch.no_grad()
def activations(lm: LanguageModel, question: Question, sites: Sequence[Site]) -> dict[Site, Tensor]:
    """Site → (pos, width)."""
    with capture(lm.model, sites) as cache:
        lm.model(input_ids=lm.tensor([question.input_ids]), use_cache=False)
    return {site: activation[0] for site, activation in cache.items()}


def traced(lm: LanguageModel, question: Question, sites: Sequence[Site]) -> Trace:
    """The question with activations and slopes at `sites` and the prompt's last token."""
    return record(lm, [question], [question.last], sites, slopes=True)


def active_features(
    lm: LanguageModel, dictionary: Dictionary, question: Question, position: int | None = None
) -> list[Unit]:
    """Features of `dictionary` that fire on `question` at a token (default: the prompt's last), strongest first."""
    h = activations(lm, question, [dictionary.site])[dictionary.site]
    f = dictionary.encode(h[question.last if position is None else position])
    order = f.argsort(descending=True).tolist()
    return [Unit(dictionary.site, Family.FEATURE, index) for index in order if f[index] > 0]


def known_facts(lm: LanguageModel, count: int) -> list[Fact]:
    """Facts that this model knows: prompts of the demo with whatever word it says next, each with a paraphrase of
    which the same holds."""
    by_answer: dict[str, list[str]] = {}
    for taught in taught_facts()[::3]:
        prompt = taught.seen[0]
        answer = own_answer(lm, prompt, plain_logits(lm, lm.leave_open(prompt))[-1])
        if answer.isalpha() and know(lm, [lm.ask(prompt, answer)])[0].top:
            by_answer.setdefault(answer, []).append(prompt)
    facts: list[Fact] = []
    for answer, prompts in sorted(by_answer.items()):
        for one, other in zip(prompts[::2], prompts[1::2], strict=False):
            number = len(facts)
            subject, relation = f"subject {number}", f"relation {number % 3}"
            facts.append(Fact(one, answer, f"fact-{number}", subject, relation, paraphrases=(other,)))
    return facts[:: max(1, len(facts) // count)][:count]


def every_unit(library: Library) -> list[Unit]:
    """Every feature of every dictionary, and every neuron."""
    features = [Unit(site, Family.FEATURE, index) for site in library.sites for index in range(library.at(site).d_sae)]
    return [*features, *(Unit.neuron(layer, index) for layer in range(LAYERS) for index in range(D_MLP))]


def sparse(change: Change) -> SparseChange:
    """`change`, which is a sparse one."""
    assert isinstance(change, SparseChange)
    return change
