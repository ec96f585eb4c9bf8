"""Which module of a model carries each site, in words that hold for every family.

| site | where | last dimension |
|---|---|---|
| `attn_z` | input of the attention's output projection | heads × head_dim |
| `resid_mid` | input of the norm in front of the MLP | d_model |
| `mlp_act` | input of the MLP's second matrix, `down_proj` | d_mlp |
| `mlp_out` | output of the MLP, or of the norm that some families put after it | d_model |
| `resid_post` | output of the decoder layer, before the final norm | d_model |

`resid_mid` goes two ways: into that norm, and past it to the layer's end, where `mlp_out` is added to it. What the
modules are called in which family is in `families.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.families import ModelFamily, family_of
from knowscope_tui.errors import UsageError

INSIDE_LAYER = (SiteKind.ATTN_Z, SiteKind.RESID_MID, SiteKind.MLP_ACT, SiteKind.MLP_OUT, SiteKind.RESID_POST)
"""The kinds of site in the order in which a decoder layer computes them."""


@dataclass(frozen=True)
class Tap:
    """A module and the side of it (`input` or `output`) where a site's activation passes.

    `sum` is the module whose output holds the activation as a summand when it also runs past `module`.
    """

    module: nn.Module
    side: str
    sum: nn.Module | None = None


def check_family(model: Any) -> None:
    """Raises `ModelNotLoaded`, with the list of what is supported, when the model's family is not."""
    family_of(model.config.model_type)


def text_config(model: Any) -> Any:
    """The configuration of the language model, which a multimodal model keeps inside its own."""
    return model.config.get_text_config()


def n_layers(model: Any) -> int:
    return len(_layers(model))


def check_layer(model: Any, layer: int) -> None:
    """Raises `UsageError` for a layer that the model does not have."""
    if not 0 <= layer < n_layers(model):
        raise UsageError(f"There is no layer {layer}.", f"This model has layers 0 to {n_layers(model) - 1}.")


def tap(model: Any, site: Site) -> Tap:
    """Where `site` passes in `model`. Raises `UsageError` for a layer that does not exist."""
    check_layer(model, site.layer)
    path, side = _place(_family(model), site.kind)
    layer = _layers(model)[site.layer]
    return Tap(layer.get_submodule(path), side, layer if site.kind is SiteKind.RESID_MID else None)


def width(model: Any, kind: SiteKind) -> int:
    """The last dimension of the activation at `kind`."""
    if kind not in (SiteKind.ATTN_Z, SiteKind.MLP_ACT):
        return int(text_config(model).hidden_size)
    family = _family(model)
    path, _side = _place(family, kind)
    weight: Tensor = _layers(model)[0].get_submodule(path).weight
    return weight.shape[0 if family.conv1d else 1]


def layer_device(model: Any, layer: int) -> torch.device:
    """The device that `layer` computes on. Raises `UsageError` for a layer that does not exist."""
    return down_proj(model, layer).device


def down_proj_name(model: Any, layer: int) -> str:
    """The name of a layer's second MLP matrix among the model's parameters."""
    family = _family(model)
    return f"{family.layers}.{layer}.{family.down_proj}.weight"


def down_proj(model: Any, layer: int) -> Tensor:
    """W^(2) of `layer`, (d_model, d_mlp): its rows write into the residual stream, its columns are neurons.

    It is the parameter, or a view of it where the family stores it the other way round.
    """
    check_layer(model, layer)
    weight: Tensor = _layers(model)[layer].get_submodule(_family(model).down_proj).weight
    return stored_layout(model, weight)


def stored_layout(model: Any, table: Tensor) -> Tensor:
    """A (d_model, d_mlp) table in the layout of the parameter that holds `down_proj`, or one in that layout back."""
    return table.T if _family(model).conv1d else table


def post_feedforward_gain(model: Any, layer: int) -> Tensor | None:
    """The gain of the RMS norm between `down_proj` and the residual stream, (d_model,), float32.

    None where the family has no norm there.
    """
    family = _family(model)
    if family.norm_offset is None:
        return None
    weight: Tensor = _layers(model)[layer].get_submodule(family.mlp_out).weight
    return family.norm_offset + weight.detach().to(torch.float32)


def decoder_layers(model: Any) -> list[nn.Module]:
    """The decoder layers, from the bottom up."""
    return list(_layers(model))


def final_norm(model: Any) -> nn.Module:
    """The norm between the last decoder layer and the unembedding."""
    norm: nn.Module = model.get_submodule(_family(model).final_norm)
    return norm


def unembedding(model: Any) -> nn.Linear:
    """The matrix from the normed residual stream to logits."""
    head: nn.Linear = model.get_output_embeddings()
    return head


def logit_softcap(model: Any) -> float | None:
    """c where logits are c · tanh(logits / c), as Gemma 2 has them; None where they are left as they are."""
    cap = getattr(text_config(model), "final_logit_softcapping", None)
    return None if cap is None else float(cap)


def embedding(model: Any) -> nn.Module:
    """The token embedding: the first thing every forward runs."""
    module: nn.Module = model.get_input_embeddings()
    return module


def _family(model: Any) -> ModelFamily:
    return family_of(model.config.model_type)


def _layers(model: Any) -> Any:
    return model.get_submodule(_family(model).layers)


def _place(family: ModelFamily, kind: SiteKind) -> tuple[str, str]:
    """The path inside a decoder layer of the module that carries `kind`, and which side of it."""
    return {
        SiteKind.ATTN_Z: (family.attn_out, "input"),
        SiteKind.RESID_MID: (family.mlp_norm, "input"),
        SiteKind.MLP_ACT: (family.down_proj, "input"),
        SiteKind.MLP_OUT: (family.mlp_out, "output"),
        SiteKind.RESID_POST: ("", "output"),
    }[kind]
