"""From pre-activations to feature activations, for every architecture that has a fast path here.

With x the activation as the dictionary reads it (normalised where it was trained so) and p = x W_enc + b_enc:

- `standard`: relu(p).
- `jumprelu`: relu(p) · 1[p > threshold] (Rajamanoharan et al. 2024, arXiv 2407.14435). BatchTopK dictionaries are
  published in this form.
- `gated`: 1[p + b_gate > 0] · relu(p · exp(r_mag) + b_mag) (arXiv 2404.16014); b_enc only carries what b_dec
  subtracts.
- `topk`: relu of the k largest p, the rest zero (Gao et al. 2024, arXiv 2406.04093).
- `abstopk`: the k entries of p with the largest magnitude, signs kept.

The names are sae-lens's. What it has besides these runs through its own classes (see `dictionary.PeerDictionary`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Vectors = Mapping[str, Tensor]
"""Per-feature vectors by name, (d_sae,) each, float32."""


def _standard(p: Tensor, _vectors: Vectors, _k: int) -> Tensor:
    return torch.relu(p)


def _jumprelu(p: Tensor, vectors: Vectors, _k: int) -> Tensor:
    return torch.relu(p) * (p > vectors["threshold"])


def _gated(p: Tensor, vectors: Vectors, _k: int) -> Tensor:
    return torch.relu(p * vectors["r_mag"].exp() + vectors["b_mag"]) * (p + vectors["b_gate"] > 0)


def _topk(p: Tensor, _vectors: Vectors, k: int) -> Tensor:
    best = p.topk(min(k, p.shape[-1]), dim=-1, sorted=False)
    return torch.zeros_like(p).scatter(-1, best.indices, best.values.relu())


def _abstopk(p: Tensor, _vectors: Vectors, k: int) -> Tensor:
    best = p.abs().topk(min(k, p.shape[-1]), dim=-1, sorted=False).indices
    return torch.zeros_like(p).scatter(-1, best, p.gather(-1, best))


@dataclass(frozen=True)
class Architecture:
    """`vectors` it needs besides the two matrices and b_dec; `local`: a feature depends on its own p alone."""

    vectors: tuple[str, ...]
    activate: Callable[[Tensor, Vectors, int], Tensor]
    local: bool = True
    has_k: bool = False


ARCHITECTURES: dict[str, Architecture] = {
    "standard": Architecture(("b_enc",), _standard),
    "jumprelu": Architecture(("b_enc", "threshold"), _jumprelu),
    "gated": Architecture(("b_enc", "b_gate", "r_mag", "b_mag"), _gated),
    "topk": Architecture(("b_enc",), _topk, local=False, has_k=True),
    "abstopk": Architecture(("b_enc",), _abstopk, local=False, has_k=True),
}

REFUSED = {
    "transcoder": "it reads one site and writes another",
    "skip_transcoder": "it reads one site and writes another",
    "jumprelu_transcoder": "it reads one site and writes another",
    "jumprelu_skip_transcoder": "it reads one site and writes another",
    "temporal": "its features depend on earlier tokens too",
}
"""Architectures of sae-lens whose features are nothing that can be switched off at one site and token."""
