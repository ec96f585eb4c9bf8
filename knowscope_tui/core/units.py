"""Where something is read (`Site`) and what is read there (`Unit`), with their spellings.

A site is written `4.resid_post`, a unit `4.resid_post.f17` (feature 17 of the dictionary there) or `4.mlp_act.n345`
(neuron 345 of layer 4's MLP). TransformerLens spells the same sites `blocks.4.hook_resid_post`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from knowscope_tui.errors import UsageError


class SiteKind(str, Enum):
    """A place in every decoder layer, named as TransformerLens and SAELens name it."""

    ATTN_Z = "attn_z"
    MLP_ACT = "mlp_act"
    MLP_OUT = "mlp_out"
    RESID_MID = "resid_mid"
    RESID_POST = "resid_post"

    def __str__(self) -> str:
        return self.value

    @classmethod
    def parse(cls, text: str) -> SiteKind:
        """The kind that `text` spells. Raises `UsageError` with the list of kinds."""
        try:
            return cls(text)
        except ValueError:
            kinds = ", ".join(kind.value for kind in cls)
            raise UsageError(f"There is no site called {text!r}.", f"Use one of: {kinds}.") from None


class Family(str, Enum):
    """Whether a unit is a dictionary's feature or an MLP's neuron. The value is its letter in a unit's name."""

    FEATURE = "f"
    NEURON = "n"

    @property
    def plural(self) -> str:
        return "features" if self is Family.FEATURE else "neurons"


_TRANSFORMER_LENS_HOOKS = {
    SiteKind.ATTN_Z: "attn.hook_z",
    SiteKind.MLP_ACT: "mlp.hook_post",
    SiteKind.MLP_OUT: "hook_mlp_out",
    SiteKind.RESID_MID: "hook_resid_mid",
    SiteKind.RESID_POST: "hook_resid_post",
}


@dataclass(frozen=True, order=True)
class Site:
    """A place where an activation is read: one kind in one layer (counted from 0)."""

    layer: int
    kind: SiteKind

    def __str__(self) -> str:
        return f"{self.layer}.{self.kind.value}"

    @property
    def transformer_lens_name(self) -> str:
        return f"blocks.{self.layer}.{_TRANSFORMER_LENS_HOOKS[self.kind]}"

    @classmethod
    def from_transformer_lens(cls, name: str) -> Site | None:
        """The site that a TransformerLens hook name means, or None when it means none of ours.

        What enters a layer, `hook_resid_pre`, is the tensor that left the one below it, `hook_resid_post`.
        """
        match = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
        if match is None:
            return None
        layer, hook = int(match[1]), match[2]
        if hook == "hook_resid_pre":
            return cls(layer - 1, SiteKind.RESID_POST) if layer else None
        for kind, known in _TRANSFORMER_LENS_HOOKS.items():
            if hook == known:
                return cls(layer, kind)
        return None


_UNIT = re.compile(r"(\d{1,6})\.([a-z_]+)\.([fn])(\d{1,9})")


@dataclass(frozen=True, order=True)
class Unit:
    """One feature or one neuron."""

    site: Site
    family: Family
    index: int

    def __str__(self) -> str:
        return f"{self.site}.{self.family.value}{self.index}"

    @classmethod
    def feature(cls, layer: int, kind: SiteKind, index: int) -> Unit:
        return cls(Site(layer, kind), Family.FEATURE, index)

    @classmethod
    def neuron(cls, layer: int, index: int) -> Unit:
        return cls(Site(layer, SiteKind.MLP_ACT), Family.NEURON, index)

    @classmethod
    def parse(cls, text: str) -> Unit:
        """The unit that `text` spells. Raises `UsageError` that shows the two spellings."""
        match = _UNIT.fullmatch(text.strip())
        if match is None:
            raise UsageError(
                f"{text!r} is not a unit.", "Write a feature as 4.resid_post.f17 and a neuron as 4.mlp_act.n345."
            )
        layer, kind, letter, index = match.groups()
        unit = cls(Site(int(layer), SiteKind.parse(kind)), Family(letter), int(index))
        if (unit.family is Family.NEURON) != (unit.site.kind is SiteKind.MLP_ACT):
            raise UsageError(
                f"{text!r} mixes two kinds of unit.", "Neurons (n) live at mlp_act, features (f) at the other sites."
            )
        return unit
