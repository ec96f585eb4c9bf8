"""Conflicts between edits, found before anything is applied: the same keys pulled to different answers.

A fact's key is what its neurons show at the reading position: a / r of every layer's `mlp_act`, summed over prompt and
edit prompts, each layer scaled to length one. An edit of `down_proj` acts through these keys alone, so two facts with
nearly the same key cannot be given different answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from knowscope_tui.core.edits import Conflict
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.methods.evidence import normed, phrasings, questions_about
from knowscope_tui.engine.methods.states import at_last
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.sites import layer_device

ALIKE = 0.98
"""Cosine from which on two keys count as the same. Of 19,900 pairs of the demo's facts one reaches it."""


def conflicts(
    lm: LanguageModel, facts: Sequence[Fact], applied: Sequence[tuple[int, Sequence[Fact]]] = ()
) -> tuple[Conflict, ...]:
    """Every pair of facts, one of `facts` and one of these or of the `applied` edits, that is in each other's way.

    `applied` are the edits in force, by number. Facts that are all to be erased are in nobody's way. Most alike first.
    """
    others = [(fact, number) for number, group in applied for fact in group]
    if len({fact.target_new.strip() for fact in (*facts, *(fact for fact, _number in others))}) < 2:
        return ()
    own_keys = _keys(lm, facts)
    other_keys = _keys(lm, [fact for fact, _number in others]) if others else own_keys[:0]
    found = []
    for index, fact in enumerate(facts):
        rivals = [
            *((other, None, own_keys[index + 1 + place]) for place, other in enumerate(facts[index + 1 :])),
            *((other, number, other_keys[place]) for place, (other, number) in enumerate(others)),
        ]
        for other, number, key in rivals:
            if other.target_new.strip() == fact.target_new.strip():
                continue
            same_prompt = bool(set(phrasings(fact)) & set(phrasings(other)))
            similarity = 1.0 if same_prompt else float(own_keys[index] @ key)
            if similarity >= ALIKE:
                found.append(Conflict(fact, other, min(similarity, 1.0), number))
    return tuple(sorted(found, key=lambda conflict: -conflict.similarity))


def _keys(lm: LanguageModel, facts: Sequence[Fact]) -> Tensor:
    """A key for each fact, of length one: (facts, layers · d_mlp), float32, on the CPU."""
    sites = [Site(layer, SiteKind.MLP_ACT) for layer in range(lm.n_layers)]
    acts = at_last(lm, questions_about(lm, facts), sites)
    owners = torch.tensor([number for number, fact in enumerate(facts) for _ in phrasings(fact)])
    parts = []
    for site in sites:
        a = normed(lm, site.layer, acts[site].to(layer_device(lm.model, site.layer))).cpu()
        summed = torch.zeros(len(facts), a.shape[1]).index_add_(0, owners, a)
        parts.append(torch.nn.functional.normalize(summed, dim=1))
    keys: Tensor = torch.cat(parts, dim=1) / len(sites) ** 0.5
    return keys
