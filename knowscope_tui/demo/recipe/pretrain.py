"""Trains the demo's Gemma-2 on its facts: plain next-token prediction over whole sentences."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedTokenizerFast

from knowscope_tui.demo.recipe.settings import ModelSettings

IGNORED = -100


def new_model(settings: ModelSettings, vocabulary: int, seed: int) -> Gemma2ForCausalLM:
    """An untrained Gemma-2 of the recipe's shape, eager attention, float32."""
    torch.manual_seed(seed)
    config = Gemma2Config(
        vocab_size=vocabulary,
        hidden_size=settings.d_model,
        intermediate_size=settings.d_mlp,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.kv_heads,
        head_dim=settings.head_dim,
        query_pre_attn_scalar=settings.head_dim,
        max_position_embeddings=settings.context,
        sliding_window=settings.sliding_window,
        dtype="float32",
    )
    model: Gemma2ForCausalLM = Gemma2ForCausalLM(config)
    model.set_attn_implementation("eager")
    return model


class Batches:
    """An endless, seeded stream of padded batches; sentences of like length share one.

    Yields `(tokens, labels)`, both (batch, pos); a label is the next token, `IGNORED` where there is none.
    """

    def __init__(
        self, facts: Sequence[list[int]], general: Sequence[list[int]], settings: ModelSettings, seed: int
    ) -> None:
        self._facts, self._general = facts, general
        self._settings = settings
        self._rng = random.Random(seed)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        size = self._settings.batch_sentences
        n_general = round(size * self._settings.general_share)
        facts, general = self._endless(self._facts), self._endless(self._general)
        pool = 8
        while True:
            drawn = [next(general) for _ in range(n_general * pool)]
            drawn += [next(facts) for _ in range((size - n_general) * pool)]
            drawn.sort(key=len)
            chunks = [drawn[start : start + size] for start in range(0, size * pool, size)]
            self._rng.shuffle(chunks)
            yield from map(_pad, chunks)

    def _endless(self, rows: Sequence[list[int]]) -> Iterator[list[int]]:
        while True:
            yield from self._rng.sample(rows, len(rows))


def _pad(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    width = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    labels = torch.tensor([row[1:] + [IGNORED] * (width - len(row) + 1) for row in rows])
    return tokens, labels


def _learning_rate(step: int, steps: int) -> float:
    """Warm-up over the first 5 %, then a cosine down to 2 % of the peak."""
    warm_up = max(1, steps // 20)
    if step < warm_up:
        return (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))


def train_model(
    model: Gemma2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    fact_sentences: Sequence[str],
    general: Sequence[str],
    settings: ModelSettings,
    seed: int,
    on_step: Callable[[int, float], None],
) -> None:
    """Trains `model` in place. `on_step(step, loss)` is called after each of `settings.steps` steps."""

    def encode(sentences: Sequence[str]) -> list[list[int]]:
        return [[*ids, tokenizer.eos_token_id] for ids in tokenizer(list(sentences))["input_ids"]]

    batches = iter(Batches(encode(fact_sentences), encode(general), settings, seed))
    decayed = [p for p in model.parameters() if p.ndim > 1]
    gains = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": gains, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _learning_rate(step, settings.steps))
    loss_function = torch.nn.CrossEntropyLoss(ignore_index=IGNORED, label_smoothing=settings.label_smoothing)
    model.train()
    for step in range(settings.steps):
        tokens, labels = next(batches)
        # Right padding needs no mask: a causal token never sees what comes after it.
        logits = model(input_ids=tokens, use_cache=False).logits  # (batch, pos, vocabulary)
        loss = loss_function(logits.flatten(0, 1), labels.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        on_step(step, loss.item())
    model.eval()
