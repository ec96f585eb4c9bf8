"""Measures the demo: what it knows, how good its dictionaries are, what ablating and editing do.

Every figure of `card.json` comes from a function here, so that a test can measure any part of it again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor

from knowscope_tui.core.edits import EditSpec, Method
from knowscope_tui.core.readings import Ablation, relative_drop
from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.demo.corpus import TaughtFact, reference_texts, sentence
from knowscope_tui.engine.attribution import strongest, unit_attribution
from knowscope_tui.engine.dictionary import Dictionary
from knowscope_tui.engine.journal import Journal
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.live import Live
from knowscope_tui.engine.methods.plan import plan_edit
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.proof.evaluate import Known, know, scores, take
from knowscope_tui.engine.selftest import measure
from knowscope_tui.engine.sweep import sweep
from knowscope_tui.engine.trace import record

COUNTS = (1, 5, 10)
"""How many of the strongest units are ablated together."""

EDITED_UNITS = 10
Json = dict[str, Any]
OnItem = Callable[[float], None]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _silent(_fraction: float) -> None:
    """Progress that nobody watches."""


def sample_facts(taught: Sequence[TaughtFact], count: int, seed: int = 0) -> list[TaughtFact]:
    """`count` facts drawn by seed, private ones as often as they occur."""
    return random.Random(seed).sample(list(taught), min(count, len(taught)))


def reporting_split(private: Sequence[TaughtFact]) -> list[TaughtFact]:
    """Every second private fact, in an order drawn by seed: what the card reports erasing on.

    Edit thresholds are tuned on the others.
    """
    return sample_facts(list(private)[1::2], len(private))


# --- what it knows --------------------------------------------------------------------------------------------------


def accuracy(lm: LanguageModel, taught: Iterable[TaughtFact]) -> Json:
    """Share right (greedy, whole answer) and mean P(answer), public and private, on seen and unseen phrasings."""
    taught = list(taught)
    table: Json = {}
    for group, private in (("public", False), ("private", True)):
        members = [fact for fact in taught if fact.private is private]
        table[group] = {
            "seen": _accuracy(lm, [(p, t.fact.answer) for t in members for p in t.seen]),
            "unseen": _accuracy(lm, [(p, t.fact.answer) for t in members for p in t.unseen]),
        }
    return table


def _accuracy(lm: LanguageModel, pairs: Sequence[tuple[str, str]]) -> Json:
    known: list[Known] = know(lm, [lm.ask(prompt, answer) for prompt, answer in pairs])
    return {
        "accuracy": _mean([float(fact.top) for fact in known]),
        "p": _mean([fact.p for fact in known]),
        "prompts": len(known),
    }


# --- dictionaries ---------------------------------------------------------------------------------------------------


def held_out_texts(taught: Sequence[TaughtFact]) -> list[str]:
    """Sentences that no dictionary was trained on: facts in their unseen phrasings, and other sentences."""
    told = [sentence(prompt, fact.fact.answer) for fact in taught for prompt in fact.unseen]
    return [*told, *reference_texts()]


def dictionary_quality(dictionary: Dictionary, activations: Tensor) -> Json:
    """FVE and L0 (see `selftest.measure`): activations (n_tokens, d_in), `<bos>` excluded."""
    l0, explained = measure(dictionary, activations)
    return {
        "site": str(dictionary.site),
        "d_sae": dictionary.d_sae,
        "fve": explained,
        "l0": l0,
    }


# --- ablating -------------------------------------------------------------------------------------------------------


def delta_prob(lm: LanguageModel, library: Library, taught: Sequence[TaughtFact], on_item: OnItem = _silent) -> Json:
    """Mean ΔProb when the top 1, 5 and 10 units by gradient attribution are zeroed together at the last token.

    For the features of each kind of site, over all its layers, and for neurons.
    """
    kinds = [*library.kinds, SiteKind.MLP_ACT]
    drops: dict[SiteKind, dict[int, list[float]]] = {kind: {count: [] for count in COUNTS} for kind in kinds}
    sites = [*library.sites, *(Site(layer, SiteKind.MLP_ACT) for layer in range(lm.n_layers))]
    for number, fact in enumerate(taught):
        on_item(number / len(taught))
        question = lm.ask(fact.fact.prompt, fact.fact.answer)
        trace = record(lm, [question], [question.last], sites, slopes=True)
        live = Live(lm, library, trace)
        for kind in kinds:
            attribution = {site: unit_attribution(library, site, trace)[1][0] for site in sites if site.kind is kind}
            ranked = strongest(attribution, max(COUNTS))
            for count in COUNTS:
                drops[kind][count].append(live.measure(Ablation(tuple(ranked[:count]))).delta_prob)
    return {kind.value: {str(count): _mean(values) for count, values in table.items()} for kind, table in drops.items()}


def best_single(
    lm: LanguageModel,
    library: Library,
    taught: Sequence[TaughtFact],
    kind: SiteKind = SiteKind.RESID_POST,
    on_item: OnItem = _silent,
) -> Json:
    """Exact ΔProb of the best single feature of `kind`, over all layers: its mean and its share above one half."""
    sites = [site for site in library.sites if site.kind is kind]
    best: list[float] = []
    for number, fact in enumerate(taught):
        on_item(number / len(taught))
        question = lm.ask(fact.fact.prompt, fact.fact.answer)
        trace = record(lm, [question], [question.last], sites)
        units = [
            Unit(site, Family.FEATURE, index)
            for site in sites
            for index in trace.encoded(library, site)[0].nonzero()[:, 0].tolist()
        ]
        after = sweep(lm, library, trace, units)
        best.append(max((relative_drop(trace.p_answer[0], p) for p in after), default=0.0))
    return {"site": kind.value, "delta_prob": _mean(best), "above_half": _mean([float(b > 0.5) for b in best])}


# --- erasing --------------------------------------------------------------------------------------------------------


def erasing(
    lm: LanguageModel,
    library: Library,
    edited: Sequence[TaughtFact],
    others: Sequence[TaughtFact],
    method: Method,
    site: SiteKind,
    on_item: OnItem = _silent,
) -> Json:
    """Mean scores of editing each of `edited` by itself with 10 units; locality on all of `others` but the fact."""
    journal = Journal(lm)
    rows = []
    zeroed = []
    for number, taught in enumerate(edited):
        on_item(number / len(edited))
        neighbors = [other.fact for other in others if other.fact != taught.fact]
        planned = plan_edit(lm, library, EditSpec((taught.fact,), method, site, EDITED_UNITS))
        before = take(lm, [taught.fact], neighbors, reference_texts())
        journal.apply(planned.changes)
        try:
            after = take(lm, [taught.fact], neighbors, reference_texts())
        finally:
            journal.undo()
        rows.append(scores(before, after))
        zeroed.append(float(planned.plan.positions))

    def mean(name: str) -> float | None:
        return _mean([value for row in rows if (value := getattr(row, name).value) is not None])

    return {
        "method": method.value,
        "site": site.value,
        "units": EDITED_UNITS,
        "facts": len(edited),
        "reliability": mean("reliability"),
        "generalization": mean("generalization"),
        "locality": mean("locality"),
        "delta_ppl": mean("delta_ppl"),
        "positions_zeroed": _mean(zeroed),
    }
