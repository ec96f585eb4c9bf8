"""Are a sparse autoencoder's features better units than the components of older decompositions?

All are fitted on, or read, the same activations (resid_post); components are ranked by the same rule (coefficient ×
direction · gradient of log P(answer), at the prompt's last token). The `TOP` of all layers are switched off together in
both ways: the reconstruction error passing through, and the activation replaced by what the other components rebuild.
How well a component is explained is scored for the strongest one of each fact, by the embedded lexical simulator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.readings import relative_drop
from knowscope_tui.core.studies import Findings, PaperClaim, Plot, PlotKind, Row, Series, StudyName, Table
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.ablate import at_tokens
from knowscope_tui.engine.answers import forward, probability
from knowscope_tui.engine.hooks import capture, intervene
from knowscope_tui.errors import UsageError
from knowscope_tui.studies.decompositions.directions import Decomposition, Directions, fitted
from knowscope_tui.studies.interpretability.contexts import Context, Shown, draw_contexts
from knowscope_tui.studies.interpretability.interpreter import LexicalInterpreter, Task
from knowscope_tui.studies.selection import Watched, watch_fact
from knowscope_tui.studies.statistics import decide, difference_interval, mean_interval, ratio_interval
from knowscope_tui.studies.study import Measure, Study, Subject, fact_keys, fact_of

KIND = SiteKind.RESID_POST
TOP = 10
SAE = "SAE"
METHODS = (SAE, *(how.value for how in Decomposition))

MOST_TOKENS = 12_000
"""Activations that are fitted on, and explained."""

BATCH_TOKENS = 4096

PAPER = {SAE: (0.78, 0.64), Decomposition.ICA.value: (0.60, 0.32)}
"""The paper's ΔProb and IS, on Gemma-2 9B; PCA and random directions lie lower still."""

CLEARLY = 1.3
"""How many times ICA's ΔProb the SAE's has to be: the paper's .78 / .60."""


@dataclass(frozen=True)
class Ground:
    """What all facts share: the sentences, what the stream holds on their tokens, and what was fitted to it."""

    subject: Subject
    contexts: Sequence[Context]
    activations: Mapping[Site, Tensor]
    """(tokens, d) in the order of the contexts."""
    directions: Mapping[Decomposition, Mapping[Site, Directions]]

    @cached_property
    def interpreter(self) -> LexicalInterpreter:
        return LexicalInterpreter(self.contexts)

    def simulation(self, method: str, site: Site, index: int, sign: float) -> float | None:
        """The interpretability score of one component, turned so that it is positive on its fact."""
        h = self.activations[site]
        if method == SAE:
            values = self.subject.library.at(site).encode_some(h, torch.tensor([index]))[:, 0]
        else:
            values = self.directions[Decomposition(method)][site].coefficients(h)[:, index]
        flat = (values * sign).cpu().numpy().astype(np.float32)
        ends = np.cumsum([len(context.tokens) for context in self.contexts])[:-1]
        shown = Shown(self.contexts, np.split(flat, ends))
        return self.interpreter.interpret(
            Task.of(f"{method} {site} {index}", shown, self.subject.options.seed)
        ).simulation


def prepare(subject: Subject, on_progress: OnProgress) -> Measure:
    """Fits everything once. Raises `UsageError` where no resid_post dictionary is open."""
    sites = [site for site in subject.library.sites if site.kind is KIND and site.layer in subject.layers]
    if not sites:
        raise UsageError(
            "This study compares resid_post features, and no dictionary of these is open.", "Name one with --sae."
        )
    contexts = few(draw_contexts(subject))
    activations = collected(subject, contexts, sites, on_progress)
    directions = {}
    for how in Decomposition:
        on_progress(f"Fitting {how.value}", None)
        directions[how] = fitted(how, activations, subject.options.seed, subject.cache)
    ground = Ground(subject, contexts, activations, directions)
    return lambda key, _on_progress: _measured(ground, fact_of(subject, key))


def few(contexts: Sequence[Context]) -> list[Context]:
    """The first contexts that hold `MOST_TOKENS` together."""
    kept: list[Context] = []
    tokens = 0
    for context in contexts:
        tokens += len(context.tokens)
        if tokens > MOST_TOKENS and kept:
            break
        kept.append(context)
    return kept


@torch.no_grad()
def collected(
    subject: Subject, contexts: Sequence[Context], sites: Sequence[Site], on_progress: OnProgress
) -> dict[Site, Tensor]:
    """The activations of every token of `contexts` but `<bos>`: site → (tokens, d), float32 on the host."""
    lm = subject.lm
    rows: dict[Site, list[Tensor]] = {site: [torch.empty(0)] * len(contexts) for site in sites}
    order = sorted(range(len(contexts)), key=lambda index: len(contexts[index].ids))
    done = 0
    while done < len(order):
        on_progress("Collecting activations", done / len(order))
        longest = len(contexts[order[min(done + 127, len(order) - 1)]].ids)
        batch = order[done : done + lm.rows_at_once(longest, max(1, min(128, BATCH_TOKENS // longest)))]
        with capture(lm.model, sites) as cache:
            lm.model(input_ids=lm.tensor([contexts[index].ids for index in batch]), use_cache=False)
        for site in sites:
            for place, index in enumerate(batch):
                length, words = len(contexts[index].ids), len(contexts[index].tokens)
                rows[site][index] = cache[site][place, length - words : length].to("cpu", torch.float32)
        done += len(batch)
    return {site: torch.cat(own) for site, own in rows.items()}


def _measured(ground: Ground, fact: Fact) -> list[Row]:
    watched = watch_fact(ground.subject, fact, (KIND,))
    units = watched.top(KIND, TOP)
    made = [
        _row(
            ground,
            fact,
            SAE,
            [(unit.site, unit.index) for unit in units],
            1.0,
            (watched.delta_prob(units), watched.delta_prob(units, substitute=True), watched.delta_prob(units[:1])),
        )
    ]
    for how in Decomposition:
        chosen, sign = _strongest(watched, ground.directions[how])
        drops = (
            _drop(ground, watched, how, chosen, substitute=False),
            _drop(ground, watched, how, chosen, substitute=True),
            _drop(ground, watched, how, chosen[:1], substitute=False),
        )
        made.append(_row(ground, fact, how.value, chosen, sign, drops))
    return made


def _strongest(watched: Watched, directions: Mapping[Site, Directions]) -> tuple[list[tuple[Site, int]], float]:
    """The `TOP` components with the largest positive attribution, and the sign of the first one's coefficient."""
    worth: list[tuple[float, Site, int, float]] = []
    for site, own in directions.items():
        c = own.coefficients(watched.trace.activations[site][0])  # (n,)
        slope = watched.trace.slopes[site][0].to(torch.float32)
        attribution = c * (own.write.to(c.device) @ slope)
        best = attribution.topk(min(TOP, len(attribution)))
        for value, index in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            if value > 0:
                worth.append((value, site, index, float(c[index])))
    worth.sort(key=lambda one: (-one[0], one[1], one[2]))
    first = worth[0][3] if worth else 1.0
    return [(site, index) for _value, site, index, _c in worth[:TOP]], 1.0 if first >= 0 else -1.0


def _drop(
    ground: Ground, watched: Watched, how: Decomposition, chosen: Sequence[tuple[Site, int]], *, substitute: bool
) -> float:
    """ΔProb with the `chosen` components off at the last token; 0 with none."""
    if not chosen:
        return 0.0
    lm, question = ground.subject.lm, watched.trace.questions[0]
    reached = slice(question.last, question.last + 1)
    changes = {}
    for site in dict.fromkeys(site for site, _index in chosen):
        indices = torch.tensor([index for at, index in chosen if at == site])
        changes[site] = at_tokens(reached, ground.directions[how][site].off(indices, substitute=substitute))
    with intervene(lm.model, changes):
        after = probability(forward(lm, question), question)
    return relative_drop(watched.p_answer, after)


def _row(
    ground: Ground,
    fact: Fact,
    method: str,
    chosen: Sequence[tuple[Site, int]],
    sign: float,
    drops: tuple[float, float, float],
) -> Row:
    return {
        "fact": fact.id,
        "method": method,
        "components": len(chosen),
        "strongest": f"{chosen[0][0]} {chosen[0][1]}" if chosen else "",
        "delta_prob": drops[0],
        "delta_prob_substituted": drops[1],
        "delta_prob_strongest": drops[2],
        "simulation": ground.simulation(method, *chosen[0], sign) if chosen else None,
    }


# --- findings -------------------------------------------------------------------------------------------------------


def findings(rows: Sequence[Row]) -> Findings:
    """ΔProb and IS of each decomposition, and the paper's ordering."""
    if not rows:
        return Findings()
    return Findings(
        tables=(_table(rows),),
        plots=(_plot(rows),),
        claims=tuple(_claims(rows)),
        remarks=(
            "IS is the embedded lexical simulator's, of each fact's strongest component: compare methods with one "
            "another, not these scores with the paper's.",
            "A component of PCA, ICA or random directions is always active, with either sign; it is switched off by "
            "taking its coefficient to the mean of what it was fitted on, and read with the sign it has on the fact.",
        ),
    )


def _values(rows: Sequence[Row], method: str, name: str) -> list[float]:
    """One value a fact, in the order of the facts; NaN where there is none."""
    own = [row[name] for row in rows if row["method"] == method]
    return [float(value) if isinstance(value, int | float) else math.nan for value in own]


def _table(rows: Sequence[Row]) -> Table:
    return Table(
        "decompositions",
        f"The {TOP} strongest components switched off together",
        (
            "method",
            "ΔProb, the strongest alone",
            f"ΔProb, {TOP}, error kept",
            f"ΔProb, {TOP}, substituted",
            "IS, lexical",
            "paper's ΔProb",
            "paper's IS",
        ),
        tuple(
            (
                method,
                mean_interval(_values(rows, method, "delta_prob_strongest")),
                mean_interval(_values(rows, method, "delta_prob")),
                mean_interval(_values(rows, method, "delta_prob_substituted")),
                mean_interval(_values(rows, method, "simulation")),
                *PAPER.get(method, (None, None)),
            )
            for method in METHODS
        ),
        note="Substituting, an incomplete dictionary also loses what it does not rebuild; a complete basis loses none.",
    )


def _plot(rows: Sequence[Row]) -> Plot:
    series = []
    for title, name in (
        ("the strongest alone", "delta_prob_strongest"),
        (f"{TOP}, error kept", "delta_prob"),
        (f"{TOP}, substituted", "delta_prob_substituted"),
    ):
        found = [mean_interval(_values(rows, method, name)) for method in METHODS]
        series.append(
            Series(
                title,
                METHODS,
                tuple(one.value or 0.0 for one in found),
                tuple((one.value or 0.0) if one.low is None else one.low for one in found),
                tuple((one.value or 0.0) if one.high is None else one.high for one in found),
            )
        )
    series.append(Series("paper", tuple(PAPER), tuple(delta_prob for delta_prob, _score in PAPER.values())))
    return Plot("decompositions", f"ΔProb of the {TOP} strongest", PlotKind.BARS, "method", "ΔProb", tuple(series))


def _claims(rows: Sequence[Row]) -> list[PaperClaim]:
    drop = {method: _values(rows, method, "delta_prob") for method in METHODS}
    ica, pca, chance = (how.value for how in (Decomposition.ICA, Decomposition.PCA, Decomposition.RANDOM))
    alone = {method: _values(rows, method, "delta_prob_strongest") for method in METHODS}
    score = {method: _values(rows, method, "simulation") for method in METHODS}
    reachable = (_most(drop[ica]), _most(alone[ica]), math.inf, math.inf, math.inf)
    compared = (
        (
            f"ΔProb of {TOP}: SAE at least {CLEARLY:g} × ICA",
            ".78 against .60",
            ratio_interval(drop[SAE], drop[ica]),
            CLEARLY,
        ),
        (f"ΔProb of one: SAE at least {CLEARLY:g} × ICA", "–", ratio_interval(alone[SAE], alone[ica]), CLEARLY),
        (f"ΔProb of {TOP}: ICA above PCA", "lower still", difference_interval(drop[ica], drop[pca], paired=True), 0.0),
        (
            f"ΔProb of {TOP}: PCA above random directions",
            "lower still",
            difference_interval(drop[pca], drop[chance], paired=True),
            0.0,
        ),
        ("IS: SAE above ICA", ".64 against .32", difference_interval(score[SAE], score[ica], paired=True), 0.0),
    )
    return [decide(*one, most=most) for one, most in zip(compared, reachable, strict=True)]


def _most(denominator: Sequence[float]) -> float:
    """The largest ratio to `denominator` that a ΔProb, which is at most 1, can have."""
    mean = mean_interval(denominator).value
    return 1.0 / mean if mean else math.inf


STUDY = Study(
    name=StudyName.DECOMPOSITIONS,
    keys=fact_keys,
    prepare=prepare,
    findings=findings,
)
