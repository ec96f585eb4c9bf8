"""Other ways than a sparse autoencoder to take an activation apart into directions, fitted on the same activations.

All are affine: a centred activation h − m is Σ_i c_i a_i, with coefficients c = (h − m) Uᵀ and directions a_i, the rows
of A. PCA and random directions are orthonormal (U = A); ICA's unmixing U and mixing Aᵀ are each other's pseudo-inverse.
A component is switched off where its coefficient becomes 0, its mean over what it was fitted on.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from knowscope_tui.core.units import Site
from knowscope_tui.core.written import written_beside
from knowscope_tui.engine.hooks import Change

MOST_COMPONENTS = 512
"""Components at most: ICA of more takes hours."""

ICA_STEPS, ICA_TOLERANCE = 1000, 1e-3

Array = NDArray[Any]
Parts = tuple[Array, Array, Array]
"""Mean (d), and for n components what reads them (n, d) and what they write (n, d)."""


class Decomposition(str, Enum):
    """A way to take activations apart."""

    ICA = "ICA"
    PCA = "PCA"
    RANDOM = "random"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Directions:
    """The components of one site: `mean` (d,), `read` U and `write` A (n, d) both, float32."""

    mean: Tensor
    read: Tensor
    write: Tensor

    def coefficients(self, activation: Tensor) -> Tensor:
        """c of activations: (..., d) → (..., n), float32."""
        on = activation.device
        return (activation.to(torch.float32) - self.mean.to(on)) @ self.read.to(on).T

    def rebuilt(self, coefficients: Tensor) -> Tensor:
        """m + Σ_i c_i a_i: (..., n) → (..., d)."""
        on = coefficients.device
        return self.mean.to(on) + coefficients @ self.write.to(on)

    def off(self, indices: Tensor, *, substitute: bool) -> Change:
        """Switches the components at `indices` off: what they write is taken away and the rest of the activation stays,
        or with `substitute` the activation becomes what the other components rebuild."""

        def change(rows: Tensor) -> Tensor:  # (batch, tokens, d)
            c = self.coefficients(rows)
            if substitute:
                c[..., indices.to(c.device)] = 0.0
                return self.rebuilt(c).to(rows.dtype)
            chosen = indices.to(c.device)
            taken = c[..., chosen] @ self.write.to(c.device)[chosen]
            return (rows.to(torch.float32) - taken).to(rows.dtype)

        return change


def fit(how: Decomposition, activations: Tensor, seed: int) -> Directions:
    """Fits `how` on activations (tokens, d): as many components as d, at most `MOST_COMPONENTS`.

    One thread sums in one order, which makes a fit the same however many there are.
    """
    # scikit-learn takes a second to import, and only a fit needs it. What is imported within the limit escapes it.
    import sklearn.decomposition  # noqa: F401
    from threadpoolctl import threadpool_limits

    x = activations.to(torch.float32).cpu().numpy()
    count = min(x.shape[1], MOST_COMPONENTS, max(x.shape[0] - 1, 1))
    with threadpool_limits(1):
        parts = _FITS[how](x, count, seed)
    return Directions(*(torch.tensor(np.ascontiguousarray(part), dtype=torch.float32) for part in parts))


def _random(x: Array, count: int, seed: int) -> Parts:
    drawn = np.random.default_rng(seed).standard_normal((x.shape[1], count))
    axes = np.linalg.qr(drawn)[0].T
    return x.mean(axis=0), axes, axes


def _pca(x: Array, count: int, seed: int) -> Parts:
    from sklearn.decomposition import PCA

    axes = PCA(count, svd_solver="full", random_state=seed).fit(x).components_
    return x.mean(axis=0), axes, axes


def _ica(x: Array, count: int, seed: int) -> Parts:
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    ica = FastICA(count, whiten="unit-variance", max_iter=ICA_STEPS, tol=ICA_TOLERANCE, random_state=seed)
    with warnings.catch_warnings():
        # Some components still turn a little after the last step.
        warnings.simplefilter("ignore", ConvergenceWarning)
        ica.fit(x)
    return ica.mean_, ica.components_, ica.mixing_.T


_FITS = {Decomposition.RANDOM: _random, Decomposition.PCA: _pca, Decomposition.ICA: _ica}


def fitted(how: Decomposition, activations: Mapping[Site, Tensor], seed: int, cache: Path) -> dict[Site, Directions]:
    """`fit` for each site; what was fitted before is read from `cache`."""
    found: dict[Site, Directions] = {}
    for site, rows in activations.items():
        file = cache / f"{how.name.lower()}-{site}.safetensors"
        found[site] = _read(file) or _kept(fit(how, rows, seed), file)
    return found


def _kept(directions: Directions, file: Path) -> Directions:
    with written_beside(file) as out:
        out.write(save(vars(directions)))
    return directions


def _read(file: Path) -> Directions | None:
    """What `file` holds; None where it is not there or broken."""
    if not os.path.isfile(file):
        return None
    try:
        return Directions(**load(file.read_bytes()))
    except (OSError, SafetensorError, TypeError):
        return None
