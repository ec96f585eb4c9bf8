"""The interpretability score (IS) of the units that carry facts, kind by kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.studies import Findings, PaperClaim, Plot, PlotKind, Row, Series, StudyName, Table
from knowscope_tui.core.units import SiteKind
from knowscope_tui.errors import UsageError
from knowscope_tui.studies.interpretability.contexts import Context, draw_contexts, watch
from knowscope_tui.studies.interpretability.interpreter import Interpretation, Interpreter, LexicalInterpreter, Task
from knowscope_tui.studies.interpretability.units import Acting, strongest_units
from knowscope_tui.studies.statistics import decide, difference_interval, mean_interval
from knowscope_tui.studies.study import Measure, Study, Subject, fact_keys

PAPER = {
    SiteKind.RESID_POST: ("post-MLP features", 0.6),
    SiteKind.MLP_OUT: ("MLP features", 0.6),
    SiteKind.ATTN_Z: ("post-attention features", 0.5),
    SiteKind.MLP_ACT: ("knowledge neurons", 0.15),
}
"""What the paper calls the units of each kind, and the IS it reports for them, on Gemma-2 with a language model."""

SCORES = ("simulation", "detection", "fuzzing")

LEXICAL = (
    "Explanations and scores are the embedded lexical simulator's, which knows tokens and no meanings: compare kinds "
    "of units with one another, not these scores with a language model's."
)
TURNED = "A unit is read with the sign that it has on its fact: a neuron that carries one by being negative is turned."
SHARED = (
    "Phrasings of one fact may lie in both halves of the sentences: scores say how well a unit's own words foretell it."
)


def prepare(subject: Subject, on_progress: OnProgress) -> Measure:
    """Watches the units of all facts on all sentences once."""
    contexts = draw_contexts(subject)
    units = strongest_units(subject, subject.facts, on_progress)
    every = list(dict.fromkeys(acting for own in units for acting in own.values()))
    shown = watch(subject.lm, subject.library, contexts, [acting.unit for acting in every], on_progress)
    tasks = {
        acting: Task.of(acting.unit, shown[acting.unit].turned(acting.sign), subject.options.seed) for acting in every
    }
    interpreter = _interpreter(subject, contexts, tasks, on_progress)
    known: dict[Acting, Interpretation] = {}

    def measure(key: str, _on_progress: OnProgress) -> list[Row]:
        number = int(key.partition(":")[0])
        rows: list[Row] = []
        for kind, acting in units[number].items():
            if acting not in known:
                known[acting] = interpreter.interpret(tasks[acting])
            rows.append(_row(subject.facts[number].id, kind, acting, interpreter.label, known[acting]))
        return rows

    return measure


def _interpreter(
    subject: Subject, contexts: Sequence[Context], tasks: Mapping[Acting, Task], on_progress: OnProgress
) -> Interpreter:
    options = subject.options
    if options.llm_url is None:
        return LexicalInterpreter(contexts)
    if not options.llm_model:
        raise UsageError("An endpoint was named and no model.", "Name the model with --llm-model.")
    # The client takes a second to import, and the embedded simulator needs none.
    from knowscope_tui.studies.interpretability.endpoint import EndpointInterpreter

    asked = EndpointInterpreter(options.llm_url, options.llm_model, subject.cache / "answers")
    on_progress(asked.expected(list(tasks.values())), None)
    return asked


def _row(fact: str, kind: SiteKind, acting: Acting, label: str, found: Interpretation) -> Row:
    return {
        "fact": fact,
        "kind": kind.value,
        "unit": str(acting.unit),
        "sign": acting.sign,
        "layer": acting.unit.site.layer,
        "explained_by": label,
        "explanation": found.explanation,
        "simulation": found.simulation,
        "detection": found.detection,
        "fuzzing": found.fuzzing,
    }


# --- findings -------------------------------------------------------------------------------------------------------


def findings(rows: Sequence[Row]) -> Findings:
    """IS, detection and fuzzing of each kind's distinct units; whether features are explained better than neurons."""
    units = list({(str(row["unit"]), row["sign"]): row for row in rows}.values())
    by_kind = {kind: [row for row in units if row["kind"] == kind.value] for kind in SiteKind}
    by_kind = {kind: own for kind, own in by_kind.items() if own}
    remarks = [SHARED, TURNED]
    if any(row["explained_by"] == LexicalInterpreter.label for row in rows):
        remarks.insert(0, LEXICAL)
    missing = sum(row["simulation"] is None for row in units)
    if missing:
        remarks.append(
            f"{missing} of {len(units)} units have no score: silent on the held-out sentences, or not answered."
        )
    return Findings(
        tables=(_table(by_kind), _examples(by_kind)),
        plots=(_bars(by_kind), _spread(by_kind)),
        claims=tuple(_claims(by_kind)),
        remarks=tuple(remarks),
    )


def scores_of(rows: Sequence[Row], score: str) -> list[float]:
    """The scores that are there."""
    return [float(value) for row in rows if isinstance(value := row[score], int | float)]


def _table(by_kind: dict[SiteKind, list[Row]]) -> Table:
    return Table(
        name="scores",
        title="How well the strongest units of each kind are explained",
        columns=("kind", "units", "IS (simulation)", "detection", "fuzzing", "paper's IS"),
        rows=tuple(
            (
                kind.value,
                len(own),
                *(mean_interval(scores_of(own, score)) for score in SCORES),
                PAPER[kind][1] if kind in PAPER else None,
            )
            for kind, own in by_kind.items()
        ),
        note="IS is the Pearson correlation of foretold and real activations on held-out sentences; detection and "
        "fuzzing are areas under the ROC curve, .5 is chance.",
    )


def _examples(by_kind: dict[SiteKind, list[Row]]) -> Table:
    """The best and the worst explained unit of each kind, and the one in the middle."""
    rows = []
    for kind, own in by_kind.items():
        ranked = sorted(
            (row for row in own if row["simulation"] is not None), key=lambda row: -float(row["simulation"] or 0)
        )
        places = dict.fromkeys((0, len(ranked) // 2, len(ranked) - 1)) if ranked else ()
        rows += [(kind.value, ranked[at]["unit"], ranked[at]["simulation"], ranked[at]["explanation"]) for at in places]
    return Table(
        "explanations", "Explanations: best, middling, worst", ("kind", "unit", "IS", "explanation"), tuple(rows)
    )


def _bars(by_kind: dict[SiteKind, list[Row]]) -> Plot:
    estimates = {kind: mean_interval(scores_of(own, "simulation")) for kind, own in by_kind.items()}
    kept = {kind: one for kind, one in estimates.items() if one.value is not None}
    ours = Series(
        "ours",
        tuple(kind.value for kind in kept),
        tuple(one.value or 0.0 for one in kept.values()),
        low=tuple(one.value or 0.0 if one.low is None else one.low for one in kept.values()),
        high=tuple(one.value or 0.0 if one.high is None else one.high for one in kept.values()),
    )
    paper = [kind for kind in kept if kind in PAPER]
    theirs = Series("paper", tuple(kind.value for kind in paper), tuple(PAPER[kind][1] for kind in paper))
    return Plot("scores", "Interpretability score by kind of unit", PlotKind.BARS, "kind", "IS", (ours, theirs))


def _spread(by_kind: dict[SiteKind, list[Row]]) -> Plot:
    series = []
    for kind, own in by_kind.items():
        there = [row for row in own if row["simulation"] is not None]
        values = tuple(scores_of(there, "simulation"))
        series.append(Series(kind.value, (), values, units=tuple(str(row["unit"]) for row in there)))
    return Plot("spread", "Interpretability scores of single units", PlotKind.HISTOGRAM, "IS", "units", tuple(series))


def _claims(by_kind: dict[SiteKind, list[Row]]) -> list[PaperClaim]:
    """Each kind of features against the neurons, and residual features against attention's."""
    pairs = [(kind, SiteKind.MLP_ACT) for kind in (SiteKind.RESID_POST, SiteKind.MLP_OUT, SiteKind.ATTN_Z)]
    pairs.append((SiteKind.RESID_POST, SiteKind.ATTN_Z))
    made = []
    for better, worse in pairs:
        if better in by_kind and worse in by_kind:
            difference = difference_interval(
                scores_of(by_kind[better], "simulation"), scores_of(by_kind[worse], "simulation")
            )
            text = f"IS: {PAPER[better][0]} above {PAPER[worse][0]}"
            made.append(decide(text, f"{PAPER[better][1]:g} against {PAPER[worse][1]:g}", difference))
    return made


STUDY = Study(
    name=StudyName.INTERPRETABILITY,
    keys=fact_keys,
    prepare=prepare,
    findings=findings,
)
