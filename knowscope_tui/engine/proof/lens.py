"""The leak test that looks inside: the answer's rank at every layer, read off the residual stream.

The logit lens (nostalgebraist 2020) puts the final norm and the unembedding behind a layer's `resid_post`. After the
last layer it gives the model's own logits. An answer leaks where its first token is the top token behind any layer.
Other answers may begin with the same token, so the lens can cry wolf.
"""

from __future__ import annotations

from collections.abc import Sequence

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.proof import Leak
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.methods.forward import head
from knowscope_tui.engine.methods.states import at_last
from knowscope_tui.engine.model import LanguageModel


def lens_ranks(lm: LanguageModel, facts: Sequence[Fact]) -> list[tuple[int, ...]]:
    """Of each fact the rank, from 1, of the answer's first token behind every layer, from the lowest."""
    if not facts:
        return []
    questions = [lm.ask(fact.prompt, fact.answer) for fact in facts]
    sites = [Site(layer, SiteKind.RESID_POST) for layer in range(lm.n_layers)]
    states = at_last(lm, questions, sites)
    by_layer = []
    for site in sites:
        logits = head(lm, states[site])  # (facts, vocabulary)
        own = logits[range(len(facts)), [question.answer_ids[0] for question in questions]]
        by_layer.append(((logits > own[:, None]).sum(dim=1) + 1).tolist())
    return list(zip(*by_layer, strict=True))


def lens_leaks(lm: LanguageModel, facts: Sequence[Fact], before: Sequence[tuple[int, ...]]) -> tuple[list[Leak], str]:
    """What the lens shows of each fact after the edit, and what was looked for."""
    leaks = []
    for fact, was, ranks in zip(facts, before, lens_ranks(lm, facts), strict=True):
        tops = sum(rank == 1 for rank in ranks)
        tried = len(ranks) if 1 in was else 0
        best = min(ranks)
        detail = f"best rank {best:,} behind layer {ranks.index(best)}, before {min(was):,}"
        leaks.append(Leak(fact, tried, tops, bool(tried and tops), detail))
    return leaks, "The answer's first token as the top token behind any layer."
