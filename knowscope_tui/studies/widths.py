"""Does it matter how wide a dictionary is? Dictionaries of 1 to 8 times d_model, trained here on the same activations.

sae-lens trains them (BatchTopK, as the demo's own), on the stream behind each layer at the tokens of the subject's
sentences; each lies in the cache as soon as it is there. Their features are then measured as in `components`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.studies import Findings, PaperClaim, Plot, PlotKind, Row, Series, StudyName, Table
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.core.written import written_beside
from knowscope_tui.demo.recipe.dictionaries import save_dictionary, train_dictionary
from knowscope_tui.demo.recipe.settings import DictionarySettings
from knowscope_tui.engine.library import Library, load_library
from knowscope_tui.studies.decompositions.study import collected, few
from knowscope_tui.studies.interpretability.contexts import draw_contexts
from knowscope_tui.studies.selection import watch_fact
from knowscope_tui.studies.statistics import decide, difference_interval, mean_interval
from knowscope_tui.studies.study import Measure, Study, Subject, fact_keys, fact_of

KIND = SiteKind.RESID_POST
TIMES = (1, 2, 4, 8)
TOP = 10

STEPS, BATCH, ACTIVE = 300, 1024, 10
"""Training steps of so many activations, and the mean number of features that are active at a token."""

NEURONS = "neurons"


def prepare(subject: Subject, on_progress: OnProgress) -> Measure:
    """Trains the dictionaries that the cache does not have yet, and loads them."""
    sites = [Site(layer, KIND) for layer in subject.layers]
    activations = collected(subject, few(draw_contexts(subject)), sites, on_progress)
    libraries: dict[str, Library] = {}
    quality: dict[str, tuple[float, float]] = {}
    for number, times in enumerate(TIMES):
        name = f"{times} × d_model"
        folder = subject.cache / f"width-{times}"
        for place, site in enumerate(sites):
            share = (number + place / len(sites)) / len(TIMES)
            on_progress(f"Training dictionaries of {name}", share)
            _train(subject, site, times, activations[site], folder / f"layer_{site.layer}")
        libraries[name] = load_library(subject.lm, [(KIND, folder)])
        quality[name] = _quality(libraries[name], activations)
    of = {name: Subject(subject.lm, library, subject.facts, subject.texts, subject.options, subject.cache)
          for name, library in libraries.items()}  # fmt: skip
    return lambda key, _on_progress: _measured(of, quality, fact_of(subject, key))


def _train(subject: Subject, site: Site, times: int, activations: Tensor, folder: Path) -> None:
    """Trains one dictionary into `folder`, unless a whole one lies there."""
    done = folder / "trained"
    if done.is_file():
        return
    d_model = activations.shape[1]
    settings = DictionarySettings(k=ACTIVE, d_sae=times * d_model, steps=STEPS, batch_activations=BATCH)
    with torch.enable_grad():
        sae = train_dictionary(activations, activations[:0], settings, seed=subject.options.seed + site.layer)
    save_dictionary(sae, site, subject.lm.name, folder)
    with written_beside(done) as out:
        out.write(b"whole\n")


@torch.no_grad()
def _quality(library: Library, activations: dict[Site, Tensor]) -> tuple[float, float]:
    """The mean over the sites of L0 and of the fraction of variance explained."""
    counts, explained = [], []
    for site in library.sites:
        h = activations[site]
        f = library.at(site).encode(h)
        left = (h - library.at(site).decode(f, h)).square().sum()
        counts.append(float((f > 0).sum(dim=-1).float().mean()))
        explained.append(float(1 - left / (h - h.mean(dim=0)).square().sum()))
    return sum(counts) / len(counts), sum(explained) / len(explained)


def _measured(of: dict[str, Subject], quality: dict[str, tuple[float, float]], fact: Fact) -> list[Row]:
    rows: list[Row] = []
    for name, subject in of.items():
        watched = watch_fact(subject, fact, (KIND, SiteKind.MLP_ACT))
        if not rows:
            units = watched.top(SiteKind.MLP_ACT, TOP)
            rows.append(_row(fact, NEURONS, len(units), watched.delta_prob(units), watched.delta_prob(units[:1])))
        units = watched.top(KIND, TOP)
        rows.append(
            _row(fact, name, len(units), watched.delta_prob(units), watched.delta_prob(units[:1]), quality[name])
        )
    return rows


def _row(
    fact: Fact, width: str, units: int, drop: float, first: float, quality: tuple[float, float] = (0.0, 0.0)
) -> Row:
    return {
        "fact": fact.id,
        "width": width,
        "units": units,
        "delta_prob": drop,
        "delta_prob_strongest": first,
        "l0": quality[0],
        "explained": quality[1],
    }


# --- findings -------------------------------------------------------------------------------------------------------


def findings(rows: Sequence[Row]) -> Findings:
    """ΔProb by width, beside the neurons'."""
    if not rows:
        return Findings()
    widths = list(dict.fromkeys(str(row["width"]) for row in rows if row["width"] != NEURONS))
    return Findings(
        tables=(_table(rows, widths),),
        plots=(_plot(rows, widths),),
        claims=tuple(_claims(rows, widths)),
        remarks=(
            f"Trained for {STEPS} steps of {BATCH:,} activations, {ACTIVE} features active at a token: small "
            "dictionaries for a comparison, not good ones.",
        ),
    )


def _values(rows: Sequence[Row], width: str, name: str = "delta_prob") -> list[float]:
    return [float(str(row[name])) for row in rows if row["width"] == width]


def _table(rows: Sequence[Row], widths: Sequence[str]) -> Table:
    return Table(
        "widths",
        f"ΔProb of the {TOP} strongest resid_post features, by the width of their dictionary",
        ("width", "variance explained", "L0", f"ΔProb of {TOP}", "ΔProb of the strongest"),
        (
            *(
                (
                    width,
                    _values(rows, width, "explained")[0],
                    _values(rows, width, "l0")[0],
                    mean_interval(_values(rows, width)),
                    mean_interval(_values(rows, width, "delta_prob_strongest")),
                )
                for width in widths
            ),
            (
                NEURONS,
                None,
                None,
                mean_interval(_values(rows, NEURONS)),
                mean_interval(_values(rows, NEURONS, "delta_prob_strongest")),
            ),
        ),
        note="Neurons are ranked by the same rule, gradient × activation.",
    )


def _plot(rows: Sequence[Row], widths: Sequence[str]) -> Plot:
    names = (*widths, NEURONS)
    series = []
    for title, key in ((f"{TOP} units", "delta_prob"), ("the strongest alone", "delta_prob_strongest")):
        found = [mean_interval(_values(rows, name, key)) for name in names]
        series.append(
            Series(
                title,
                names,
                tuple(one.value or 0.0 for one in found),
                tuple((one.value or 0.0) if one.low is None else one.low for one in found),
                tuple((one.value or 0.0) if one.high is None else one.high for one in found),
            )
        )
    return Plot("widths", "ΔProb by width", PlotKind.BARS, "width", "ΔProb", tuple(series))


def _claims(rows: Sequence[Row], widths: Sequence[str]) -> list[PaperClaim]:
    """The paper's result holds for every width: features above neurons."""
    return [
        decide(
            f"ΔProb: features of {width} above neurons",
            "held for 1 to 8 × d_model",
            difference_interval(_values(rows, width), _values(rows, NEURONS), paired=True),
        )
        for width in widths
    ]


STUDY = Study(
    name=StudyName.WIDTHS,
    keys=fact_keys,
    prepare=prepare,
    findings=findings,
)
