"""What one fact shows at its reading position: units by attribution, and what each neuron is about to write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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
    """Layer → a / r, (d_mlp,), float32: see `normed`."""

    def units(self, top: int) -> tuple[Unit, ...]:
        """The `top` units by attribution."""
        return strongest(self.attribution, top)

    def weight(self, unit: Unit) -> float:
        """The attribution of `unit`; 0 at a site that was not looked at."""
        found = self.attribution.get(unit.site)
        return 0.0 if found is None else float(found[unit.index])


def phrasings(fact: Fact) -> tuple[str, ...]:
    """Everything an edit may see of a fact: its prompt and its edit prompts."""
    return (fact.prompt, *fact.edit_prompts)


def questions_about(lm: LanguageModel, facts: Iterable[Fact]) -> list[Question]:
    """Every phrasing of every fact, in order."""
    return [lm.ask(prompt, fact.answer) for fact in facts for prompt in phrasings(fact)]


def gather(lm: LanguageModel, library: Library, sites: Sequence[Site], fact: Fact) -> Evidence:
    """What `fact` shows of the units at `sites` and of every layer's neurons."""
    neurons = [Site(layer, SiteKind.MLP_ACT) for layer in range(lm.n_layers)]
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
