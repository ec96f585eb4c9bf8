"""Whether the unit that carries a fact stands for it: how strongly it fires on inputs about the fact and on others.

A fact's units are those of strongest gradient × activation at its prompt: a feature of the stream behind the layers (or
of whatever site has dictionaries) and a neuron. Inputs come in sets of ten, of which 0, 10, …
100 % are related: the same fact in another phrasing. The prompt on which the unit was chosen is not among them. The
others are about another subject and another relation. Beside these stand the near ones, about one of the two.

An activation is read at an input's last token, over the largest that the unit shows on any input; a neuron that works
by being negative is turned round.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.rings import SAME_RELATION, SAME_SUBJECT, UNRELATED, ring_of
from knowscope_tui.core.studies import Estimate, Findings, PaperClaim, Plot, PlotKind, Row, Series, StudyName, Table
from knowscope_tui.core.units import Family, SiteKind, Unit
from knowscope_tui.engine.methods.states import at_last
from knowscope_tui.errors import UsageError
from knowscope_tui.studies.selection import watch_fact
from knowscope_tui.studies.statistics import (
    bimodality,
    decide,
    difference_interval,
    effect_size,
    mann_whitney,
    mean_interval,
    welch,
)
from knowscope_tui.studies.study import Measure, Study, Subject, fact_of

SET = 10
"""Inputs of one set."""

SHARES = tuple(range(0, 101, 10))
NO_SHARE = -1
"""In place of a share: an input that is in no set, about the fact's subject or relation alone."""

OTHERS, NEAR = 40, 20
"""Distinct unrelated inputs that sets are drawn from, and near ones of either ring."""

FEWEST_PHRASINGS = 2
"""Phrasings beside the prompt, without which nothing can be compared."""

RELATED = "related"
LARGE, LEVEL = 0.8, 0.001
"""What the paper calls a large effect, and its level."""

MOST_D = 10.0
"""A d beyond it counts as this much: a unit that is silent elsewhere has hardly any spread to divide by."""


def _others_of(fact: Fact) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*fact.edit_prompts, *fact.paraphrases)))


def keys(subject: Subject) -> list[str]:
    """An item for each fact with phrasings enough."""
    width = len(str(max(len(subject.facts) - 1, 0)))
    return [
        f"{number:0{width}d}:{fact.id}"
        for number, fact in enumerate(subject.facts)
        if len(_others_of(fact)) >= FEWEST_PHRASINGS
    ]


def prepare(subject: Subject, _on_progress: OnProgress) -> Measure:
    """Every fact stands by itself. Raises `UsageError` where no fact is unrelated to another."""
    kind = next((one for one in _ORDER if one in subject.library.kinds), None)
    if kind is None:
        raise UsageError("There is no dictionary, so that no feature can be compared.", "Open one with --sae.")

    def measure(key: str, _on_progress: OnProgress) -> list[Row]:
        return list(_rows(subject, fact_of(subject, key), kind))

    return measure


_ORDER = (SiteKind.RESID_POST, SiteKind.MLP_OUT, SiteKind.ATTN_Z, SiteKind.RESID_MID)


def _rows(subject: Subject, fact: Fact, kind: SiteKind) -> Iterator[Row]:
    rng = random.Random(f"{subject.options.seed} {fact.id} {fact.prompt}")
    inputs = _inputs(subject, fact, rng)
    if not inputs[RELATED] or not inputs[UNRELATED]:
        return
    watched = watch_fact(subject, fact, (kind, SiteKind.MLP_ACT))
    for unit in (*watched.top(kind, 1), *watched.top(SiteKind.MLP_ACT, 1)):
        shown = _activations(subject, unit, [fact.prompt, *(text for own in inputs.values() for text in own)])
        sign = -1.0 if shown[fact.prompt] < 0 else 1.0
        largest = max(abs(value) for value in shown.values()) or 1.0
        for share, group, text in _drawn(inputs, rng):
            yield {
                "fact": fact.id,
                "unit": str(unit),
                "family": unit.family.plural,
                "share": share,
                "group": group,
                "input": list(shown).index(text),
                "activation": sign * shown[text] / largest,
            }


def _inputs(subject: Subject, fact: Fact, rng: random.Random) -> dict[str, list[str]]:
    """Group → distinct prompts."""
    found: dict[str, list[str]] = {SAME_SUBJECT: [], SAME_RELATION: [], UNRELATED: []}
    for other in subject.facts:
        if (other.prompt, other.answer) != (fact.prompt, fact.answer):
            found[ring_of(other, [fact])].append(rng.choice((other.prompt, *_others_of(other))))
    most = {UNRELATED: OTHERS, SAME_SUBJECT: NEAR, SAME_RELATION: NEAR}
    drawn = {ring: rng.sample(own, min(len(own), most[ring])) for ring, own in found.items()}
    return {RELATED: list(_others_of(fact))[:SET], **drawn}


def _activations(subject: Subject, unit: Unit, prompts: Sequence[str]) -> dict[str, float]:
    """What `unit` shows at the last token of each prompt."""
    distinct = list(dict.fromkeys(prompts))
    state = at_last(subject.lm, [subject.lm.leave_open(prompt) for prompt in distinct], [unit.site])[unit.site]
    if unit.family is Family.FEATURE:
        dictionary = subject.library.at(unit.site)
        state = dictionary.encode(state.to(subject.lm.device))
    return dict(zip(distinct, state[:, unit.index].tolist(), strict=True))


def _drawn(inputs: Mapping[str, Sequence[str]], rng: random.Random) -> Iterator[tuple[int, str, str]]:
    """Share, group and prompt of every input of every set, and then the near ones."""
    for share in SHARES:
        related = share * SET // 100
        for group, count in ((RELATED, related), (UNRELATED, SET - related)):
            pool = inputs[group]
            order = rng.sample(pool, len(pool))
            for number in range(count):
                yield share, group, order[number % len(order)]
    for ring in (SAME_SUBJECT, SAME_RELATION):
        for text in inputs[ring]:
            yield NO_SHARE, ring, text


# --- findings -------------------------------------------------------------------------------------------------------


FAMILIES = (Family.FEATURE.plural, Family.NEURON.plural)


def findings(rows: Sequence[Row]) -> Findings:
    """Effect sizes by fact, and their means over the facts; distinct inputs count once."""
    by_unit = _by_unit(rows)
    if not by_unit:
        return Findings()
    figures = {family: [_Figures(own) for (_fact, one), own in by_unit.items() if one == family] for family in FAMILIES}
    return Findings(
        tables=(_effects(figures), _shares(rows)),
        plots=(_means(rows), *(_histogram(rows, family) for family in FAMILIES), _points(figures)),
        claims=tuple(_claims(by_unit)),
        remarks=(
            "A fact's d compares its distinct inputs, and intervals are over facts. With few phrasings a fact's p "
            f"cannot be small, whatever its d. A d beyond {MOST_D:g} counts as {MOST_D:g}: a unit that is silent "
            "elsewhere has hardly any spread to divide by.",
        ),
    )


def _by_unit(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Fact and family → the rows of its distinct inputs."""
    found: dict[tuple[str, str], dict[int, Row]] = {}
    for row in rows:
        own = found.setdefault((str(row["key"]), str(row["family"])), {})
        own.setdefault(int(str(row["input"])), row)
    return {name: list(own.values()) for name, own in found.items()}


class _Figures:
    """What is worked out of one fact's unit."""

    def __init__(self, rows: Sequence[Row]) -> None:
        related, others = _values(rows, RELATED), _values(rows, UNRELATED)
        self.unit = str(rows[0]["unit"])
        self.d = _capped(related, others)
        self.near = {ring: _capped(related, _values(rows, ring)) for ring in (SAME_SUBJECT, SAME_RELATION)}
        self.welch, self.mann_whitney = welch(related, others), mann_whitney(related, others)
        self.bimodality = bimodality([*related, *others])
        self.related, self.others = sum(related) / len(related), sum(others) / len(others)

    @property
    def below_level(self) -> float:
        """1 where both tests are below the level."""
        return float(self.welch < LEVEL and self.mann_whitney < LEVEL)


def _capped(related: Sequence[float], others: Sequence[float]) -> float:
    value = effect_size(related, others)
    return value if math.isnan(value) else max(-MOST_D, min(value, MOST_D))


def _values(rows: Sequence[Row], group: str) -> list[float]:
    return [float(str(row["activation"])) for row in rows if row["group"] == group]


def _effects(figures: Mapping[str, Sequence[_Figures]]) -> Table:
    return Table(
        "effects",
        "How far related inputs are from others",
        (
            "units", "activation, related", "activation, unrelated", "Cohen's d", "d from the same subject",
            "d from the same relation", f"facts with p < {LEVEL:g} in both tests", "bimodality",
        ),
        tuple(
            (
                family,
                mean_interval([one.related for one in own]),
                mean_interval([one.others for one in own]),
                mean_interval([one.d for one in own]),
                *(mean_interval([one.near[ring] for one in own]) for ring in (SAME_SUBJECT, SAME_RELATION)),
                mean_interval([one.below_level for one in own]),
                mean_interval([one.bimodality for one in own]),
            )
            for family, own in figures.items()
        ),
        note="Means over facts. Bimodality is Sarle's coefficient; above .555 suggests two modes.",
    )  # fmt: skip


def _at_share(rows: Sequence[Row], family: str, share: int) -> list[float]:
    """Of each fact the mean activation over the set of this share."""
    by_fact: dict[str, list[float]] = {}
    for row in rows:
        if row["family"] == family and row["share"] == share:
            by_fact.setdefault(str(row["key"]), []).append(float(str(row["activation"])))
    return [sum(own) / len(own) for own in by_fact.values()]


def _shares(rows: Sequence[Row]) -> Table:
    return Table(
        "shares",
        "Mean activation by the share of related inputs",
        ("related, %", *FAMILIES),
        tuple((share, *(mean_interval(_at_share(rows, family, share)) for family in FAMILIES)) for share in SHARES),
    )


def _means(rows: Sequence[Row]) -> Plot:
    series = []
    for family in FAMILIES:
        found = [mean_interval(_at_share(rows, family, share)) for share in SHARES]
        series.append(
            Series(
                family,
                tuple(map(float, SHARES)),
                tuple(one.value or 0.0 for one in found),
                tuple((one.value or 0.0) if one.low is None else one.low for one in found),
                tuple((one.value or 0.0) if one.high is None else one.high for one in found),
            )
        )
    return Plot(
        "shares", "Activation by the share of related inputs", PlotKind.LINES, "related, %", "activation", tuple(series)
    )


def _histogram(rows: Sequence[Row], family: str) -> Plot:
    """Distinct inputs of all facts, each over the largest of its unit."""
    own = [row for (_fact, one), found in _by_unit(rows).items() if one == family for row in found]
    series = tuple(Series(group, (), tuple(_values(own, group))) for group in (RELATED, UNRELATED))
    return Plot(
        f"activations_{family}", f"Activations of {family}", PlotKind.HISTOGRAM, "activation", "share of inputs", series
    )


def _points(figures: Mapping[str, Sequence[_Figures]]) -> Plot:
    series = []
    for family, own in figures.items():
        ordered = sorted((one for one in own if one.d == one.d), key=lambda one: -one.d)
        ranks = tuple(float(rank) for rank in range(1, len(ordered) + 1))
        series.append(Series(family, ranks, tuple(one.d for one in ordered), units=tuple(one.unit for one in ordered)))
    return Plot("d", "Cohen's d of each fact's unit", PlotKind.POINTS, "fact, by rank", "d", tuple(series))


def _claims(by_unit: Mapping[tuple[str, str], Sequence[Row]]) -> Iterator[PaperClaim]:
    whole = {name: _Figures(own) for name, own in by_unit.items()}
    features, neurons = FAMILIES
    facts = [fact for fact, family in whole if family == features and (fact, neurons) in whole]
    d = {family: [whole[fact, family].d for fact in facts] for family in FAMILIES}
    yield decide(f"Features: d above {LARGE:g}", "d > .8, p < .001", mean_interval(d[features]), LARGE)
    level: Estimate = mean_interval([whole[fact, features].below_level for fact in facts])
    yield decide(f"Features: p < {LEVEL:g} for more than half of the facts", "p < .001", level, 0.5)
    difference = difference_interval(d[features], d[neurons], paired=True)
    yield decide("d: features above neurons", "less for neurons", difference)


STUDY = Study(
    name=StudyName.MONOSEMANTICITY,
    keys=keys,
    prepare=prepare,
    findings=findings,
    needs=f"facts that the model knows in {FEWEST_PHRASINGS} phrasings beside the prompt (edit_prompts, paraphrases)",
)
