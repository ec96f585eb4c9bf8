"""A Gemma-2 of random numbers, in memory. It knows nothing: it is there to be timed."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from knowscope_tui.bench.noise import Noise, normals
from knowscope_tui.bench.shapes import Shape
from knowscope_tui.demo import bundle
from knowscope_tui.engine.model import LanguageModel

STD = 0.02
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"


def gemma_config(shape: Shape) -> Any:
    """The configuration of a Gemma-2 of `shape`."""
    from transformers import Gemma2Config

    return Gemma2Config(
        architectures=["Gemma2ForCausalLM"],
        attn_logit_softcapping=50.0,
        dtype="bfloat16",
        final_logit_softcapping=30.0,
        head_dim=shape.head_dim,
        hidden_size=shape.hidden,
        initializer_range=STD,
        intermediate_size=shape.intermediate,
        max_position_embeddings=8192,
        num_attention_heads=shape.heads,
        num_hidden_layers=shape.layers,
        num_key_value_heads=shape.key_value_heads,
        query_pre_attn_scalar=shape.head_dim,
        sliding_window=4096,
        tie_word_embeddings=True,
        vocab_size=shape.vocabulary,
    )


def write_tokenizer(folder: Path, vocabulary: int) -> None:
    """The demo's tokenizer, with words up to `vocabulary` that no text is cut into."""
    demo = bundle.model_folder()
    tokenizer = json.loads((demo / TOKENIZER).read_text(encoding="utf-8"))
    known = tokenizer["model"]["vocab"]
    known.update({f"▁word{number}": number for number in range(len(known), vocabulary)})
    text = json.dumps(tokenizer, indent=2, ensure_ascii=False) + "\n"
    (folder / TOKENIZER).write_text(text, encoding="utf-8")
    shutil.copyfile(demo / TOKENIZER_CONFIG, folder / TOKENIZER_CONFIG)


def random_model(shape: Shape, seed: int, device: torch.device, dtype: torch.dtype) -> LanguageModel:
    """A model of `shape` with weights of deviation `STD` and norms of gain 1; no tensor of it is ever there twice."""
    from accelerate import init_empty_weights
    from transformers import Gemma2ForCausalLM

    config = gemma_config(shape)
    config.dtype = dtype
    config._attn_implementation = "eager"
    # Only parameters are left out: buffers hold numbers that no checkpoint has, such as those of rotary embeddings.
    with init_empty_weights(include_buffers=False):
        model = Gemma2ForCausalLM(config)
    model.tie_weights()
    noise = Noise(normals(seed, 0).mul_(STD).to(device, dtype))
    weights = {name: drawn(parameter, noise, dtype) for name, parameter in model.named_parameters()}
    # The unembedding is not among the weights: it is the embedding.
    model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    return LanguageModel(model.to(device), _tokenizer(shape.vocabulary), source="random weights")


def drawn(parameter: Tensor, noise: Noise, dtype: torch.dtype) -> Tensor:
    """What `parameter` is to be. A norm's is 0, for Gemma multiplies with 1 + weight."""
    drawn = torch.zeros(parameter.shape, dtype=dtype, device=noise.block.device)
    if parameter.ndim > 1:
        noise.fill(drawn)
    return drawn


def _tokenizer(vocabulary: int) -> Any:
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory(prefix="knowscope-") as folder:
        write_tokenizer(Path(folder), vocabulary)
        return AutoTokenizer.from_pretrained(folder)
