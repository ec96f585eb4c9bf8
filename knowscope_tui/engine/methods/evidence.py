"""What one fact shows at its reading position: units by attribution, and what each neuron is about to write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from knowscope_tui.core.edits import EditSpec, Method
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.units import Site, SiteKind, Unit
from knowscope_tui.engine.attribution import strongest, unit_attribution
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.sites import down_proj, post_feedforward_gain, text_config
from knowscope_tui.engine.trace import record


@dataclass(frozen=True)
class Evidence:
    """What a fact shows, summed over its prompt and its edit prompts."""

    fact: Fact
    attribution: dict[Site, Tensor]
    """Site → (n_units,)."""
    normed_act: dict[int, Tensor]
    """Layer → a / r, (d_mlp,), float32: see `normed`. Empty for a method that has no use for it."""

    def units(self, spec: EditSpec) -> tuple[Unit, ...]:
        """The units that `spec` uses of this fact: those it names, or else the strongest by attribution."""
        return spec.units or strongest(self.attribution, spec.top)


def phrasings(fact: Fact) -> tuple[str, ...]:
    """Everything an edit may see of a fact: its prompt and its edit prompts."""
    return (fact.prompt, *fact.edit_prompts)


def questions_about(lm: LanguageModel, facts: Iterable[Fact]) -> list[Question]:
    """Every phrasing of every fact, in order."""
    return [lm.ask(prompt, fact.answer) for fact in facts for prompt in phrasings(fact)]


def gathered(lm: LanguageModel, library: Library, spec: EditSpec) -> list[Evidence]:
    """What each fact of `spec` shows at the sites among whose units the edit chooses."""
    weighed = spec.method in (Method.POSITIONS, Method.RANDOM)
    layers = range(lm.n_layers) if weighed else range(0)
    return [gather(lm, library, _sites(lm, library, spec), fact, layers) for fact in spec.facts]


def _sites(lm: LanguageModel, library: Library, spec: EditSpec) -> list[Site]:
    """Where `spec` looks for units: none where it names them.

    `precise` and `refined` aim behind the last layer and take the highest site of the kind, the others every one.
    """
    if spec.units:
        return []
    if spec.method is Method.NEURONS:
        return [Site(layer, SiteKind.MLP_ACT) for layer in range(lm.n_layers)]
    sites = [site for site in library.sites if site.kind is spec.site]
    return [max(sites)] if sites and spec.method.solves else sites


def gather(
    lm: LanguageModel, library: Library, sites: Sequence[Site], fact: Fact, layers: Sequence[int] = ()
) -> Evidence:
    """What `fact` shows of the units at `sites` and of the neurons of `layers`."""
    if not sites and not layers:
        return Evidence(fact, {}, {})
    neurons = [Site(layer, SiteKind.MLP_ACT) for layer in layers]
    total: dict[Site, Tensor] = {}
    normed_act: dict[int, Tensor] = {}
    for prompt in phrasings(fact):
        question = lm.ask(prompt, fact.answer)
        trace = record(lm, [question], [question.last], sorted({*sites, *neurons}), slopes=True)
        for site in sites:
            attribution = unit_attribution(library, site, trace)[1][0]
            total[site] = total[site] + attribution if site in total else attribution
        for site in neurons:
            a = normed(lm, site.layer, trace.activations[site][0])
            normed_act[site.layer] = normed_act[site.layer] + a if site.layer in normed_act else a
    return Evidence(fact, total, normed_act)


def normed(lm: LanguageModel, layer: int, mlp_act: Tensor) -> Tensor:
    """a / r: `mlp_act` (..., d_mlp) over the root mean square of what `down_proj` makes of it; float32.

    r is 1 where no norm follows.
    """
    a = mlp_act.to(torch.float32)
    if post_feedforward_gain(lm.model, layer) is None:
        return a
    written = a @ down_proj(lm.model, layer).to(torch.float32).T  # (..., d_model)
    rms = (written.square().mean(dim=-1, keepdim=True) + text_config(lm.model).rms_norm_eps).sqrt()
    result: Tensor = a / rms
    return result


def writers(site: Site) -> list[int]:
    """Layers whose `down_proj` writes straight into `site`, ascending."""
    if site.kind is SiteKind.MLP_ACT:
        return []
    if site.kind is SiteKind.MLP_OUT:
        return [site.layer]
    return list(range(site.layer + (site.kind is SiteKind.RESID_POST)))


def written_direction(lm: LanguageModel, library: Library, unit: Unit, layer: int) -> Tensor:
    """g ⊙ d, (d_model,), float32: what one more of W's output is worth to feature `unit`, up to the norm's 1/r.

    d is the feature's decoder row, g the gain of the norm behind `down_proj` of `layer`.
    """
    down = down_proj(lm.model, layer)
    d = library.at(unit.site).rows(torch.tensor([unit.index]))[0].to(down.device, torch.float32)
    g = post_feedforward_gain(lm.model, layer)
    return d if g is None else g * d
