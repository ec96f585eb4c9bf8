"""Does a unit fire for its fact alone? Activations on prompts about the fact, and on prompts about others.

Of each fact the feature (resid_post) and the neuron with the largest attribution are watched at the last token of the
fact's own phrasings (related) and of other facts' prompts (unrelated). An input is a handful of `SIZE` prompts of which
0, 10, … 100 % are related; a unit that means one thing shows the more, the more of them are. Activations are divided by
the unit's largest among all its prompts, with the sign that it has on the fact, so that units can be laid over one
another.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch

from knowscope_tui.core.facts import Fact, seeded
from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.studies import Findings, PaperClaim, Plot, PlotKind, Row, Series, StudyName, Table
from knowscope_tui.core.units import Family, SiteKind, Unit
from knowscope_tui.engine.hooks import capture
from knowscope_tui.errors import PromptError, UsageError
from knowscope_tui.studies.selection import watch_fact
from knowscope_tui.studies.statistics import (
    bimodality,
    cohens_d,
    decide,
    difference_interval,
    mann_whitney,
    mean_interval,
    welch,
)
from knowscope_tui.studies.study import Measure, Study, Subject, fact_keys, fact_of

KINDS = {"features": SiteKind.RESID_POST, "neurons": SiteKind.MLP_ACT}

UNRELATED = 30
"""Other facts whose prompts are asked, by a draw of the fact's own."""

SIZE = 10
SHARES = tuple(range(SIZE + 1))
"""Related prompts of an input."""

LARGE = 0.8
"""Cohen's word for a large d, which the paper's features exceed."""

MOST_VALUES = 1500
"""Activations of a sort that an interval is worked out of, by a seeded draw."""


def prepare(subject: Subject, _on_progress: OnProgress) -> Measure:
    """Raises `UsageError` where no resid_post dictionary is open."""
    if SiteKind.RESID_POST not in subject.library.kinds:
        raise UsageError(
            "This study watches resid_post features, and no dictionary of these is open.", "Name one with --sae."
        )

    def measure(key: str, _on_progress: OnProgress) -> list[Row]:
        fact = fact_of(subject, key)
        watched = watch_fact(subject, fact, tuple(KINDS.values()))
        units = {name: best[0] for name, kind in KINDS.items() if (best := watched.top(kind, 1))}
        prompts = _prompts(subject, fact)
        rows: list[Row] = []
        for name, unit in units.items():
            shown = _shown(subject, unit, [prompt for prompt, _related in prompts])
            largest = math.copysign(max(map(abs, shown)) or 1.0, shown[0])
            rows += [
                {
                    "fact": fact.id,
                    "units": name,
                    "unit": str(unit),
                    "related": related,
                    "activation": value,
                    "scaled": value / largest,
                }
                for value, (_prompt, related) in zip(shown, prompts, strict=True)
            ]
        return rows

    return measure


def _prompts(subject: Subject, fact: Fact) -> list[tuple[str, bool]]:
    """The fact's phrasings, and prompts of facts with another subject and another answer."""
    others = [
        other
        for other in subject.facts
        if other is not fact and other.answer != fact.answer and not (fact.subject and other.subject == fact.subject)
    ]
    rng = random.Random(seeded(fact, subject.options.seed))
    drawn = rng.sample(others, min(UNRELATED, len(others)))
    related = dict.fromkeys((fact.prompt, *fact.edit_prompts, *fact.paraphrases))
    pairs = [(prompt, True) for prompt in related] + [(other.prompt, False) for other in drawn]
    return [(prompt, sort) for prompt, sort in pairs if _fits(subject, prompt)]


def _fits(subject: Subject, prompt: str) -> bool:
    try:
        subject.lm.encode(prompt)
    except PromptError:
        return False
    return True


@torch.no_grad()
def _shown(subject: Subject, unit: Unit, prompts: Sequence[str]) -> list[float]:
    """What `unit` shows at the last token of each prompt."""
    lm = subject.lm
    ids = [lm.encode(prompt) for prompt in prompts]
    found: list[float] = []
    size = lm.rows_at_once(max(map(len, ids)), len(ids))
    for start in range(0, len(ids), size):
        batch = ids[start : start + size]
        with capture(lm.model, [unit.site]) as cache:
            lm.model(input_ids=lm.tensor(batch), use_cache=False)
        last = torch.stack([row[len(own) - 1] for row, own in zip(cache[unit.site], batch, strict=True)])
        if unit.family is Family.NEURON:
            found += last[:, unit.index].to(torch.float32).tolist()
        else:
            found += subject.library.at(unit.site).encode_some(last, torch.tensor([unit.index]))[:, 0].tolist()
    return found


# --- findings -------------------------------------------------------------------------------------------------------


def findings(rows: Sequence[Row]) -> Findings:
    """How far related and unrelated activations lie apart, for features and for neurons."""
    names = [name for name in KINDS if any(row["units"] == name for row in rows)]
    if not names:
        return Findings()
    return Findings(
        tables=(_table(rows, names),),
        plots=(_by_share(rows, names), *(_spread(rows, name) for name in names)),
        claims=tuple(_claims(rows, names)),
        remarks=(
            "Phrasings of one fact are no independent draws: the intervals of d are narrower than those of as many "
            "facts would be. That of the difference is over facts.",
        ),
    )


def _values(rows: Sequence[Row], name: str, related: bool) -> list[float]:
    return [float(str(row["scaled"])) for row in rows if row["units"] == name and row["related"] is related]


def _few(values: Sequence[float]) -> list[float]:
    return list(values) if len(values) <= MOST_VALUES else random.Random(0).sample(list(values), MOST_VALUES)


def _table(rows: Sequence[Row], names: Sequence[str]) -> Table:
    lines = []
    for name in names:
        related, unrelated = _values(rows, name, True), _values(rows, name, False)
        lines.append(
            (
                name,
                mean_interval(_few(related)),
                mean_interval(_few(unrelated)),
                cohens_d(_few(related), _few(unrelated)),
                welch(related, unrelated),
                mann_whitney(related, unrelated),
                bimodality([*related, *unrelated]),
            )
        )
    return Table(
        "monosemanticity",
        "Activations on prompts about the unit's fact, and about others",
        ("units", "related", "unrelated", "Cohen's d", "Welch p", "Mann-Whitney p", "bimodality"),
        tuple(lines),
        note="Activations over the unit's largest. Sarle's bimodality above .555 suggests two modes.",
    )


def _by_share(rows: Sequence[Row], names: Sequence[str]) -> Plot:
    """The mean activation over inputs of which so many prompts are related."""
    shares = tuple(100.0 * count / SIZE for count in SHARES)
    series = []
    for name in names:
        related = mean_interval(_few(_values(rows, name, True)))
        unrelated = mean_interval(_few(_values(rows, name, False)))
        series.append(
            Series(
                name,
                shares,
                _mixed(related.value, unrelated.value),
                _mixed(related.low, unrelated.low),
                _mixed(related.high, unrelated.high),
            )
        )
    return Plot(
        "shares", "Mean activation by the share of related prompts", PlotKind.LINES, "related prompts, %",
        "activation over the unit's largest", tuple(series),
    )  # fmt: skip


def _mixed(related: float | None, unrelated: float | None) -> tuple[float, ...]:
    """The mean over inputs with 0, 1, … `SIZE` related prompts."""
    return tuple((count * (related or 0.0) + (SIZE - count) * (unrelated or 0.0)) / SIZE for count in SHARES)


def _spread(rows: Sequence[Row], name: str) -> Plot:
    series = tuple(
        Series(title, (), tuple(_values(rows, name, related)))
        for title, related in (("related", True), ("unrelated", False))
    )
    return Plot(
        f"spread-{name}", f"Activations of {name}", PlotKind.HISTOGRAM, "activation over the unit's largest", "density",
        series,
    )  # fmt: skip


def _claims(rows: Sequence[Row], names: Sequence[str]) -> list[PaperClaim]:
    made = []
    if "features" in names:
        related, unrelated = _values(rows, "features", True), _values(rows, "features", False)
        d, p = cohens_d(_few(related), _few(unrelated)), welch(related, unrelated)
        sure = "p < .001" if p < 0.001 else f"p = {p:.3f}"
        made.append(decide(f"Features: Cohen's d above {LARGE:g} ({sure})", "d > .8, p < .001", d, LARGE))
    if set(names) >= set(KINDS):
        apart = {name: _apart(rows, name) for name in KINDS}
        both = [fact for fact in apart["features"] if fact in apart["neurons"]]
        difference = difference_interval(
            [apart["features"][fact] for fact in both], [apart["neurons"][fact] for fact in both], paired=True
        )
        made.append(decide("Related less unrelated: features above neurons", "less for neurons", difference))
    return made


def _apart(rows: Sequence[Row], name: str) -> dict[str, float]:
    """Of each fact the mean of its unit's related activations less that of the unrelated ones."""
    own: dict[str, dict[bool, list[float]]] = {}
    for row in rows:
        if row["units"] == name:
            sorts = own.setdefault(str(row["fact"]), {True: [], False: []})
            sorts[bool(row["related"])].append(float(str(row["scaled"])))
    return {
        fact: sum(sorts[True]) / len(sorts[True]) - sum(sorts[False]) / len(sorts[False])
        for fact, sorts in own.items()
        if sorts[True] and sorts[False]
    }


STUDY = Study(
    name=StudyName.MONOSEMANTICITY,
    title="Units that mean one thing",
    question="Does a unit fire for its fact alone, or for others as well?",
    keys=fact_keys,
    prepare=prepare,
    findings=findings,
)
