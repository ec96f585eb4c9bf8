"""Which weights are trained, and how the model gets its own bits back: all of them, or a LoRA of the layers' linear
maps (Hu et al. 2021) that is merged at the end."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from knowscope_tui.core.injection import ALL_WEIGHTS
from knowscope_tui.engine.methods.forward import gradients_of
from knowscope_tui.engine.model import LanguageModel

FULL_UP_TO = 300_000_000
"""Weights of a model up to which all of them are trained where nobody says otherwise."""

DEFAULT_RANK = 32
"""Of the LoRA above that."""

LORA_RATE = 2e-4


@dataclass(frozen=True)
class Trained:
    """What the optimizer moves, and what puts it where the model computes by itself."""

    parameters: list[nn.Parameter]
    settle: Callable[[], None]


def rank_for(lm: LanguageModel) -> int:
    """The rank that suits the model's size."""
    return ALL_WEIGHTS if lm.model.num_parameters() <= FULL_UP_TO else DEFAULT_RANK


def rate_for(lm: LanguageModel, rank: int) -> float:
    """The learning rate that suits it: of all weights, less the wider the model is."""
    return LORA_RATE if rank else 0.13 / float(lm.model.get_input_embeddings().weight.shape[1])


@contextmanager
def trained_inside(lm: LanguageModel, rank: int, seed: int) -> Iterator[Trained]:
    """Weights to train inside the block; whatever it did, behind it every weight has the bits it had before."""
    touched = _linear(lm.model) if rank else list(lm.model.parameters())
    before = [parameter.detach().to("cpu", copy=True) for parameter in touched]
    try:
        with _lora(lm, rank, seed) if rank else _whole(touched) as trained:
            yield trained
    finally:
        for parameter, values in zip(touched, before, strict=True):
            parameter.data = parameter.data.to(values.dtype).copy_(values)
        lm.model.eval().requires_grad_(False)


def _linear(model: Any) -> list[Any]:
    """The weights of every linear map in the layers: what a LoRA is merged into."""
    head = model.get_output_embeddings()
    maps = (nn.Linear, Conv1D)
    return [module.weight for module in model.modules() if isinstance(module, maps) and module is not head]


@contextmanager
def _whole(parameters: list[nn.Parameter]) -> Iterator[Trained]:
    """In float32, since a step is smaller than what bfloat16 can add to a weight."""
    dtypes = [parameter.dtype for parameter in parameters]
    for parameter in parameters:
        parameter.data = parameter.data.to(torch.float32)

    def settle() -> None:
        for parameter, dtype in zip(parameters, dtypes, strict=True):
            parameter.data = parameter.data.to(dtype)

    with gradients_of(parameters):
        yield Trained(parameters, settle)


@contextmanager
def _lora(lm: LanguageModel, rank: int, seed: int) -> Iterator[Trained]:
    # peft takes a second to import.
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        # GPT-2's transposed maps are told and handled.
        warnings.simplefilter("ignore")
        wrapped = get_peft_model(lm.model, config)
    parameters = [parameter for parameter in wrapped.parameters() if parameter.requires_grad]
    open_still = True

    def merge() -> None:
        nonlocal open_still
        wrapped.merge_and_unload(safe_merge=True)
        open_still = False

    try:
        with torch.enable_grad():
            yield Trained(parameters, merge)
    finally:
        if open_still:
            wrapped.unload()
