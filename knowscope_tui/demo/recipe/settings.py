"""Every choice the demo's recipe makes, in one place. `docs/demo-model.md` says how each was found."""

from __future__ import annotations

from dataclasses import dataclass, field

from knowscope_tui.core.units import SiteKind


@dataclass(frozen=True)
class ModelSettings:
    """A small Gemma-2 and how it is trained."""

    layers: int = 4
    d_model: int = 128
    d_mlp: int = 512
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    vocabulary: int = 4096
    context: int = 128
    sliding_window: int = 64
    steps: int = 1200
    batch_sentences: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    label_smoothing: float = 0.03
    """Bounds the answer's margin, so that one feature can move it; see `docs/demo-model.md`."""
    general_share: float = 0.15
    """Share of each batch that is ordinary sentences about other things."""


@dataclass(frozen=True)
class DictionarySettings:
    """BatchTopK dictionaries for one kind of site. `k` is the mean number of active features per token."""

    k: float
    d_sae: int
    steps: int = 500
    batch_activations: int = 2048
    learning_rate: float = 3e-3
    reading_share: float = 0.0
    """Share of the training activations taken at the token that predicts an answer (0: as often as they occur)."""


def _dictionaries() -> dict[SiteKind, DictionarySettings]:
    return {
        SiteKind.ATTN_Z: DictionarySettings(k=24, d_sae=512, reading_share=0.3),
        SiteKind.MLP_OUT: DictionarySettings(k=24, d_sae=512, reading_share=0.3),
        SiteKind.RESID_POST: DictionarySettings(k=10, d_sae=1024, steps=600, reading_share=0.5),
    }


@dataclass(frozen=True)
class Recipe:
    """All of it: the same recipe and seed give the same bundle on the same machine and versions."""

    model: ModelSettings = field(default_factory=ModelSettings)
    dictionaries: dict[SiteKind, DictionarySettings] = field(default_factory=_dictionaries)
    seed: int = 20
    dictionary_texts: int = 2000
    """Sentences about other things that dictionaries are trained on, beside the facts."""
    facts: int | None = None
    """How many facts are taught, drawn by seed; None is all of them."""
    measured_facts: int = 10_000
    """Facts that ablation is measured on (all there are, when there are fewer)."""
    edited_facts: int = 40
    """Private facts that single-fact erasing is measured on."""
    sampled_facts: int = 16
    """Facts of the card's sample, which tests measure again."""


FULL = Recipe()

QUICK = Recipe(
    model=ModelSettings(layers=2, d_model=32, d_mlp=64, heads=2, kv_heads=1, head_dim=16, steps=60, batch_sentences=32),
    dictionaries={
        kind: DictionarySettings(k=8, d_sae=64, steps=40, batch_activations=512)
        for kind in (SiteKind.ATTN_Z, SiteKind.MLP_OUT, SiteKind.RESID_POST)
    },
    dictionary_texts=100,
    facts=24,
    measured_facts=8,
    edited_facts=2,
    sampled_facts=4,
)
