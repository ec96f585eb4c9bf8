"""Differentiable predictions at chosen tokens, without the logits of all others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.sites import final_norm, logit_softcap, unembedding


def log_probs(lm: LanguageModel, rows: Sequence[tuple[int, ...]], where: Sequence[tuple[int, int]]) -> Tensor:
    """log P of every next token at each (row, position) of `where`: (len(where), vocabulary), float32.

    Gradients flow when they are enabled.
    """
    with _kept_output(final_norm(lm.model)) as kept:
        lm.model(input_ids=lm.tensor(list(rows)), use_cache=False, logits_to_keep=1)
    normed = kept[0]  # (rows, pos, d_model)
    chosen = normed[[row for row, _ in where], [position for _, position in where]]
    return torch.log_softmax(_logits(lm, chosen), dim=-1)


def head(lm: LanguageModel, stream: Tensor) -> Tensor:
    """Logits of a residual stream behind the last layer: (rows, d_model) → (rows, vocabulary), float32, on the CPU.

    Gradients flow when they are enabled; `readout.logits_of` is for when they are not.
    """
    table = unembedding(lm.model).weight
    return _logits(lm, final_norm(lm.model)(stream.to(table.device, table.dtype))).cpu()


def _logits(lm: LanguageModel, normed: Tensor) -> Tensor:
    """(…, d_model) behind the final norm → (…, vocabulary), float32."""
    logits: Tensor = unembedding(lm.model)(normed).to(torch.float32)
    cap = logit_softcap(lm.model)
    return logits if cap is None else cap * torch.tanh(logits / cap)


@contextmanager
def _kept_output(module: nn.Module) -> Iterator[list[Tensor]]:
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _args: Any, output: Tensor) -> None:
        kept.append(output)

    handle = module.register_forward_hook(keep)
    try:
        yield kept
    finally:
        handle.remove()


@contextmanager
def gradients_of(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Gradients are taken of `parameters` inside the block, and of nothing behind it."""
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)
            parameter.grad = None
