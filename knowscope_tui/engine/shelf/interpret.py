"""From a dictionary in sae-lens's words, a configuration and a state dict, to this program's form.

Whatever can be folded into the weights is: the decoder bias subtracted from the input, the decoder norms that TopK
dictionaries are scaled by, and the centring of a residual stream that a dictionary was trained with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.architectures import ARCHITECTURES, REFUSED
from knowscope_tui.engine.dictionary import Spec, not_finite
from knowscope_tui.errors import DictionaryError

NORMALIZATIONS = ("none", "layer_norm", "constant_norm_rescale")
_MATRICES = ("W_enc", "W_dec")
_BATCH_TOPK = ("batchtopk", "matryoshka_batchtopk")


@dataclass(frozen=True)
class Published:
    """A dictionary as its publisher saved it: sae-lens's configuration and tensor names."""

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    source: str
    site: Site | None = None
    """Where the place it was found at says so."""
    expected_l0: float | None = None


@dataclass(frozen=True)
class Parts:
    """A dictionary in this program's form (see `dictionary.Dictionary`)."""

    spec: Spec
    tensors: dict[str, Tensor]


def interpret(published: Published, kind: SiteKind | None = None) -> Parts:
    """`published` in this program's form; `kind` is the kind of site that a person said it reads.

    Raises `DictionaryError` for a tensor that is missing or of the wrong shape, a site that is none of ours or not
    `kind`, and an architecture or a scaling that cannot be had here.
    """
    config, source = published.config, published.source
    site = site_of(published, kind)
    architecture = _architecture(published)
    _check_scales(published)
    normalize = str(config.get("normalize_activations") or "none")
    spec = Spec(
        site=site,
        architecture=architecture,
        d_in=-1,
        d_sae=-1,
        source=source,
        k=_active_features(published, architecture),
        normalize=normalize,
        model=_metadata(config, "model_name"),
        expected_l0=published.expected_l0,
    )
    if architecture not in ARCHITECTURES:
        return _for_peer(published, spec)
    tensors = _with_vectors(published, architecture)
    d_in, d_sae = _check_shapes(tensors, architecture, source)
    return Parts(
        Spec(**{**vars(spec), "d_in": d_in, "d_sae": d_sae}),
        _folded(tensors, config, architecture, site.kind),
    )


def site_of(published: Published, kind: SiteKind | None) -> Site:
    """The site from the configuration's hook name, else from the place it was found at."""
    source, hook = (
        published.source,
        _metadata(published.config, "hook_name") or _metadata(published.config, "hook_point"),
    )
    if hook is None:
        if published.site is None:
            raise DictionaryError(
                f"The layer of the dictionary {source!r} is not known.", "Put it in a folder called layer_N."
            )
        site = published.site
    else:
        found = Site.from_transformer_lens(hook)
        if found is None:
            wanted = Site(0, kind or SiteKind.RESID_POST).transformer_lens_name.replace("0", "N", 1)
            raise DictionaryError(
                f"The dictionary {source!r} reads {hook!r}, which is no site here.", f"Use one that reads {wanted!r}."
            )
        site = found
    if site.kind is SiteKind.MLP_ACT:
        raise DictionaryError(
            f"The dictionary {source!r} reads mlp_act, where this program looks at neurons.",
            "Use one that reads another site.",
        )
    if kind is not None and site.kind is not kind:
        raise DictionaryError(
            f"The dictionary {source!r} reads {site.kind}, not {kind}.", f"Pass it as --sae {site.kind}=FOLDER."
        )
    return site


def _metadata(config: Mapping[str, Any], name: str) -> str | None:
    """A text of the configuration, at its top in older versions and under `metadata` in newer ones."""
    metadata = config.get("metadata")
    value = config.get(name) or (metadata.get(name) if isinstance(metadata, dict) else None)
    return value if isinstance(value, str) else None


def _architecture(published: Published) -> str:
    config = published.config
    architecture = str(config.get("architecture", "standard"))
    activation = str(config.get("activation_fn", config.get("activation_fn_str", "relu")))
    if architecture in _BATCH_TOPK:
        return "jumprelu"
    if architecture == "standard" and activation == "topk":
        return "topk"
    if architecture in REFUSED:
        raise DictionaryError(
            f"The dictionary {published.source!r} is of architecture {architecture!r}: {REFUSED[architecture]}.",
            f"Use one of: {', '.join(ARCHITECTURES)}.",
        )
    known = (*ARCHITECTURES, "matching_pursuit")
    if architecture not in known or (
        architecture in ("standard", "jumprelu") and activation not in ("relu", "jumprelu")
    ):
        wrong = architecture if architecture not in known else activation
        raise DictionaryError(
            f"The dictionary {published.source!r} is of architecture {wrong!r}.", f"Supported: {', '.join(known)}."
        )
    return architecture


def _active_features(published: Published, architecture: str) -> int:
    """How many features are active at a token, where the architecture fixes that; 0 where it does not."""
    if architecture not in ARCHITECTURES or not ARCHITECTURES[architecture].has_k:
        return 0
    config = published.config
    k = config.get("k") or (config.get("activation_fn_kwargs") or {}).get("k")
    if not isinstance(k, (int, float)) or k < 1:
        raise DictionaryError(
            f"The dictionary {published.source!r} does not say how many features are active at a token.",
            "Put `k` into its configuration.",
        )
    return int(k)


def _check_scales(published: Published) -> None:
    tensors = published.tensors
    scales = [tensors[name] for name in ("scaling_factor", "finetuning_scaling_factor") if name in tensors]
    normalize = published.config.get("normalize_activations")
    if normalize not in (None, False, *NORMALIZATIONS) or any(bool((scale != 1).any()) for scale in scales):
        raise DictionaryError(
            f"The dictionary {published.source!r} scales its input or features.", "Save it with the scales folded in."
        )


def _for_peer(published: Published, spec: Spec) -> Parts:
    tensors, source = dict(published.tensors), published.source
    for name, ndim in (("W_dec", 2), ("b_dec", 1)):
        if name not in tensors or tensors[name].ndim != ndim:
            raise DictionaryError(f"The dictionary {source!r} has no {name}.", "Fetch it again.")
    if _trained_centred(published.config) and spec.site.kind is not SiteKind.ATTN_Z:
        raise DictionaryError(
            f"The dictionary {source!r} reads a centred residual stream, which {spec.architecture} cannot be given.",
            f"Use one of: {', '.join(ARCHITECTURES)}.",
        )
    if not bool(torch.isfinite(tensors["b_dec"]).all()):
        raise not_finite(source)
    if not published.config.get("apply_b_dec_to_input", True):
        # sae-lens adds the bias of a tied dictionary only where it was subtracted.
        tensors["b_dec"] = torch.zeros_like(tensors["b_dec"])
    d_sae, d_in = tensors["W_dec"].shape
    config = {key: value for key, value in published.config.items() if key not in ("device", "dtype")}
    config["reshape_activations"] = "none"  # Here attn_z is flat already.
    return Parts(Spec(**{**vars(spec), "d_in": d_in, "d_sae": d_sae, "config": config}), tensors)


def _with_vectors(published: Published, architecture: str) -> dict[str, Tensor]:
    """The tensors of a fast architecture by sae-lens's names, those that a format leaves out made explicit."""
    tensors = dict(published.tensors)
    missing = [name for name in _MATRICES if name not in tensors]
    needed = [name for name in ("b_dec", *ARCHITECTURES[architecture].vectors) if name != "threshold"]
    missing += [name for name in needed if name not in tensors and not (name == "b_enc" and architecture == "gated")]
    if missing:
        raise DictionaryError(
            f"The dictionary {published.source!r} has no {' and no '.join(missing)}.", "Fetch it again."
        )
    d_sae = tensors["W_enc"].shape[-1]
    if architecture == "gated":
        tensors["b_enc"] = tensors["W_enc"].new_zeros(d_sae)
    if "log_threshold" in tensors:  # sae-lens's older training checkpoints
        tensors["threshold"] = tensors["log_threshold"].exp()
    if "topk_threshold" in tensors:
        tensors["threshold"] = tensors["topk_threshold"].reshape(-1)[:1].expand(d_sae)
    if architecture == "jumprelu" and "threshold" not in tensors:
        raise DictionaryError(f"The dictionary {published.source!r} has no threshold.", "Fetch it again.")
    return tensors


def _check_shapes(tensors: Mapping[str, Tensor], architecture: str, source: str) -> tuple[int, int]:
    W_enc = tensors["W_enc"]
    d_in, d_sae = tuple(W_enc.shape) if W_enc.ndim == 2 else (-1, -1)
    expected: dict[str, tuple[int, ...]] = {"W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    expected |= dict.fromkeys(ARCHITECTURES[architecture].vectors, (d_sae,))
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise DictionaryError(
                f"The dictionary {source!r} is broken: {name} is {tuple(tensors[name].shape)}, not {shape}.",
                "Fetch it again.",
            )
    if not all(bool(torch.isfinite(tensors[name]).all()) for name in expected if name != "W_dec"):
        raise not_finite(source)
    return d_in, d_sae


def _folded(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], architecture: str, kind: SiteKind
) -> dict[str, Tensor]:
    """Encoder and decoder as rows, with whatever can be folded into them folded."""
    W_enc, W_dec = tensors["W_enc"], tensors["W_dec"]  # (d_in, d_sae), (d_sae, d_in)
    folded = {name: tensors[name].to(torch.float32) for name in ("b_dec", *ARCHITECTURES[architecture].vectors)}
    if config.get("apply_b_dec_to_input", True):  # sae-lens's default
        folded["b_enc"] = folded["b_enc"] - folded["b_dec"] @ W_enc.to(torch.float32)
    if config.get("rescale_acts_by_decoder_norm") and _chooses_by_rank(config, architecture):
        # sae-lens multiplies p by |W_dec[i]| before choosing and divides the activation by it before decoding.
        norm = W_dec.to(torch.float32).norm(dim=-1).clamp(min=1e-8)  # sae-lens's floor, for rows that are zero
        W_enc, W_dec = W_enc * norm, W_dec / norm[:, None]
        folded["b_enc"] = folded["b_enc"] * norm
    if _trained_centred(config) and kind is not SiteKind.ATTN_Z:  # z is not in the residual stream
        W_enc = W_enc - W_enc.mean(dim=0, keepdim=True)
    return {"encoder": W_enc.T, "decoder": W_dec, **folded}


def _chooses_by_rank(config: Mapping[str, Any], architecture: str) -> bool:
    """Whether it is a TopK dictionary or the training checkpoint of a BatchTopK one: no other is ever rescaled."""
    return ARCHITECTURES[architecture].has_k or config.get("architecture") in _BATCH_TOPK


def _trained_centred(config: Mapping[str, Any]) -> bool:
    """Whether it reads the residual stream less its mean over d_model, as TransformerLens's processed weights have it.

    A model with plain weights writes that mean too; the next layer norm removes it.
    """
    metadata = config.get("metadata")
    options = config.get("model_from_pretrained_kwargs") or (
        metadata.get("model_from_pretrained_kwargs") if isinstance(metadata, dict) else None
    )
    return isinstance(options, dict) and bool(options.get("center_writing_weights"))
