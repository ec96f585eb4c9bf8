"""Which Hugging Face module carries each site. The only file that spells `model.layers`.

| site | where | last dimension |
|---|---|---|
| `attn_z` | input of `self_attn.o_proj` | heads × head_dim |
| `resid_mid` | input of `pre_feedforward_layernorm` | d_model |
| `mlp_act` | input of `mlp.down_proj` | d_mlp |
| `mlp_out` | output of `post_feedforward_layernorm` | d_model |
| `resid_post` | output of the decoder layer, before the final norm | d_model |

`resid_mid` goes two ways: into that norm, and past it to the layer's end, where `mlp_out` is added to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.errors import ModelNotLoaded, UsageError

_MODULES = {
    SiteKind.ATTN_Z: ("self_attn.o_proj", "input"),
    SiteKind.RESID_MID: ("pre_feedforward_layernorm", "input"),
    SiteKind.MLP_ACT: ("mlp.down_proj", "input"),
    SiteKind.MLP_OUT: ("post_feedforward_layernorm", "output"),
    SiteKind.RESID_POST: ("", "output"),
}

SUPPORTED_MODEL_TYPES = ("gemma2",)


@dataclass(frozen=True)
class Tap:
    """A module and the side of it (`input` or `output`) where a site's activation passes.

    `sum` is the module whose output holds the activation as a summand when it also runs past `module`.
    """

    module: nn.Module
    side: str
    sum: nn.Module | None = None


def check_family(model: Any) -> None:
    """Raises `ModelNotLoaded` when no table here covers the model's family."""
    model_type = model.config.model_type
    if model_type not in SUPPORTED_MODEL_TYPES:
        raise ModelNotLoaded(
            f"A model of type {model_type!r} has no site table.", f"Use one of: {', '.join(SUPPORTED_MODEL_TYPES)}."
        )


def n_layers(model: Any) -> int:
    return len(model.model.layers)


def check_layer(model: Any, layer: int) -> None:
    """Raises `UsageError` for a layer that the model does not have."""
    if not 0 <= layer < n_layers(model):
        raise UsageError(f"There is no layer {layer}.", f"This model has layers 0 to {n_layers(model) - 1}.")


def tap(model: Any, site: Site) -> Tap:
    """Where `site` passes in `model`. Raises `UsageError` for a layer that does not exist."""
    check_layer(model, site.layer)
    path, side = _MODULES[site.kind]
    layer = model.model.layers[site.layer]
    return Tap(layer.get_submodule(path), side, layer if site.kind is SiteKind.RESID_MID else None)


def width(model: Any, kind: SiteKind) -> int:
    """The last dimension of the activation at `kind`."""
    layer = model.model.layers[0]
    if kind is SiteKind.ATTN_Z:
        return int(layer.self_attn.o_proj.in_features)
    if kind is SiteKind.MLP_ACT:
        return int(layer.mlp.down_proj.in_features)
    return int(model.config.hidden_size)


def down_proj_name(layer: int) -> str:
    """The parameter name of a layer's second MLP matrix, (d_model, d_mlp), as in the checkpoint."""
    return f"model.layers.{layer}.mlp.down_proj.weight"


def down_proj(model: Any, layer: int) -> Tensor:
    """W^(2) of `layer`, (d_model, d_mlp): its rows write into the residual stream, its columns are neurons."""
    check_layer(model, layer)
    weight: Tensor = model.model.layers[layer].mlp.down_proj.weight
    return weight


def post_feedforward_gain(model: Any, layer: int) -> Tensor:
    """1 + weight of the norm between `down_proj` and the residual stream, (d_model,), float32."""
    norm = model.model.layers[layer].post_feedforward_layernorm
    gain: Tensor = 1.0 + norm.weight.detach().to(torch.float32)
    return gain


def embedding(model: Any) -> nn.Module:
    """The token embedding: the first thing every forward runs."""
    module: nn.Module = model.get_input_embeddings()
    return module
