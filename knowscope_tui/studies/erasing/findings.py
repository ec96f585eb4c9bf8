"""What erasing came to: each method at its own setting, at equal locality, and on all facts at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from knowscope_tui.core.edits import Method
from knowscope_tui.core.rings import RINGS
from knowscope_tui.core.studies import Cell, Estimate, Findings, PaperClaim, Plot, PlotKind, Row, Series, Table
from knowscope_tui.studies.erasing.edits import AUTO, NONE, OWN
from knowscope_tui.studies.statistics import decide, difference_interval, mean_interval

PAPER = {
    Method.POSITIONS.value: (0.8, 0.7, 0.7, 0.1),
    Method.NEURONS.value: (0.65, 0.25, 0.2, 0.3),
}
"""The paper's Rel, Gen, Loc and ΔPPL, on Gemma-2 with Gemma Scope."""

TITLES = {
    Method.POSITIONS.value: "FeatureEdit",
    Method.NEURONS.value: "neuron columns",
    Method.RANDOM.value: "random positions",
}

EQUAL_LOC = (0.99, 0.95, 0.9, 0.8)
"""Locality that methods are brought to, the mean over the three rings; at `DECIDING` a claim is decided."""

DECIDING, TIMES = 0.95, 2.0

FEATURES, NEURONS = Method.POSITIONS.value, Method.NEURONS.value


def findings(rows: Sequence[Row]) -> Findings:
    """Figures of facts that the injected model knew."""
    known = [row for row in rows if row["known"]]
    single = [row for row in known if not row["together"]]
    together = [row for row in known if row["together"]]
    return Findings(
        tables=tuple(table for table in (_own(single), _equal(single), _together(together)) if table.rows),
        plots=(_tradeoff(single), _bars(single)) if single else (),
        claims=tuple(_claims(single)),
        remarks=tuple(_remarks(rows)),
    )


# --- figures of rows ------------------------------------------------------------------------------------------------


def _number(row: Row, name: str) -> float:
    return float(str(row[name]))


def _rel(rows: Iterable[Row]) -> list[float]:
    return [_number(row, "erased") for row in rows]


def _gen(rows: Iterable[Row]) -> list[float]:
    """Of each fact the share of its paraphrases, known before, that are gone; NaN where none was known."""
    return [_share(row, "paraphrases_erased", "paraphrases") for row in rows]


def _ring(rows: Iterable[Row], ring: str) -> list[float]:
    return [_share(row, f"{ring}, kept", f"{ring}, asked") for row in rows]


def _loc(rows: Iterable[Row]) -> list[float]:
    """Of each fact the mean over the rings, so that the few near facts count as much as the many far ones."""
    rings = [_ring([row], ring)[0] for row in rows for ring in RINGS]
    each = [rings[start : start + len(RINGS)] for start in range(0, len(rings), len(RINGS))]
    return [_mean([value for value in own if value == value]) for own in each]


def _ppl(rows: Iterable[Row]) -> list[float]:
    return [_number(row, "delta_ppl") for row in rows]


def _weights(rows: Iterable[Row]) -> float | None:
    return mean_interval([_number(row, "positions") for row in rows]).value


def _share(row: Row, part: str, whole: str) -> float:
    return _number(row, part) / _number(row, whole) if row[whole] else float("nan")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _of(rows: Sequence[Row], method: str, setting: str) -> list[Row]:
    chosen = (AUTO, NONE) if setting == AUTO else (setting,)
    return [row for row in rows if row["method"] == method and row["setting"] in chosen]


def _settings(rows: Sequence[Row], method: str) -> list[str]:
    """The rungs of a method, from the one that changes least: `own` among them, what was looked for not."""
    found = {str(row["setting"]): _number(row, "strength") for row in rows if row["method"] == method}
    rungs = [setting for setting in found if setting not in (AUTO, NONE)]
    return sorted(rungs, key=lambda setting: found[setting] if method == NEURONS else -found[setting])


def strongest_within(rows: Sequence[Row], method: str, locality: float) -> list[Row]:
    """The rows of the rung with the highest mean Gen of those whose mean Loc is `locality` at least; no row where
    there is none. All facts are edited at the same rung."""
    best: list[Row] = []
    for setting in _settings(rows, method):
        own = _of(rows, method, setting)
        value = mean_interval(_loc(own)).value
        if value is not None and value >= locality and (not best or _mean_gen(own) > _mean_gen(best)):
            best = own
    return best


def _mean_gen(rows: Sequence[Row]) -> float:
    return mean_interval(_gen(rows)).value or 0.0


# --- tables ---------------------------------------------------------------------------------------------------------


def _line(name: str, rows: Sequence[Row], paper: str) -> tuple[Cell, ...]:
    rings = (mean_interval(_ring(rows, ring)) for ring in RINGS)
    return (
        name,
        mean_interval(_rel(rows)),
        mean_interval(_gen(rows)),
        mean_interval(_loc(rows)),
        *rings,
        mean_interval(_ppl(rows)),
        _weights(rows),
        paper,
    )


COLUMNS = ("method", "Rel", "Gen", "Loc", *RINGS, "ΔPPL", "weights zeroed", "paper: Rel, Gen, Loc, ΔPPL")


def _own(rows: Sequence[Row]) -> Table:
    lines = []
    for method in TITLES:
        for setting, word in ((OWN, "own setting"), (AUTO, "τ2 looked for")):
            own = _of(rows, method, setting)
            if own:
                paper = ", ".join(f"{figure:g}" for figure in PAPER.get(method, ())) if setting == OWN else ""
                lines.append(_line(f"{TITLES[method]}, {word}", own, paper or "–"))
    return Table(
        "one_by_one",
        "One fact at a time",
        COLUMNS,
        tuple(lines),
        note="Loc is the mean of the three rings. A fact for which no τ2 is within the limits is left unedited.",
    )


def _equal(rows: Sequence[Row]) -> Table:
    lines: list[tuple[Cell, ...]] = []
    for locality in EQUAL_LOC:
        for method in (FEATURES, NEURONS):
            own = strongest_within(rows, method, locality)
            setting = str(own[0]["setting"]) if own else "none"
            figures = (mean_interval(_loc(own)), mean_interval(_rel(own)), mean_interval(_gen(own)))
            lines.append((f"≥ {locality:g}", TITLES[method], setting, *figures, _weights(own)))
    return Table(
        "equal_locality",
        "Gen at equal locality",
        ("Loc asked", "method", "setting", "Loc", "Rel", "Gen", "weights zeroed"),
        tuple(lines) if rows else (),
        note="Each method is walked from weak to strong; the setting of the highest Gen that keeps this Loc is shown.",
    )


def _together(rows: Sequence[Row]) -> Table:
    lines: list[tuple[Cell, ...]] = []
    for method in dict.fromkeys(str(row["method"]) for row in rows):
        own = [row for row in rows if row["method"] == method]
        rings = [_counted(own[0], ring) for ring in RINGS]
        ppl, weights = Estimate(_number(own[0], "delta_ppl")), own[0]["positions"]
        lines.append((method, mean_interval(_rel(own)), mean_interval(_gen(own)), *rings, ppl, weights))
    at_once = len({row["fact"] for row in rows})
    return Table(
        "together",
        f"{at_once} facts at once",
        ("method", "Rel", "Gen", *RINGS, "ΔPPL", "weights changed"),
        tuple(lines),
    )


def _counted(row: Row, ring: str) -> Estimate:
    kept, asked = int(_number(row, f"{ring}, kept")), int(_number(row, f"{ring}, asked"))
    return mean_interval([1.0] * kept + [0.0] * (asked - kept))


# --- plots and claims -----------------------------------------------------------------------------------------------


def _tradeoff(rows: Sequence[Row]) -> Plot:
    series = []
    for method, title in TITLES.items():
        points = [(_loc(own), _gen(own)) for setting in _settings(rows, method) if (own := _of(rows, method, setting))]
        found = [(mean_interval(loc).value, mean_interval(gen)) for loc, gen in points]
        whole = [(loc, gen) for loc, gen in found if loc is not None and gen.value is not None]
        series.append(
            Series(
                title,
                tuple(loc for loc, _gen in whole),
                tuple(gen.value or 0.0 for _loc, gen in whole),
                tuple(gen.value or 0.0 if gen.low is None else gen.low for _loc, gen in whole),
                tuple(gen.value or 0.0 if gen.high is None else gen.high for _loc, gen in whole),
            )
        )
    return Plot(
        "gen_against_loc", "What is erased against what is left", PlotKind.LINES, "Loc", "Gen",
        tuple(one for one in series if one.x),
    )  # fmt: skip


def _bars(rows: Sequence[Row]) -> Plot:
    figures = {"Rel": _rel, "Gen": _gen, "Loc": _loc}
    series = []
    for method, title in TITLES.items():
        own = _of(rows, method, OWN)
        found = [mean_interval(figure(own)) for figure in figures.values()]
        if own:
            series.append(
                Series(
                    title,
                    tuple(figures),
                    tuple(one.value or 0.0 for one in found),
                    tuple((one.value or 0.0) if one.low is None else one.low for one in found),
                    tuple((one.value or 0.0) if one.high is None else one.high for one in found),
                )
            )
    paper = [Series(f"paper: {TITLES[method]}", tuple(figures), PAPER[method][:3]) for method in PAPER]
    return Plot("own_setting", "Each method at its own setting", PlotKind.BARS, "figure", "share", (*series, *paper))


def _claims(rows: Sequence[Row]) -> list[PaperClaim]:
    features, neurons = _of(rows, FEATURES, OWN), _of(rows, NEURONS, OWN)
    if not features or not neurons:
        return []
    figures = {"Rel": _rel, "Gen": _gen, "Loc": _loc}
    made = []
    for place, (name, figure) in enumerate(figures.items()):
        left, right = _paired(features, neurons)
        difference = difference_interval(figure(left), figure(right), paired=True)
        paper = f"{PAPER[FEATURES][place]:g} against {PAPER[NEURONS][place]:g}"
        made.append(decide(f"{name}: FeatureEdit above neuron columns", paper, difference))
    left, right = _paired(neurons, features)
    more = difference_interval(_ppl(left), _ppl(right), paired=True)
    made.append(decide("ΔPPL: neuron columns above FeatureEdit", "0.3 against 0.1", more))
    left, right = _paired(strongest_within(rows, FEATURES, DECIDING), strongest_within(rows, NEURONS, DECIDING))
    twice = difference_interval(_gen(left), [TIMES * value for value in _gen(right)], paired=True)
    text = f"Gen of FeatureEdit less {TIMES:g} × that of neuron columns, both at Loc ≥ {DECIDING:g}"
    at_most = 1.0 - TIMES * (mean_interval(_gen(right)).value or 0.0)
    made.append(decide(text, "0.7 against 0.25", twice, most=at_most))
    return made


def _paired(left: Sequence[Row], right: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows of facts that both sides have, in the same order."""
    other = {row["fact"]: row for row in right}
    both = [row for row in left if row["fact"] in other]
    return both, [other[row["fact"]] for row in both]


def _remarks(rows: Sequence[Row]) -> Iterable[str]:
    facts = {str(row["fact"]): bool(row["known"]) for row in rows}
    unknown = sum(not known for known in facts.values())
    if unknown:
        yield f"Of {len(facts)} injected facts that were to be erased {unknown} had not been learned and count nowhere."
    if any(row["setting"] == NONE for row in rows):
        none = len({row["fact"] for row in rows if row["setting"] == NONE})
        yield f"For {none} of {len(facts)} facts no τ2 is within the limits."
