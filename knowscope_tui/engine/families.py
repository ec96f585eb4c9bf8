"""The supported model families and the names of their modules. The only file that spells `model.layers`.

A family is a row of `FAMILIES`: the decoder layers' path in the model, and paths inside one decoder layer. A row fits
when all decoder layers are alike and each adds its attention and then its MLP to the residual stream:

    resid_mid  = the residual stream with the attention's output added
    resid_post = resid_mid + mlp_out

The rows are read off `transformers/models/*/modeling_*.py`, 5.x. What has no row is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from knowscope_tui.errors import ModelNotLoaded


@dataclass(frozen=True)
class ModelFamily:
    """Where models of some `model_types` (their config's word) keep what is read and edited."""

    model_types: tuple[str, ...]
    layers: str
    """The list of decoder layers."""
    attn_out: str
    """Its input is `attn_z`."""
    mlp_norm: str
    """Its input is `resid_mid`."""
    down_proj: str
    """The MLP's second matrix; its input is `mlp_act`."""
    mlp_out: str
    """Its output is `mlp_out`: the MLP, or the RMS norm after it where `norm_offset` is given."""
    final_norm: str
    """The norm in front of the unembedding, from the model down."""
    norm_offset: float | None = None
    """What that norm's gain has beside its weight, `offset + weight`; None: no norm stands after the MLP."""
    conv1d: bool = False
    """Whether weights are stored as (in, out), as transformers' `Conv1D` has them, and not as (out, in)."""
    attention: str | None = None
    """The attention implementation that the family needs; None: what plain transformers picks."""


FAMILIES = (
    ModelFamily(
        model_types=("gemma2",),
        layers="model.layers",
        attn_out="self_attn.o_proj",
        mlp_norm="pre_feedforward_layernorm",
        down_proj="mlp.down_proj",
        mlp_out="post_feedforward_layernorm",
        final_norm="model.norm",
        norm_offset=1.0,
        attention="eager",  # Only eager attention applies softcapping.
    ),
    ModelFamily(
        model_types=("gemma3_text",),
        layers="model.layers",
        attn_out="self_attn.o_proj",
        mlp_norm="pre_feedforward_layernorm",
        down_proj="mlp.down_proj",
        mlp_out="post_feedforward_layernorm",
        final_norm="model.norm",
        norm_offset=1.0,
    ),
    ModelFamily(
        model_types=("gemma3",),  # with a vision tower beside the language model
        layers="model.language_model.layers",
        attn_out="self_attn.o_proj",
        mlp_norm="pre_feedforward_layernorm",
        down_proj="mlp.down_proj",
        mlp_out="post_feedforward_layernorm",
        final_norm="model.language_model.norm",
        norm_offset=1.0,
    ),
    ModelFamily(
        model_types=("llama", "mistral", "qwen2", "qwen3", "gemma"),
        layers="model.layers",
        attn_out="self_attn.o_proj",
        mlp_norm="post_attention_layernorm",
        down_proj="mlp.down_proj",
        mlp_out="mlp",
        final_norm="model.norm",
    ),
    ModelFamily(
        model_types=("gpt2",),
        layers="transformer.h",
        attn_out="attn.c_proj",
        mlp_norm="ln_2",
        down_proj="mlp.c_proj",
        mlp_out="mlp",
        final_norm="transformer.ln_f",
        conv1d=True,
    ),
)

_BY_TYPE = {model_type: family for family in FAMILIES for model_type in family.model_types}


def supported_model_types() -> tuple[str, ...]:
    """Every `model_type` that has a row, in alphabetical order."""
    return tuple(sorted(_BY_TYPE))


def family_of(model_type: str) -> ModelFamily:
    """The row of `model_type`. Raises `ModelNotLoaded` with the list of what has one."""
    if model_type not in _BY_TYPE:
        raise ModelNotLoaded(
            f"A model of type {model_type!r} has no site table.",
            f"Use a model of one of these types: {', '.join(supported_model_types())}.",
        )
    return _BY_TYPE[model_type]


def attention_implementation(model_type: str) -> str | None:
    """What `attn_implementation` a model of this type is to be loaded with. Raises `ModelNotLoaded` as `family_of`."""
    return family_of(model_type).attention
