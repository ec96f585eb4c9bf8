"""What the closed form must leave alone: second moments of each layer's `mlp_act`, factored once.

    C = Σ_m λ_m · mean of a aᵀ over the tokens of m,   M = C + ε,   ε = `RIDGE` · mean diagonal of C + (1/n) Aᵀ A

m runs over general text (every token but the first), the retained facts, those of them that share a subject or a
relation with an edited fact, and invented neighbors, all of these at the token that predicts; A are the edit's own
keys. The λ of `KEEP` are shares of 1, the weight of the keys' own second moment; what there is none of adds nothing.

A moment of Gemma 2 2B takes 340 MB a layer. As many layers at a time as `AT_ONCE_BYTES` hold are summed up on their
devices and factored; the factors, 6.8 GB for the 20 layers that are edited there, wait on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from knowscope_tui.core.edits import EditSpec
from knowscope_tui.core.rings import UNRELATED, ring_of
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.host import host_memory
from knowscope_tui.engine.methods.evidence import questions_about
from knowscope_tui.engine.methods.invented import invented_neighbors
from knowscope_tui.engine.methods.material import Material
from knowscope_tui.engine.methods.states import Places, add_moments, at
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.sites import layer_device, width
from knowscope_tui.errors import EditError
from knowscope_tui.text import file_size

KEEP = {"text": 0.2, "retained": 0.1, "near": 0.1, "invented": 0.1}
"""λ of each thing to keep."""

RIDGE = 1e-4

INVENTED = 400
"""Invented neighbors, at most."""

AT_ONCE_BYTES = 1 << 30


@dataclass(frozen=True)
class Moment:
    """M of one layer as its Cholesky factor: lower (d_mlp, d_mlp), float32, on the host."""

    lower: Tensor

    @classmethod
    def of(cls, moment: Tensor, ridge: float) -> Moment:
        """`moment` (d_mlp, d_mlp) is C; it is added to in place."""
        moment.diagonal().add_(ridge)
        return cls(torch.linalg.cholesky(moment.to(torch.float64)).to("cpu", torch.float32))

    def solve(self, keys: Tensor) -> Tensor:
        """keys · M⁻¹, (n, d_mlp), float64, on the device of `keys`."""
        solved: Tensor = torch.cholesky_solve(keys.to(torch.float64).T, self.lower.to(keys.device, torch.float64))
        return solved.T


def moments(
    lm: LanguageModel,
    layers: Sequence[int],
    spec: EditSpec,
    material: Material,
    questions: Sequence[Question],
    positions: Sequence[int],
) -> dict[int, Moment]:
    """M of each of `layers`; `questions`, each at its own one of `positions`, are what is edited.

    Raises `EditError` where the factors do not fit this machine's memory.
    """
    size = width(lm.model, SiteKind.MLP_ACT)
    _check_memory(4 * size * size * len(layers))
    groups = _groups(lm, spec, material)
    at_once = max(1, AT_ONCE_BYTES // (4 * size * size))
    found: dict[int, Moment] = {}
    for start in range(0, len(layers), at_once):
        sites = [Site(layer, SiteKind.MLP_ACT) for layer in layers[start : start + at_once]]
        sums = {site: torch.zeros(size, size, device=layer_device(lm.model, site.layer)) for site in sites}
        for name, texts in groups.items():
            add_moments(lm, texts, KEEP[name], sums)
        keys = at(lm, questions, positions, sites)
        for site in sites:
            own = sums.pop(site)
            ridge = RIDGE * float(own.diagonal().mean().cpu() + keys[site].square().mean())
            found[site.layer] = Moment.of(own, ridge)
    return found


def _check_memory(needed: int) -> None:
    _total, free = host_memory()
    if needed > free:
        raise EditError(
            f"The closed form needs {file_size(needed)} of this machine's memory, and {file_size(free)} are free.",
            "Use `positions`, or a machine with more memory.",
        )


def _groups(lm: LanguageModel, spec: EditSpec, material: Material) -> dict[str, list[Places]]:
    """What is to be kept, by the names of `KEEP`."""
    near = [fact for fact in material.retained if ring_of(fact, spec.facts) != UNRELATED]
    invented = invented_neighbors(spec.facts, material, INVENTED, spec.seed)
    encoded = [lm.encode_text(text, cut=True) for text in material.texts]
    asked = {
        "retained": questions_about(lm, material.retained),
        "near": questions_about(lm, near),
        "invented": [lm.leave_open(prompt) for prompt in invented],
    }
    texts: list[Places] = [(ids, tuple(range(1, len(ids)))) for ids in encoded if len(ids) > 1]
    return {
        "text": texts,
        **{name: [(q.input_ids, (q.last,)) for q in questions] for name, questions in asked.items()},
    }
