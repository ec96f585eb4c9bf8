"""One sparse autoencoder at one site, in the form that looking and ablating need.

Its two matrices are (d_sae, d_in), a row a feature: row i of the encoder reads feature i, row i of the decoder is what
it writes. They are usually mapped from disk, so that a few features cost a few rows. Encoding needs the whole encoder,
which an `EncoderPool` keeps on the device that asks; of the decoder only rows of active features are ever fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from knowscope_tui.core.units import Site
from knowscope_tui.engine.architectures import ARCHITECTURES
from knowscope_tui.engine.residency import EncoderPool
from knowscope_tui.engine.transfer import upload
from knowscope_tui.errors import DictionaryError, UsageError

ROWS_AT_ONCE = 512
"""Encoder rows that are turned to float32 together: few enough to stay in a processor's cache."""

LAYER_NORM_EPSILON = 1e-5
"""sae-lens's, added to the standard deviation that the input is divided by."""


@dataclass(frozen=True)
class Spec:
    """What a dictionary is, besides its numbers."""

    site: Site
    architecture: str
    d_in: int
    d_sae: int
    source: str
    """Where it came from: a folder, or release and id."""
    k: int = 0
    """Active features a token, for `topk` and `abstopk`."""
    normalize: str = "none"
    """What it does to its input: `none`, `layer_norm` or `constant_norm_rescale` (sae-lens's words)."""
    model: str | None = None
    """The model it was trained on, as its publisher calls it."""
    expected_l0: float | None = None
    checked: bool = False
    """Whether its numbers are known to be finite."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """sae-lens's configuration, where its own class does the encoding."""


class Dictionary:
    """f = encode(h); ĥ = f · decoder + b_dec. All results are float32, on the device of what was asked about."""

    def __init__(self, spec: Spec, tensors: Mapping[str, Tensor], pool: EncoderPool | None = None) -> None:
        """`tensors`: `encoder` and `decoder` (d_sae, d_in), `b_dec` (d_in,), and the architecture's vectors."""
        self.spec = spec
        self.encoder, self.decoder = tensors["encoder"], tensors["decoder"]
        self._pool = pool or EncoderPool()
        names = (
            ("b_dec", *ARCHITECTURES[spec.architecture].vectors) if spec.architecture in ARCHITECTURES else ("b_dec",)
        )
        self._vectors = {torch.device("cpu"): {name: tensors[name].to(torch.float32) for name in names}}
        self._unchecked = not spec.checked

    @property
    def site(self) -> Site:
        return self.spec.site

    @property
    def source(self) -> str:
        return self.spec.source

    @property
    def d_in(self) -> int:
        return self.spec.d_in

    @property
    def d_sae(self) -> int:
        return self.spec.d_sae

    @property
    def dtype(self) -> str:
        return str(self.decoder.dtype).removeprefix("torch.")

    # --- encoding ---------------------------------------------------------------------------------------------------

    def encode(self, activation: Tensor) -> Tensor:
        """Feature activations of `activation`: (..., d_in) → (..., d_sae)."""
        x, vectors = self.as_read(activation), self.vectors(activation.device)
        p = _products(x, self._whole_encoder(activation.device)) + vectors["b_enc"]
        return ARCHITECTURES[self.spec.architecture].activate(p, vectors, self.spec.k)

    def encode_some(self, activation: Tensor, indices: Tensor) -> Tensor:
        """Activations of the features at `indices` alone: (..., d_in) → (..., n)."""
        return self.select(indices, activation.device).encode(activation)

    def select(self, indices: Tensor, device: torch.device) -> Selection:
        """The features at `indices` (n,), best on the host, with what `device` needs to read and write them often."""
        chosen = indices.to(self.decoder.device)
        vectors = {name: v[upload(chosen, device)] for name, v in self.vectors(device).items() if name != "b_dec"}
        encoder = self._rows_of(self.encoder, chosen, device) if self._reads_alone else None
        return Selection(self, upload(chosen, device), encoder, vectors)

    @property
    def _reads_alone(self) -> bool:
        """Whether a feature's activation depends on its own pre-activation alone."""
        return ARCHITECTURES[self.spec.architecture].local

    def as_read(self, activation: Tensor) -> Tensor:
        """The activation as the encoder reads it, float32."""
        x = activation.to(torch.float32)
        if self.spec.normalize == "none":
            return x
        mean, scale = self._statistics(x)
        return (x - mean) / (scale + (LAYER_NORM_EPSILON if self.spec.normalize == "layer_norm" else 0.0))

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What normalising subtracts and divides by, and decoding multiplies by and adds: (..., 1) each.

        sae-lens's formulas (`SAE._setup_activation_normalization`); its epsilon is there on the way in alone.
        """
        if self.spec.normalize == "layer_norm":
            mean = x.mean(dim=-1, keepdim=True)
            return mean, (x - mean).std(dim=-1, keepdim=True)
        scale = x.norm(dim=-1, keepdim=True) / self.d_in**0.5
        return torch.zeros_like(scale), scale

    def _whole_encoder(self, device: torch.device) -> Tensor:
        self._check_matrices()
        return self._pool.on(self.site, self.encoder, device)

    def _check_matrices(self) -> None:
        """Raises `DictionaryError` for numbers that are not finite; what was found whole is not read again."""
        if not self._unchecked:
            return
        if not all(bool(torch.isfinite(matrix).all()) for matrix in (self.encoder, self.decoder)):
            raise not_finite(self.source)
        self._unchecked = False

    # --- decoding ---------------------------------------------------------------------------------------------------

    def rows(self, indices: Tensor, device: torch.device | None = None) -> Tensor:
        """Decoder rows of the features at `indices`: (n,) → (n, d_in), on `device` (default: that of `indices`)."""
        return self._rows_of(self.decoder, indices, device or indices.device)

    def write_scale(self, activation: Tensor) -> Tensor | float:
        """What a decoder row is multiplied by where `activation` stands: (..., 1), or 1."""
        if self.spec.normalize == "none":
            return 1.0
        return self._statistics(activation.to(torch.float32))[1]

    def decode(self, features: Tensor, activation: Tensor) -> Tensor:
        """The reconstruction of `activation` from its `features`: (..., d_sae) → (..., d_in)."""
        active = features.reshape(-1, self.d_sae).any(dim=0).nonzero()[:, 0]
        whole = features[..., active] @ self.rows(active) + self.vectors(features.device)["b_dec"]
        if self.spec.normalize == "none":
            return whole
        # The mean and the scale that encoding took away come back: a normalised dictionary rebuilds what it was shown.
        mean, scale = self._statistics(activation.to(torch.float32))
        return whole * scale + mean

    # --- shared -----------------------------------------------------------------------------------------------------

    def vectors(self, device: torch.device) -> dict[str, Tensor]:
        """The per-feature vectors and `b_dec` on `device`, float32."""
        if device not in self._vectors:
            host = self._vectors[torch.device("cpu")]
            self._vectors[device] = {name: vector.to(device) for name, vector in host.items()}
        return self._vectors[device]

    def check_index(self, index: int) -> None:
        """Raises `UsageError` for a feature that this dictionary does not have."""
        if index >= self.d_sae:
            raise UsageError(
                f"There is no feature {index} at {self.site}.", f"Its dictionary has features 0 to {self.d_sae - 1}."
            )

    def _rows_of(self, matrix: Tensor, indices: Tensor, device: torch.device) -> Tensor:
        chosen = upload(matrix[indices.to(matrix.device)], device).to(torch.float32)
        if self._unchecked and not bool(torch.isfinite(chosen).all()):
            raise not_finite(self.source)
        return chosen


@dataclass(frozen=True)
class Selection:
    """Some features of a dictionary on one device, with their rows at hand."""

    dictionary: Dictionary
    indices: Tensor
    """(n,)."""
    encoder: Tensor | None
    """(n, d_in); None where a feature's activation depends on all others."""
    vectors: Mapping[str, Tensor]
    """Per-feature vectors by name, (n,) each."""

    @cached_property
    def decoder(self) -> Tensor:
        """(n, d_in)."""
        return self.dictionary.rows(self.indices)

    def encode(self, activation: Tensor) -> Tensor:
        """Their activations: (..., d_in) → (..., n)."""
        if self.encoder is None:
            return self.dictionary.encode(activation)[..., self.indices]
        spec = self.dictionary.spec
        p = self.dictionary.as_read(activation) @ self.encoder.T + self.vectors["b_enc"]
        return ARCHITECTURES[spec.architecture].activate(p, self.vectors, spec.k)

    def write(self, activation: Tensor, amounts: Tensor) -> Tensor:
        """What `amounts` (..., n) of them add to `activation`: (..., d_in)."""
        return (amounts @ self.decoder) * self.dictionary.write_scale(activation)


class PeerDictionary(Dictionary):
    """A dictionary whose encoding sae-lens's own class does; what it writes is linear in its decoder all the same."""

    def __init__(self, spec: Spec, tensors: Mapping[str, Tensor], pool: EncoderPool | None = None) -> None:
        decoder = tensors["W_dec"]
        super().__init__(spec, {"encoder": decoder, "decoder": decoder, "b_dec": tensors["b_dec"]}, pool)
        # sae_lens takes seconds to import, and only architectures without a fast path need it.
        from sae_lens import SAE

        config = {**spec.config, "device": "cpu", "dtype": "float32"}
        self._sae = SAE.from_dict(config)
        self._sae.load_state_dict({name: tensor.to(torch.float32) for name, tensor in tensors.items()}, assign=True)

    @torch.no_grad()
    def encode(self, activation: Tensor) -> Tensor:
        self._check_matrices()
        self._sae.to(activation.device)
        # Matching pursuit wants a dimension of tokens.
        rows = activation.to(torch.float32).reshape(-1, self.d_in)
        encoded: Tensor = self._sae.encode(rows)
        return encoded.reshape(*activation.shape[:-1], self.d_sae)

    @property
    def _reads_alone(self) -> bool:
        return False


def make_dictionary(spec: Spec, tensors: Mapping[str, Tensor], pool: EncoderPool | None = None) -> Dictionary:
    """The dictionary that `spec` and `tensors` describe, on the fast path where its architecture has one."""
    made = Dictionary if spec.architecture in ARCHITECTURES else PeerDictionary
    return made(spec, tensors, pool)


def not_finite(source: str) -> DictionaryError:
    return DictionaryError(f"The dictionary {source!r} holds numbers that are not finite.", "Fetch it again.")


def _products(x: Tensor, matrix: Tensor) -> Tensor:
    """x · matrixᵀ in float32, wherever and in whatever dtype `matrix` lies: (..., d_in), (n, d_in) → (..., n)."""
    if matrix.dtype is torch.float32 and matrix.device == x.device:
        return x @ matrix.T
    parts = torch.split(matrix, ROWS_AT_ONCE)
    return torch.cat([x @ part.to(x.device, torch.float32).T for part in parts], dim=-1)
