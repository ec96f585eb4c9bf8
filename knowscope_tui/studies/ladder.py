"""How fast an answer is lost, unit by unit: features and neurons, by attribution and by exact effect."""

from __future__ import annotations

from collections.abc import Sequence

from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.studies import Estimate, Findings, PaperClaim, Plot, PlotKind, Row, Series, StudyName, Table
from knowscope_tui.core.units import SiteKind, Unit
from knowscope_tui.engine.sweep import sweep
from knowscope_tui.errors import UsageError
from knowscope_tui.studies.selection import Watched, family_of, watch_fact
from knowscope_tui.studies.statistics import decide, difference_interval, mean_interval
from knowscope_tui.studies.study import Measure, Study, Subject, fact_keys, fact_of

STEPS = (*range(1, 11), 20, 50)

MEASURED_NEURONS = 150
"""Neurons whose exact effect is measured, the strongest by attribution: nearly all are active."""

ATTRIBUTION, EXACT = "attribution", "exact effect"
FEATURES, NEURONS = "features", "neurons"
KINDS = {FEATURES: SiteKind.RESID_POST, NEURONS: SiteKind.MLP_ACT}

PAPER = {1: (0.6, 0.2), 5: (0.8, 0.35), 10: (0.85, 0.4)}
"""The paper's ΔProb after so many post-MLP features, and after as many neurons."""


def prepare(subject: Subject, _on_progress: OnProgress) -> Measure:
    """Raises `UsageError` where no resid_post dictionary is open."""
    if SiteKind.RESID_POST not in subject.library.kinds:
        raise UsageError(
            "The ladder needs resid_post features, and no dictionary of these is open.", "Name one with --sae."
        )

    def measure(key: str, _on_progress: OnProgress) -> list[Row]:
        fact = fact_of(subject, key)
        watched = watch_fact(subject, fact, tuple(KINDS.values()))
        rows: list[Row] = []
        for name, kind in KINDS.items():
            for rank, units in (
                (ATTRIBUTION, watched.top(kind, max(STEPS))),
                (EXACT, by_effect(subject, watched, kind)),
            ):
                rows += [_row(watched, fact.id, name, rank, step, units) for step in STEPS]
        return rows

    return measure


def by_effect(subject: Subject, watched: Watched, kind: SiteKind) -> tuple[Unit, ...]:
    """Units of one kind by what zeroing each alone does to the answer, the largest ΔProb first: all active features,
    or the `MEASURED_NEURONS` strongest neurons."""
    if kind is SiteKind.MLP_ACT:
        units = list(watched.top(kind, MEASURED_NEURONS))
    else:
        units = [
            Unit(site, family_of(kind), index)
            for site, active in watched.activation.items()
            if site.kind is kind
            for index in active.nonzero()[:, 0].tolist()
        ]
    after = sweep(subject.lm, subject.library, watched.trace, units)
    order = sorted(range(len(units)), key=lambda place: (after[place], units[place]))
    return tuple(units[place] for place in order[: max(STEPS)])


def _row(watched: Watched, fact: str, name: str, rank: str, step: int, units: Sequence[Unit]) -> Row:
    off = units[:step]
    return {
        "fact": fact,
        "units": name,
        "ranked_by": rank,
        "step": step,
        "switched_off": len(off),
        "last": str(off[-1]) if off else "",
        "delta_prob": watched.delta_prob(off),
    }


# --- findings -------------------------------------------------------------------------------------------------------


def findings(rows: Sequence[Row]) -> Findings:
    """The ladders, side by side, and whether features lose the answer faster."""
    if not rows:
        return Findings()
    return Findings(tables=(_table(rows),), plots=(_plot(rows),), claims=tuple(_claims(rows)))


def _values(rows: Sequence[Row], name: str, rank: str, step: int) -> list[float]:
    return [
        float(str(row["delta_prob"]))
        for row in rows
        if row["units"] == name and row["ranked_by"] == rank and row["step"] == step
    ]


def _table(rows: Sequence[Row]) -> Table:
    ladders = [(name, rank) for name in KINDS for rank in (ATTRIBUTION, EXACT)]
    return Table(
        "ladder",
        "ΔProb after so many units, switched off together",
        ("units off", *(f"{name}, by {rank}" for name, rank in ladders), "paper: features", "paper: neurons"),
        tuple(
            (step, *(mean_interval(_values(rows, *ladder, step)) for ladder in ladders), *PAPER.get(step, (None, None)))
            for step in STEPS
        ),
        note=f"A fact with fewer active features has all of them off. Exact effects are of all active features, and of "
        f"the {MEASURED_NEURONS} strongest neurons by attribution.",
    )


def _plot(rows: Sequence[Row]) -> Plot:
    series = [
        _series(f"{name}, by {rank}", [mean_interval(_values(rows, name, rank, step)) for step in STEPS])
        for name in KINDS
        for rank in (ATTRIBUTION, EXACT)
    ]
    steps = tuple(map(float, PAPER))
    series.append(Series("paper: features", steps, tuple(features for features, _neurons in PAPER.values())))
    series.append(Series("paper: neurons", steps, tuple(neurons for _features, neurons in PAPER.values())))
    return Plot("ladder", "ΔProb unit by unit", PlotKind.LINES, "units switched off", "ΔProb", tuple(series))


def _series(name: str, found: Sequence[Estimate]) -> Series:
    return Series(
        name,
        tuple(map(float, STEPS)),
        tuple(one.value or 0.0 for one in found),
        tuple((one.value or 0.0) if one.low is None else one.low for one in found),
        tuple((one.value or 0.0) if one.high is None else one.high for one in found),
    )


def _claims(rows: Sequence[Row]) -> list[PaperClaim]:
    made = []
    for step, (features, neurons) in PAPER.items():
        for rank in (ATTRIBUTION, EXACT):
            of_features, of_neurons = (_values(rows, name, rank, step) for name in (FEATURES, NEURONS))
            text = f"{step} off, by {rank}: features above neurons"
            difference = difference_interval(of_features, of_neurons, paired=True)
            made.append(decide(text, f"{features:g} against {neurons:g}", difference))
    return made


STUDY = Study(
    name=StudyName.LADDER,
    keys=fact_keys,
    prepare=prepare,
    findings=findings,
)
