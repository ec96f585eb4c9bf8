"""Builders of repositories for `tests.hub.server`: the names and layouts of the real ones, at tiny sizes.

Dictionaries lie where sae-lens's own registry says that they do. Its loader of Gemma Scope (the first) takes the sizes
from the repository's name, so only dictionaries of the true sizes load through it: see `save_true_sizes`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_file

from knowscope_tui.demo.corpus import taught_facts, training_texts
from knowscope_tui.demo.recipe.tokenizer import train_tokenizer

SEED = 11
LAYERS, D_MODEL, HEADS, KV_HEADS, HEAD_DIM, D_MLP, D_SAE, CONTEXT, WINDOW = 4, 64, 4, 2, 16, 128, 64, 128, 8
GEMMA_2, GEMMA_2_IT, GEMMA_3, GPT2 = (
    "google/gemma-2-2b",
    "google/gemma-2-2b-it",
    "google/gemma-3-270m",
    "openai-community/gpt2",
)
SCOPE_2 = "google/gemma-scope-2-270m-pt"
KINDS = ("res", "mlp", "att")
"""Gemma Scope's names of the residual stream after a layer, the MLP's normed output, and z."""

SCOPE_2_FOLDERS = {"res": "resid_post", "mlp": "mlp_out", "att": "attn_out"}
SCOPE_2_HOOKS = {
    "res": "model.layers.{}.output",
    "mlp": "model.layers.{}.post_feedforward_layernorm.output",
    "att": "model.layers.{}.self_attn.o_proj.input",
}
TRUE_D_IN: Mapping[str, int] = {"res": 2304, "mlp": 2304, "att": 2048}
"""Gemma 2 2B's."""

TRUE_D_SAE = 16384

CHAT_TEMPLATE = """\
{{ bos_token }}\
{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
{% for message in messages %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}\
{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}\
{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}\
{% endfor %}\
{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"""


# --- models ---------------------------------------------------------------------------------------------------------


@cache
def _trained_tokenizer() -> Any:
    told = [text for fact in taught_facts()[::4] for text in fact.sentences()]
    return train_tokenizer([*told, *training_texts()[:300]], 700)


def _save_tokenizer(folder: Path, chat: bool) -> int:
    """Writes the tokenizer, with the turns' tokens and a template when `chat`; its length."""
    tokenizer = deepcopy(_trained_tokenizer())
    tokenizer.add_special_tokens({"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})
    tokenizer.chat_template = CHAT_TEMPLATE if chat else None
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    return len(tokenizer)


@torch.no_grad()
def _randomise(model: Any, norm: str) -> None:
    """Weights far larger than an untrained model's, so that no probability is near uniform (see `tests.tiny`)."""
    torch.manual_seed(SEED)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.normal_(4.0 if name == norm else 0.0, 0.3)
        elif "embed" in name or "wte" in name:
            parameter.normal_(0.0, 1.2 / parameter.shape[1] ** 0.5)
        else:
            parameter.normal_(0.0, 1.5 / parameter.shape[1] ** 0.5)


def _new_folder(root: Path, repo: str) -> Path:
    """The repository's folder, with what every repository has."""
    folder = root / repo
    folder.mkdir(parents=True)
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs diff=lfs merge=lfs -text\n", encoding="utf-8")
    (folder / "README.md").write_text(f"---\nlicense: gemma\n---\n\n# {repo}\n", encoding="utf-8")
    return folder


def _save_model(folder: Path, model: Any, norm: str, dtype: str, max_shard_size: int) -> None:
    _randomise(model, norm)
    model.generation_config.update(bos_token_id=2, eos_token_id=1, pad_token_id=0)
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=max_shard_size)


def save_gemma_2(
    root: Path,
    repo: str = GEMMA_2,
    *,
    layers: int = LAYERS,
    hidden: int = D_MODEL,
    heads: int = HEADS,
    kv_heads: int = KV_HEADS,
    head_dim: int = HEAD_DIM,
    intermediate: int = D_MLP,
    chat: bool = False,
    dtype: str = "float32",
    max_shard_size: int = 300_000,
) -> Path:
    """A random Gemma 2 with its tokenizer, in shards of at most so many bytes; the folder."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    folder = _new_folder(root, repo)
    config = Gemma2Config(
        vocab_size=_save_tokenizer(folder, chat),
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        query_pre_attn_scalar=head_dim,
        attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0,
        max_position_embeddings=CONTEXT,
        sliding_window=WINDOW,
        dtype=dtype,
    )
    _save_model(folder, Gemma2ForCausalLM(config), "model.norm.weight", dtype, max_shard_size)
    return folder


def save_gemma_3(root: Path, repo: str = GEMMA_3, *, layers: int = 3, dtype: str = "float32") -> Path:
    """A random text-only Gemma 3 with its tokenizer, in one file; the folder."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    folder = _new_folder(root, repo)
    config = Gemma3TextConfig(
        vocab_size=_save_tokenizer(folder, chat=False),
        hidden_size=D_MODEL,
        intermediate_size=D_MLP,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=1,
        head_dim=HEAD_DIM,
        query_pre_attn_scalar=HEAD_DIM,
        max_position_embeddings=CONTEXT,
        sliding_window=WINDOW,
        layer_types=["sliding_attention"] * (layers - 1) + ["full_attention"],
        dtype=dtype,
    )
    _save_model(folder, Gemma3ForCausalLM(config), "model.norm.weight", dtype, 10**9)
    return folder


def save_gpt2(root: Path, repo: str = GPT2, *, layers: int = 2) -> Path:
    """A random GPT-2, a family of its own, with the same tokenizer; the folder."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = _new_folder(root, repo)
    config = GPT2Config(
        vocab_size=_save_tokenizer(folder, chat=False),
        n_positions=CONTEXT,
        n_embd=D_MODEL,
        n_layer=layers,
        n_head=HEADS,
        bos_token_id=2,
        eos_token_id=1,
        dtype="float32",
    )
    _save_model(folder, GPT2LMHeadModel(config), "transformer.ln_f.weight", "float32", 10**9)
    return folder


@torch.no_grad()
def activation_scales(folder: Path) -> dict[tuple[str, int], float]:
    """(kind, layer) → standard deviation of what a dictionary reads there, of the Gemma model in `folder`."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32", attn_implementation="eager")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    scales: dict[tuple[str, int], float] = {}

    def keep(kind: str, layer: int, value: Any) -> None:
        tensor = value[0] if isinstance(value, tuple) else value
        scales[kind, layer] = float(tensor[:, 1:].std())

    def hook(layer: int, block: Any) -> None:
        block.register_forward_hook(lambda module, args, out: keep("res", layer, out))
        block.post_feedforward_layernorm.register_forward_hook(lambda module, args, out: keep("mlp", layer, out))
        block.self_attn.o_proj.register_forward_pre_hook(lambda module, args: keep("att", layer, args))

    for layer, block in enumerate(model.model.layers):
        hook(layer, block)
    model(**tokenizer(training_texts()[0], return_tensors="pt"), use_cache=False)
    return scales


# --- dictionaries ---------------------------------------------------------------------------------------------------


@cache
def registered(release: str) -> Mapping[str, str]:
    """Id → folder in the repository, as sae-lens's registry has it for `release`. sae-lens itself is not imported."""
    spec = find_spec("sae_lens")
    assert spec is not None
    assert spec.origin is not None
    text = (Path(spec.origin).parent / "pretrained_saes.yaml").read_text(encoding="utf-8")
    start = text.index(f"\n{release}:\n") + 1
    lines = text[start:].splitlines()
    block = [lines[0], *lines[1 : next((n for n, line in enumerate(lines) if n and line[:1].strip()), len(lines))]]
    return {sae["id"]: sae["path"] for sae in yaml.safe_load("\n".join(block))[release]["saes"]}


def canonical(kind: str, layer: int, width: str = "16k") -> str:
    """The folder of Gemma Scope 2B's canonical dictionary, such as `layer_0/width_16k/average_l0_105`."""
    return registered(f"gemma-scope-2b-pt-{kind}-canonical")[f"layer_{layer}/width_{width}/canonical"]


def dictionary(d_in: int, d_sae: int, seed: int, *, scale: float = 1.0, alive: int | None = None) -> dict[str, Any]:
    """The arrays of a random JumpReLU dictionary for activations of standard deviation `scale`, float32.

    About a third of its first `alive` features (default: all) fire on a token; the others are all alike and never do,
    which lets them be compressed to nothing.
    """
    alive = d_sae if alive is None else alive
    generator = np.random.default_rng(seed)
    encoder, decoder = np.zeros((d_in, d_sae), np.float32), np.full((d_sae, d_in), d_in**-0.5, np.float32)
    bias, threshold = np.full(d_sae, -1.0, np.float32), np.ones(d_sae, np.float32)
    encoder[:, :alive] = generator.normal(size=(d_in, alive)) / (d_in**0.5 * scale)
    decoder[:alive] = 0.3 * scale * generator.normal(size=(alive, d_in))
    bias[:alive] = 0.2 * generator.normal(size=alive)
    threshold[:alive] = 0.2 + 0.4 * generator.random(alive)
    b_dec = (0.2 * scale * generator.normal(size=d_in)).astype(np.float32)
    return {"W_enc": encoder, "W_dec": decoder, "b_enc": bias, "b_dec": b_dec, "threshold": threshold}


def save_gemma_scope(
    root: Path,
    kind: str,
    *,
    layers: Iterable[int] = range(LAYERS),
    d_in: int = D_MODEL,
    d_sae: int = D_SAE,
    alive: int | None = None,
    compressed: bool = False,
    scales: Mapping[tuple[str, int], float] | None = None,
) -> Path:
    """`google/gemma-scope-2b-pt-KIND` with the canonical dictionaries of width 16k (so called) of `layers`."""
    folder = _new_folder(root, f"google/gemma-scope-2b-pt-{kind}")
    for layer in layers:
        scale = (scales or {}).get((kind, layer), 1.0)
        arrays = dictionary(d_in, d_sae, SEED + layer + 100 * KINDS.index(kind), scale=scale, alive=alive)
        file = folder / canonical(kind, layer) / "params.npz"
        file.parent.mkdir(parents=True)
        (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return folder


def save_gemma_scope_2(
    root: Path,
    repo: str = SCOPE_2,
    *,
    layers: Iterable[int] = range(3),
    further: Iterable[str] = ("resid_post/layer_12_width_16k_l0_small",),
    without_config: Iterable[str] = ("mlp_out_all/layer_0_width_16k_l0_small",),
    d_sae: int = D_SAE,
    scales: Mapping[tuple[str, int], float] | None = None,
) -> Path:
    """Gemma Scope 2: `RESID_POST_all/layer_N_width_16k_l0_small` and the like for `layers`, and `further` folders.

    The folders in `without_config` have no `config.json`: sae-lens then infers it from the path.
    """
    folder = _new_folder(root, repo)
    model = repo.replace("google/gemma-scope-2", "gemma-v3")
    named = [f"{SCOPE_2_FOLDERS[kind]}_all/layer_{n}_width_16k_l0_small" for n in layers for kind in KINDS]
    for number, name in enumerate([*named, *further]):
        kind = next(kind for kind, start in SCOPE_2_FOLDERS.items() if name.startswith(start))
        layer = int(name.split("layer_")[1].split("_")[0])
        scale = (scales or {}).get((kind, layer), 1.0)
        arrays = dictionary(HEADS * HEAD_DIM if kind == "att" else D_MODEL, d_sae, SEED + number, scale=scale)
        (folder / name).mkdir(parents=True)
        tensors = {key.replace("W_", "w_"): torch.from_numpy(array) for key, array in arrays.items()}
        save_file(tensors, folder / name / "params.safetensors")
        config = {
            "architecture": "jump_relu",
            "model_name": model,
            "hf_hook_point_in": SCOPE_2_HOOKS[kind].format(layer),
            "width": d_sae,
            "l0": 10,
            "affine_connection": False,
            "type": "sae",
        }
        if name not in without_config:
            (folder / name / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


# --- sets of them ---------------------------------------------------------------------------------------------------


def save_tiny_hub(root: Path) -> None:
    """Every repository at its tiny size: a few megabytes in all."""
    scales = activation_scales(save_gemma_2(root))
    save_gemma_2(root, GEMMA_2_IT, chat=True, dtype="bfloat16")
    for kind in KINDS:
        save_gemma_scope(root, kind, scales=scales)
    save_gemma_scope_2(root, scales=activation_scales(save_gemma_3(root)))
    save_gpt2(root)


def save_true_sizes(
    root: Path, *, kinds: Iterable[str] = KINDS, layers: int = 1, alive: int = 64, compressed: bool = True
) -> None:
    """`google/gemma-2-2b` as wide as it truly is, with so few layers, and dictionaries of the true sizes for it.

    They load through sae-lens. In memory each takes 300 MB; on disk about one when `compressed`, else as much.
    """
    folder = save_gemma_2(
        root,
        layers=layers,
        hidden=TRUE_D_IN["res"],
        heads=8,
        kv_heads=4,
        head_dim=256,
        intermediate=64,
        dtype="bfloat16",
        max_shard_size=20_000_000,
    )
    scales = activation_scales(folder)
    for kind in kinds:
        save_gemma_scope(
            root,
            kind,
            layers=range(layers),
            d_in=TRUE_D_IN[kind],
            d_sae=TRUE_D_SAE,
            alive=alive,
            compressed=compressed,
            scales=scales,
        )
