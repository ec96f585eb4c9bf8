"""Which part of the model carries a fact: features of attention, of the MLP and of the stream behind it, or neurons.

The headline counts the same for all kinds: the `TOP` units by attribution are zeroed together, over all layers. Beside
it stands what the paper's own rule selects, F_a = {f > τ1 · max f}, whose size differs from kind to kind.
"""

from __future__ import annotations

from collections.abc import Sequence

from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.studies import Estimate, Findings, PaperClaim, Plot, PlotKind, Row, Series, StudyName, Table
from knowscope_tui.core.units import SiteKind, Unit
from knowscope_tui.studies.selection import Watched, knowledge_neurons, watch_fact
from knowscope_tui.studies.statistics import decide, difference_interval, mean_interval
from knowscope_tui.studies.study import Measure, Study, Subject, fact_keys, fact_of

TOP, TAU1 = 10, 0.3

ALL_LAYERS = -1
"""The layer of a row about all layers together."""

BY_COUNT, BY_RULE = f"top {TOP}", f"f > {TAU1:g} max f"

PAPER = {SiteKind.RESID_POST: 0.85, SiteKind.MLP_OUT: 0.75, SiteKind.ATTN_Z: 0.55, SiteKind.MLP_ACT: 0.45}
"""The paper's ΔProb, on Gemma-2 with Gemma Scope."""

TITLES = {
    SiteKind.RESID_POST: "post-MLP features",
    SiteKind.MLP_OUT: "MLP features",
    SiteKind.ATTN_Z: "post-attention features",
    SiteKind.MLP_ACT: "knowledge neurons",
    SiteKind.RESID_MID: "features before the MLP",
}

ORDER = (
    (SiteKind.RESID_POST, SiteKind.MLP_OUT),
    (SiteKind.RESID_POST, SiteKind.ATTN_Z),
    (SiteKind.MLP_OUT, SiteKind.ATTN_Z),
    (SiteKind.RESID_POST, SiteKind.MLP_ACT),
    (SiteKind.MLP_OUT, SiteKind.MLP_ACT),
    (SiteKind.ATTN_Z, SiteKind.MLP_ACT),
)
"""Pairs of which the paper finds the first to matter more."""


def prepare(subject: Subject, _on_progress: OnProgress) -> Measure:
    """Every fact stands by itself."""

    def measure(key: str, on_progress: OnProgress) -> list[Row]:
        fact = fact_of(subject, key)
        watched = watch_fact(subject, fact)
        rows: list[Row] = []
        for kind in watched.kinds:
            if kind is SiteKind.MLP_ACT:
                top = knowledge_neurons(subject, fact, TOP, on_progress)
            else:
                top = watched.top(kind, TOP)
                rows.append(_row(watched, fact.id, kind, BY_RULE, ALL_LAYERS, watched.selected(kind, TAU1), top))
            rows.append(_row(watched, fact.id, kind, BY_COUNT, ALL_LAYERS, top, top))
            for layer in subject.layers:
                rows.append(_row(watched, fact.id, kind, BY_COUNT, layer, watched.top(kind, TOP, layer), top))
        return rows

    return measure


def _row(
    watched: Watched, fact: str, kind: SiteKind, rule: str, layer: int, units: Sequence[Unit], top: Sequence[Unit]
) -> Row:
    """`units` zeroed together; `chosen` counts those of the top over all layers that lie in this one."""
    return {
        "fact": fact,
        "kind": kind.value,
        "rule": rule,
        "layer": layer,
        "units": len(units),
        "chosen": len(top) if layer == ALL_LAYERS else sum(unit.site.layer == layer for unit in top),
        "strongest": str(units[0]) if units else "",
        "p_answer": watched.p_answer,
        "delta_prob": watched.delta_prob(units),
    }


# --- findings -------------------------------------------------------------------------------------------------------


def findings(rows: Sequence[Row]) -> Findings:
    """ΔProb by kind, by kind and layer, where the units lie, and the paper's ordering."""
    kinds = [kind for kind in (*PAPER, SiteKind.RESID_MID) if any(row["kind"] == kind.value for row in rows)]
    if not kinds:
        return Findings()
    layers = sorted({int(str(row["layer"])) for row in rows} - {ALL_LAYERS})
    return Findings(
        tables=(_totals(rows, kinds), _by_layer(rows, kinds, layers)),
        plots=(_bars(rows, kinds), _lines(rows, kinds, layers), _places(rows, kinds, layers)),
        claims=tuple(_claims(rows, kinds)),
        remarks=(
            f"Neurons by layer are ranked by gradient × activation; over all layers they are knowledge neurons, at "
            f"most {TOP}, which integrated gradients select.",
        ),
    )


def _values(rows: Sequence[Row], kind: SiteKind, rule: str, layer: int, name: str = "delta_prob") -> list[float]:
    """One value a fact, in the order of the facts."""
    return [
        float(str(row[name]))
        for row in rows
        if row["kind"] == kind.value and row["rule"] == rule and row["layer"] == layer
    ]


def _totals(rows: Sequence[Row], kinds: Sequence[SiteKind]) -> Table:
    return Table(
        "delta_prob",
        "ΔProb when the units of one kind are switched off together",
        ("units", "site", f"ΔProb, {BY_COUNT}", "units zeroed", f"ΔProb, {BY_RULE}", "units zeroed ", "paper"),
        tuple(
            (
                TITLES[kind],
                kind.value,
                mean_interval(_values(rows, kind, BY_COUNT, ALL_LAYERS)),
                mean_interval(_values(rows, kind, BY_COUNT, ALL_LAYERS, "units")).value,
                mean_interval(_values(rows, kind, BY_RULE, ALL_LAYERS)),
                mean_interval(_values(rows, kind, BY_RULE, ALL_LAYERS, "units")).value,
                PAPER.get(kind),
            )
            for kind in kinds
        ),
        note="At the prompt's last token, the reconstruction error passing through.",
    )


def _by_layer(rows: Sequence[Row], kinds: Sequence[SiteKind], layers: Sequence[int]) -> Table:
    return Table(
        "by_layer",
        f"ΔProb when the {BY_COUNT} units of one layer are switched off together",
        ("units", *(f"layer {layer}" for layer in layers)),
        tuple(
            (TITLES[kind], *(mean_interval(_values(rows, kind, BY_COUNT, layer)) for layer in layers)) for kind in kinds
        ),
    )


def _bars(rows: Sequence[Row], kinds: Sequence[SiteKind]) -> Plot:
    ours = [mean_interval(_values(rows, kind, BY_COUNT, ALL_LAYERS)) for kind in kinds]
    known = [kind for kind in kinds if kind in PAPER]
    return Plot(
        "delta_prob",
        f"ΔProb of the {BY_COUNT} units",
        PlotKind.BARS,
        "kind",
        "ΔProb",
        (
            _series("ours", tuple(kind.value for kind in kinds), ours),
            Series("paper", tuple(kind.value for kind in known), tuple(PAPER[kind] for kind in known)),
        ),
    )


def _lines(rows: Sequence[Row], kinds: Sequence[SiteKind], layers: Sequence[int]) -> Plot:
    series = tuple(
        _series(
            kind.value, tuple(map(float, layers)), [mean_interval(_values(rows, kind, BY_COUNT, at)) for at in layers]
        )
        for kind in kinds
    )
    return Plot("by_layer", f"ΔProb of the {BY_COUNT} units of a layer", PlotKind.LINES, "layer", "ΔProb", series)


def _places(rows: Sequence[Row], kinds: Sequence[SiteKind], layers: Sequence[int]) -> Plot:
    series = tuple(
        _series(
            kind.value,
            tuple(map(float, layers)),
            [mean_interval(_values(rows, kind, BY_COUNT, layer, "chosen")) for layer in layers],
        )
        for kind in kinds
    )
    return Plot("places", f"Where the {BY_COUNT} units lie", PlotKind.LINES, "layer", "units", series)


def _series(name: str, x: tuple[float | str, ...], found: Sequence[Estimate]) -> Series:
    return Series(
        name,
        x,
        tuple(one.value or 0.0 for one in found),
        tuple((one.value or 0.0) if one.low is None else one.low for one in found),
        tuple((one.value or 0.0) if one.high is None else one.high for one in found),
    )


def _claims(rows: Sequence[Row], kinds: Sequence[SiteKind]) -> list[PaperClaim]:
    made = []
    for more, less in ORDER:
        if more in kinds and less in kinds:
            difference = difference_interval(
                _values(rows, more, BY_COUNT, ALL_LAYERS), _values(rows, less, BY_COUNT, ALL_LAYERS), paired=True
            )
            text = f"ΔProb: {TITLES[more]} above {TITLES[less]}"
            made.append(decide(text, f"{PAPER[more]:g} against {PAPER[less]:g}", difference))
    return made


STUDY = Study(
    name=StudyName.COMPONENTS,
    keys=fact_keys,
    prepare=prepare,
    findings=findings,
)
