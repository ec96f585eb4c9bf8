"""What tests of sweeps and live ablations share: questions, units and dictionaries, and the plain way."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import torch

from knowscope_tui.core.readings import Ablation
from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.engine.ablate import measure_ablation
from knowscope_tui.engine.dictionary import Spec, make_dictionary
from knowscope_tui.engine.hooks import Change, intervene
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.sites import final_norm
from knowscope_tui.engine.trace import Trace, record
from tests.tiny import D_MLP, DICTIONARY_KINDS, LAYERS, random_sae

FEATURE_SITES = [Site(layer, kind) for layer, kind in product(range(LAYERS), DICTIONARY_KINDS)]
LEAST = 1e-5
"""Of P(answer) of what is measured here: a difference of less would be no difference."""
EVERY_SITE = [*FEATURE_SITES, *(Site(layer, SiteKind.MLP_ACT) for layer in range(LAYERS))]


def traced(lm: LanguageModel, questions: list[Question], positions: list[int] | None = None, **options: Any) -> Trace:
    return record(lm, questions, positions or [question.last for question in questions], EVERY_SITE, **options)


def units_of(library: Library, trace: Trace, fact: int = 0, each: int = 3) -> list[Unit]:
    """Strong features of every site and neurons of every layer, in mixed order."""
    units = []
    for site in FEATURE_SITES:
        f = trace.encoded(library, site)[fact]
        units += [Unit(site, Family.FEATURE, index) for index in f.abs().topk(each).indices.tolist() if f[index] != 0]
    units += [Unit.neuron(layer, index) for layer in range(LAYERS) for index in (0, 20, D_MLP - 1)]
    return units[::2] + units[1::2]


def plainly(
    lm: LanguageModel, library: Library, question: Question, units: tuple[Unit, ...], position: int | None = None
) -> float:
    return measure_ablation(lm, library, question, Ablation(units), position=position).p_after


@torch.no_grad()
def greedily(
    lm: LanguageModel, ids: Sequence[int], tokens: int, changes: Mapping[Site, Change] | None = None
) -> tuple[int, ...]:
    """The `tokens` tokens that follow `ids`, each by a forward over all of them, with `changes` and without a cache."""
    found = list(ids)
    with intervene(lm.model, changes or {}):
        for _ in range(tokens):
            logits = lm.model(input_ids=lm.tensor([tuple(found)]), use_cache=False).logits
            found.append(int(logits[0, -1].argmax()))
    return tuple(found[len(ids) :])


def said_by(lm: LanguageModel, ids: tuple[int, ...], tokens: int) -> Question:
    """A prompt with what the model itself goes on with for an answer: with any other P(answer) is next to nothing,
    and so is the difference between two of them, right or wrong."""
    return Question("a", "b", ids, greedily(lm, ids, tokens))


def logs(probabilities: Iterable[float]) -> list[float]:
    """Their logarithms, in which two small probabilities are as far apart as two large ones."""
    return [math.log(p) for p in probabilities]


def random_library(
    lm: LanguageModel, question: Question, architecture: str = "jumprelu", normalize: str = "none"
) -> Library:
    """A dictionary for every site but `mlp_act`, scaled to what the question shows there."""
    dictionaries = []
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(5)
        for number, site in enumerate(FEATURE_SITES):
            h = record(lm, [question], [question.last], [site]).activations[site]
            # One that normalises reads and writes numbers of size 1, and its own scale is far from 1 here.
            sae = random_sae(h if normalize == "none" else h / h.std(), number)
            n = len(sae["b_enc"])
            gate = {name: 0.2 * torch.randn(n) for name in ("b_gate", "b_mag", "r_mag")}
            spec = Spec(site, architecture, h.shape[1], n, "random", k=7, normalize=normalize, checked=True)
            tensors = {"encoder": sae["W_enc"].T.contiguous(), "decoder": sae["W_dec"], **sae, **gate}
            dictionaries.append(make_dictionary(spec, tensors))
    return Library(dictionaries)


@torch.no_grad()
def sharpen(lm: LanguageModel) -> None:
    """Raises the final norm's gain: untrained, a model holds all tokens for about equally likely, whatever it read."""
    logits = lm.model(input_ids=lm.tensor([tuple(range(4, 14))]), use_cache=False).logits[0]
    norm: Any = final_norm(lm.model)
    factor = 4 / float(logits.std())
    one = 1 if lm.model.config.model_type.startswith("gemma") else 0  # What is added to the gain that is stored.
    norm.weight.add_(one).mul_(factor).sub_(one)
    if getattr(norm, "bias", None) is not None:
        norm.bias.mul_(factor)
