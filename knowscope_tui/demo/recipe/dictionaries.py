"""Trains the demo's dictionaries with sae-lens's own trainer: BatchTopK, saved as JumpReLU."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from knowscope_tui.core.units import Site
from knowscope_tui.demo.recipe.settings import DictionarySettings
from knowscope_tui.engine.hooks import capture


@torch.no_grad()
def collect_activations(
    model: Any, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], sites: Sequence[Site], batch: int = 256
) -> dict[Site, Tensor]:
    """Activations of every token of `texts` but `<bos>` and padding: site → (n_tokens, width), float32."""
    kept: dict[Site, list[Tensor]] = {site: [] for site in sites}
    ordered = sorted(texts, key=len)
    with capture(model, sites) as cache:
        for start in range(0, len(ordered), batch):
            encoded = tokenizer(ordered[start : start + batch], return_tensors="pt", padding=True)
            model(input_ids=encoded["input_ids"], use_cache=False, logits_to_keep=1)
            mask = encoded["attention_mask"].bool()
            mask[:, 0] = False
            for site in sites:
                kept[site].append(cache[site][mask])
    return {site: torch.cat(rows) for site, rows in kept.items()}


@torch.no_grad()
def collect_reading_activations(
    model: Any, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str], sites: Sequence[Site], batch: int = 256
) -> dict[Site, Tensor]:
    """Activations of the last token of each prompt, where its answer is predicted: site → (n_prompts, width)."""
    kept: dict[Site, list[Tensor]] = {site: [] for site in sites}
    with capture(model, sites) as cache:
        for start in range(0, len(prompts), batch):
            encoded = tokenizer(list(prompts[start : start + batch]), return_tensors="pt", padding=True)
            model(input_ids=encoded["input_ids"], use_cache=False, logits_to_keep=1)
            last = encoded["attention_mask"].sum(dim=1) - 1
            for site in sites:
                kept[site].append(cache[site][torch.arange(len(last)), last])
    return {site: torch.cat(rows) for site, rows in kept.items()}


def _stream(tokens: Tensor, readings: Tensor, settings: DictionarySettings, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    n_readings = round(settings.batch_activations * settings.reading_share)
    while True:
        rows = torch.randint(len(tokens), (settings.batch_activations - n_readings,), generator=generator)
        batch = tokens[rows]
        if n_readings:
            picked = torch.randint(len(readings), (n_readings,), generator=generator)
            batch = torch.cat([batch, readings[picked]])
        yield batch


def train_dictionary(
    tokens: Tensor,
    readings: Tensor,
    settings: DictionarySettings,
    seed: int,
    on_step: Callable[[int], None] = lambda step: None,
) -> Any:
    """One trained sae-lens SAE for activations `tokens` and `readings`, (n, d_in) both."""
    # sae_lens imports transformer_lens and wandb: seconds, and only this recipe needs them.
    os.environ.setdefault("WANDB_MODE", "disabled")
    from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, SAETrainer
    from sae_lens.config import LoggingConfig, SAETrainerConfig

    torch.manual_seed(seed)
    sae = BatchTopKTrainingSAE(
        BatchTopKTrainingSAEConfig(
            d_in=tokens.shape[1], d_sae=settings.d_sae, k=settings.k, normalize_activations="expected_average_only_in"
        )
    )
    stream = _stream(tokens, readings, settings, seed)

    def counted() -> Iterator[Tensor]:
        for step, batch in enumerate(stream):
            on_step(step)
            yield batch

    trainer = SAETrainer(
        cfg=SAETrainerConfig(
            total_training_samples=settings.steps * settings.batch_activations,
            train_batch_size_samples=settings.batch_activations,
            lr=settings.learning_rate,
            lr_end=settings.learning_rate / 10,
            lr_warm_up_steps=settings.steps // 20,
            lr_decay_steps=settings.steps // 4,
            dead_feature_window=max(50, settings.steps // 10),
            n_batches_for_norm_estimate=20,
            logger=LoggingConfig(log_to_wandb=False),
        ),
        sae=sae,
        data_provider=counted(),
    )
    # The trainer draws a progress bar of its own on stderr; `on_step` tells the progress here.
    with contextlib.redirect_stderr(io.StringIO()):
        return trainer.fit()


def save_dictionary(sae: Any, site: Site, model_name: str, folder: Path) -> None:
    """Writes `sae` as sae-lens does (JumpReLU, `cfg.json`, `sae_weights.safetensors`), weights in bf16."""
    sae.cfg.metadata.hook_name = site.transformer_lens_name
    sae.cfg.metadata.model_name = model_name
    folder.mkdir(parents=True, exist_ok=True)
    weights, _config = sae.save_inference_model(folder)
    state = load_file(weights)
    save_file({name: tensor.to(torch.bfloat16).contiguous() for name, tensor in state.items()}, weights)
