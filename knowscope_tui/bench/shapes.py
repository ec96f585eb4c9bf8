"""The shapes that models and dictionaries of random numbers are made in, and what can be counted from a shape."""

from __future__ import annotations

from dataclasses import dataclass

from knowscope_tui.core.units import Site, SiteKind

KINDS = (SiteKind.RESID_POST, SiteKind.MLP_OUT, SiteKind.ATTN_Z)
"""Kinds of site that may be given dictionaries."""


@dataclass(frozen=True)
class Shape:
    """A Gemma-2 and the dictionaries beside it."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_value_heads: int
    head_dim: int
    vocabulary: int
    width: int
    """Features of a dictionary."""

    @property
    def attention_out(self) -> int:
        """Parameters of the matrix that attention writes with."""
        return self.heads * self.head_dim * self.hidden

    @property
    def mlp(self) -> int:
        """Parameters of an MLP and of the three norms that stand around it: before, after, and after attention."""
        return 3 * self.hidden * self.intermediate + 3 * self.hidden

    @property
    def layer(self) -> int:
        """Parameters of a layer."""
        reading = (self.heads + 2 * self.key_value_heads) * self.head_dim * self.hidden
        return self.hidden + reading + self.attention_out + self.mlp

    @property
    def unembedding(self) -> int:
        """Parameters of the embedding, which unembeds too."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        return self.unembedding + self.layers * self.layer + self.hidden

    def above(self, site: Site) -> int:
        """Parameters of the layers that read what changed at `site`: the rest of its own, and all above."""
        own = self.attention_out + self.mlp if site.kind is SiteKind.ATTN_Z else 0
        return own + (self.layers - 1 - site.layer) * self.layer

    def width_at(self, kind: SiteKind) -> int:
        """Numbers that a dictionary at `kind` reads."""
        return self.heads * self.head_dim if kind is SiteKind.ATTN_Z else self.hidden


SHAPES = {
    "2b": Shape(26, 2304, 9216, 8, 4, 256, 256_000, 16_384),
    "small": Shape(12, 768, 3072, 8, 4, 64, 32_000, 4096),
    "tiny": Shape(4, 128, 512, 4, 2, 32, 4000, 512),
}
"""`2b` is that of Gemma-2-2B with Gemma Scope's 16k dictionaries."""
