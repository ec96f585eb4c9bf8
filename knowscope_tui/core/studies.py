"""What a study is asked and what it answers: estimates with intervals, tables, plots, and claims that hold or do not.

A study measures items (mostly facts) one by one. An item yields rows, flat records of numbers and words; everything
that is reported is worked out of the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from knowscope_tui.errors import UsageError

Value = str | int | float | bool | None
Row = Mapping[str, Value]
"""One record of a study. Every row of a study has the same keys, and its values keep their types."""


class StudyName(str, Enum):
    """The studies, named as on the command line, in the order in which `all` runs them."""

    COMPONENTS = "components"
    LADDER = "ladder"
    DECOMPOSITIONS = "decompositions"
    INTERPRETABILITY = "interpretability"
    MONOSEMANTICITY = "monosemanticity"
    ERASING = "erasing"
    WIDTHS = "widths"

    def __str__(self) -> str:
        return self.value


TITLES: dict[StudyName, tuple[str, str]] = {
    StudyName.COMPONENTS: (
        "Which units carry the facts",
        "How much of the answer's probability is lost when the units of one kind are switched off?",
    ),
    StudyName.LADDER: (
        "The ladder",
        "How many units have to be switched off before an answer is lost?",
    ),
    StudyName.DECOMPOSITIONS: (
        "Features against older decompositions",
        "Do a sparse autoencoder's features carry facts better than the components of PCA, ICA, or chance?",
    ),
    StudyName.INTERPRETABILITY: (
        "Interpretability score",
        "How well does an explanation in words foretell on which tokens a unit fires?",
    ),
    StudyName.MONOSEMANTICITY: (
        "Whether a unit stands for one fact",
        "Does the unit that carries a fact fire on inputs about it, and on no others?",
    ),
    StudyName.ERASING: (
        "What an edit erases, and what it leaves",
        "Is a fact gone in every phrasing when the weights behind its features are zeroed, and are others kept?",
    ),
    StudyName.WIDTHS: (
        "Widths of dictionaries",
        "Do features carry facts better than neurons however wide the dictionary is?",
    ),
}
"""What each study is called, and the question that it answers, which a newcomer understands."""


@dataclass(frozen=True)
class Estimate:
    """A mean, ratio or difference over `items` things with its 95 % interval; None where nothing was measured."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    items: int = 0


class Verdict(str, Enum):
    """What an interval says of a claim: beyond the threshold altogether, short of it altogether, or neither."""

    HOLDS = "holds"
    DOES_NOT = "does not hold"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class PaperClaim:
    """Something that the paper says, with what was measured of it here.

    `ours` is the quantity that decides (a difference, a ratio, an effect size), which has to be above `threshold`.
    """

    text: str
    paper: str
    """The paper's figures, in words; "–" where it gives none."""
    ours: Estimate
    threshold: float
    verdict: Verdict


Cell = Value | Estimate


@dataclass(frozen=True)
class Table:
    """A table of a report. `name` is the stem of its files; rows are as long as `columns`."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


class PlotKind(str, Enum):
    """How a plot is drawn: a bar for each x, a line through the points, points alone, or the density of values."""

    BARS = "bars"
    LINES = "lines"
    POINTS = "points"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Series:
    """One set of points. For `HISTOGRAM` only `y` counts: the values themselves, whose
    density is drawn. `units` name what each point is of,
    as `4.resid_post.f17`, where it is of a unit."""

    name: str
    x: tuple[float | str, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plot:
    """A plot of a report. `name` is the stem of its files."""

    name: str
    title: str
    kind: PlotKind
    x: str
    y: str
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Findings:
    """What the rows of a study come to."""

    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    claims: tuple[PaperClaim, ...] = ()
    remarks: tuple[str, ...] = ()
    """What a reader should know beside the figures, a sentence each."""


@dataclass(frozen=True)
class StudyOptions:
    """How a study is cut down, and what it may use besides the model."""

    limit: int | None = None
    """Facts at most, by a seeded draw; None is all."""
    seed: int = 0
    layers: tuple[int, ...] | None = None
    """Only units of these layers; None is all."""
    llm_url: str | None = None
    """An OpenAI-compatible endpoint that explains units and simulates them; None is the embedded lexical simulator."""
    llm_model: str | None = None


@dataclass(frozen=True)
class StudyResult:
    """A finished run, with what it was asked and measured with, as its folder has it."""

    name: StudyName
    title: str
    question: str
    findings: Findings
    folder: str
    items: int
    asked: Mapping[str, Any]
    """What its rows depend on, as JSON."""
    made_with: Mapping[str, Any]
    """The command that makes it again, and versions."""
    remarks: tuple[str, ...] = ()
    """What was found wrong on the way, and what was left out, a sentence each."""


@dataclass(frozen=True)
class StudyReport:
    """What was asked of studies: the runs that are finished, the page over them, and the studies that were left out,
    each with the sentence that says why."""

    results: tuple[StudyResult, ...]
    page: str
    left_out: tuple[tuple[StudyName, str], ...] = ()


AUTO, LOCAL = "auto", "local"
"""The cluster that this machine is part of, and one on this machine that lasts as long as the run."""


@dataclass(frozen=True)
class Cluster:
    """Where workers are, and what each of them gets."""

    address: str = LOCAL
    """`auto`, `local`, HOST:PORT or ray://HOST:PORT."""
    gpu_share: float = 1.0
    """Of a GPU, for each worker, where there are GPUs."""
    workers: int | None = None
    """None is as many as the cluster has room for."""


ALL = "all"
"""What a person calls every study."""


def studies_named(word: str) -> tuple[StudyName, ...]:
    """The study that `word` names, or every one for `all`. Raises `UsageError`."""
    if word == ALL:
        return tuple(StudyName)
    try:
        return (StudyName(word),)
    except ValueError:
        known = ", ".join(name.value for name in StudyName)
        raise UsageError(f"There is no study called {word!r}.", f"Choose among {known}; or all.") from None
