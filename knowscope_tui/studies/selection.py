"""The units that carry a fact, kind by kind, as all studies choose them.

Features, and neurons where nothing else is said, are ranked by gradient × activation of log P(answer) at the prompt's
last token. Knowledge neurons (Dai et al. 2022) are ranked by integrated gradients of P(answer) instead, averaged over
the phrasings, and kept where they exceed `THRESHOLD` times the largest in `SHARED` of the phrasings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.readings import Ablation
from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.engine.attribution import integrated_gradients, strongest, unit_attribution
from knowscope_tui.engine.live import Live
from knowscope_tui.engine.trace import Trace, record
from knowscope_tui.errors import PromptError
from knowscope_tui.studies.study import Subject

THRESHOLD, SHARED = 0.2, 0.5
"""Dai et al.'s t, and the share of a fact's phrasings in which a knowledge neuron has to exceed t times the largest."""

PHRASINGS = 3
"""Phrasings of a fact that knowledge neurons are refined over, its prompt among them."""


@dataclass(frozen=True)
class Watched:
    """One fact, recorded once, with what every unit shows and is worth: site → (n_units,) both."""

    trace: Trace
    live: Live
    activation: Mapping[Site, Tensor]
    attribution: Mapping[Site, Tensor]

    @property
    def p_answer(self) -> float:
        return self.trace.p_answer[0]

    @property
    def kinds(self) -> list[SiteKind]:
        return [kind for kind in SiteKind if any(site.kind is kind for site in self.attribution)]

    def top(self, kind: SiteKind, count: int, layer: int | None = None) -> tuple[Unit, ...]:
        """The `count` units of one kind with the largest positive attribution, in all layers or in one."""
        return strongest({site: self.attribution[site] for site in self._sites(kind, layer)}, count)

    def selected(self, kind: SiteKind, tau1: float) -> tuple[Unit, ...]:
        """The paper's F_a: units whose activation exceeds τ1 times the largest of their kind, over all layers."""
        largest = max(float(self.activation[site].max()) for site in self._sites(kind, None))
        family = family_of(kind)
        return tuple(
            Unit(site, family, index)
            for site in self._sites(kind, None)
            for index in (self.activation[site] > max(tau1 * largest, 0.0)).nonzero()[:, 0].tolist()
        )

    def delta_prob(self, units: Sequence[Unit], *, substitute: bool = False) -> float:
        """ΔProb with `units` zeroed together at the last token; 0 with none."""
        return self.live.measure(Ablation(tuple(units), substitute=substitute)).delta_prob if units else 0.0

    def _sites(self, kind: SiteKind, layer: int | None) -> list[Site]:
        return [site for site in self.attribution if site.kind is kind and layer in (None, site.layer)]


def family_of(kind: SiteKind) -> Family:
    return Family.NEURON if kind is SiteKind.MLP_ACT else Family.FEATURE


def sites_of(subject: Subject, kinds: Sequence[SiteKind] | None = None) -> list[Site]:
    """The sites with dictionaries, and those of neurons, in the subject's layers; of some `kinds` or of all."""
    sites = [site for site in subject.library.sites if site.layer in subject.layers]
    sites += [Site(layer, SiteKind.MLP_ACT) for layer in subject.layers]
    return [site for site in sites if kinds is None or site.kind in kinds]


def watch_fact(subject: Subject, fact: Fact, kinds: Sequence[SiteKind] | None = None) -> Watched:
    """`fact` on the subject's model, read at its prompt's last token."""
    lm, library, sites = subject.lm, subject.library, sites_of(subject, kinds)
    question = lm.ask(fact.prompt, fact.answer)
    trace = record(lm, [question], [question.last], sites, slopes=True)
    pairs = {site: unit_attribution(library, site, trace) for site in sites}
    return Watched(
        trace,
        Live(lm, library, trace),
        {site: activation[0].cpu() for site, (activation, _worth) in pairs.items()},
        {site: worth[0].cpu() for site, (_activation, worth) in pairs.items()},
    )


def knowledge_neurons(subject: Subject, fact: Fact, count: int, on_progress: OnProgress) -> tuple[Unit, ...]:
    """The knowledge neurons of `fact`, at most `count`, those with the largest mean integrated gradient first."""
    maps = []
    for prompt in (fact.prompt, *fact.edit_prompts, *fact.paraphrases)[:PHRASINGS]:
        try:
            question = subject.lm.ask(prompt, fact.answer)
        except PromptError:
            continue
        on_progress("Integrating gradients", None)
        found = integrated_gradients(subject.lm, question, question.last)
        maps.append(torch.stack([found[Site(layer, SiteKind.MLP_ACT)].cpu() for layer in subject.layers]))
    whole = torch.stack(maps)  # (phrasings, layers, d_mlp)
    largest = whole.flatten(1).max(dim=1).values[:, None, None]
    shared = ((whole > THRESHOLD * largest) & (whole > 0)).float().mean(dim=0) >= SHARED
    mean = whole.mean(dim=0).masked_fill(~shared, 0.0)
    by_site = {Site(layer, SiteKind.MLP_ACT): mean[place] for place, layer in enumerate(subject.layers)}
    return strongest(by_site, count)
