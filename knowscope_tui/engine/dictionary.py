"""One sparse autoencoder at one site, in the form that looking and ablating need."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from knowscope_tui.core.units import Site
from knowscope_tui.errors import DictionaryError, UsageError


@dataclass(frozen=True)
class Dictionary:
    """A JumpReLU SAE: f(h) = p · 1[p > threshold] with p = h W_enc + b_enc and p > 0; ĥ = f W_dec + b_dec.

    `W_enc` (d_in, d_sae), `W_dec` (d_sae, d_in), `b_enc` and `threshold` (d_sae,), `b_dec` (d_in,); all float32 on one
    device. Where a format subtracts `b_dec` from its input, that is folded into `b_enc` on loading. A plain ReLU
    dictionary has threshold 0. `source` says where it came from.
    """

    site: Site
    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    threshold: Tensor
    source: str

    @property
    def d_in(self) -> int:
        return self.W_enc.shape[0]

    @property
    def d_sae(self) -> int:
        return self.W_enc.shape[1]

    def encode(self, activation: Tensor) -> Tensor:
        """Feature activations of `activation`: (..., d_in) → (..., d_sae)."""
        pre = activation.to(self.W_enc.dtype) @ self.W_enc + self.b_enc
        return torch.relu(pre) * (pre > self.threshold)

    def encode_some(self, activation: Tensor, indices: Tensor) -> Tensor:
        """Activations of the features at `indices` alone: (..., d_in) → (..., n)."""
        pre = activation.to(self.W_enc.dtype) @ self.W_enc[:, indices] + self.b_enc[indices]
        return torch.relu(pre) * (pre > self.threshold[indices])

    def decode(self, features: Tensor) -> Tensor:
        """The reconstruction of feature activations: (..., d_sae) → (..., d_in)."""
        return features @ self.W_dec + self.b_dec

    def check_index(self, index: int) -> None:
        """Raises `UsageError` for a feature that this dictionary does not have."""
        if index >= self.d_sae:
            raise UsageError(
                f"There is no feature {index} at {self.site}.", f"Its dictionary has features 0 to {self.d_sae - 1}."
            )


def make_dictionary(site: Site, tensors: dict[str, Tensor], source: str, *, subtract_b_dec: bool = False) -> Dictionary:
    """A `Dictionary` from the five tensors of a checkpoint, checked against each other and turned to float32.

    Raises `DictionaryError` for a missing tensor, shapes that disagree, or numbers that are not finite.
    """
    missing = [name for name in ("W_enc", "b_enc", "W_dec", "b_dec") if name not in tensors]
    if missing:
        raise DictionaryError(f"The dictionary {source!r} has no {' and no '.join(missing)}.", "Fetch it again.")
    W_enc, b_enc, W_dec, b_dec = (tensors[name].to(torch.float32) for name in ("W_enc", "b_enc", "W_dec", "b_dec"))
    threshold = tensors["threshold"].to(torch.float32) if "threshold" in tensors else torch.zeros_like(b_enc)
    d_in, d_sae = W_enc.shape if W_enc.ndim == 2 else (-1, -1)
    expected = {"W_dec": (d_sae, d_in), "b_enc": (d_sae,), "b_dec": (d_in,), "threshold": (d_sae,)}
    found = {"W_dec": W_dec, "b_enc": b_enc, "b_dec": b_dec, "threshold": threshold}
    for name, shape in expected.items():
        if tuple(found[name].shape) != shape:
            raise DictionaryError(
                f"The dictionary {source!r} is broken: {name} is {tuple(found[name].shape)}, not {shape}.",
                "Fetch it again.",
            )
    if not all(torch.isfinite(tensor).all() for tensor in (W_enc, *found.values())):
        raise DictionaryError(f"The dictionary {source!r} holds numbers that are not finite.", "Fetch it again.")
    if subtract_b_dec:
        b_enc = b_enc - b_dec @ W_enc
    return Dictionary(site, W_enc.contiguous(), b_enc, W_dec.contiguous(), b_dec, threshold, source)
