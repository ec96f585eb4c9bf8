"""A study that measures nothing, quickly: its rows depend on the item's key alone.

As a program it runs in the folder named, as slowly as told: `python -m tests.studies.fake DIR SECONDS ITEMS`.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.studies import (
    Findings,
    Plot,
    PlotKind,
    Row,
    Series,
    StudyName,
    StudyOptions,
    Table,
)
from knowscope_tui.errors import UsageError
from knowscope_tui.studies import run as running
from knowscope_tui.studies.run import run_study
from knowscope_tui.studies.run_folder import open_run
from knowscope_tui.studies.statistics import decide, difference_interval, mean_interval
from knowscope_tui.studies.study import Measure, Study, Subject, fact_keys, fact_of

ASKED: dict[str, Any] = {"format": 1, "study": "components", "limit": None, "seed": 0}


def subject(items: int = 12, cache: Path = Path("cache"), ids: Sequence[str] = (), **parts: Any) -> Subject:
    """Made-up facts, without a model unless one is given."""
    facts = tuple(
        Fact(f"prompt {number}", "answer", id=ids[number] if number < len(ids) else f"f{number}")
        for number in range(items)
    )
    settings: dict[str, Any] = {"lm": None, "library": None, "facts": facts, "texts": (), "options": StudyOptions()}
    return Subject(cache=cache, **(settings | parts))


def rows_of(name: str) -> list[Row]:
    """Two units of one item, and for every fifth item none."""
    draw = random.Random(repr(name))
    if name.endswith("4"):
        return []
    return [
        {"fact": name, "kind": kind, "delta_prob": draw.random() / divisor, "rank": draw.randrange(9), "said": None}
        for kind, divisor in (("feature", 1), ("neuron", 4))
    ]


def prepare(seen: Subject, _on_progress: OnProgress, seconds: float = 0.0) -> Measure:
    def measure(key: str, on_progress: OnProgress) -> list[Row]:
        on_progress("measuring", 0.5)
        time.sleep(seconds)
        return rows_of(fact_of(seen, key).id)

    return measure


def findings(rows: Sequence[Row]) -> Findings:
    kinds = ("feature", "neuron")
    values = {kind: [float(row["delta_prob"] or 0.0) for row in rows if row["kind"] == kind] for kind in kinds}
    means = {kind: mean_interval(own) for kind, own in values.items()}
    table = Table("means", "ΔProb | of <each> kind", ("kind", "ΔProb", "facts"),
                  tuple((kind, means[kind], len(values[kind])) for kind in kinds), "A note.")  # fmt: skip
    bars = Series("ours", kinds, tuple(means[k].value or 0.0 for k in kinds),
                  tuple(means[k].low or 0.0 for k in kinds), tuple(means[k].high or 0.0 for k in kinds))  # fmt: skip
    heaps = tuple(Series(kind, (), tuple(values[kind])) for kind in kinds)
    plots = (
        Plot("bars", "ΔProb by <kind>", PlotKind.BARS, "kind", "ΔProb", (bars,)),
        Plot("density", "All values", PlotKind.HISTOGRAM, "ΔProb", "density", heaps),
    )
    difference = difference_interval(values["feature"], values["neuron"], paired=True)
    claim = decide("Features carry more than neurons.", ".85 and .45", difference)
    names = ", ".join(sorted({str(row["fact"]) for row in rows})[:3])
    return Findings((table,), plots, (claim,), (f"Facts such as {names} were measured.",))


def study(seconds: float = 0.0, name: StudyName = StudyName.COMPONENTS) -> Study:
    return Study(
        name=name,
        keys=fact_keys,
        prepare=lambda seen, on_progress: prepare(seen, on_progress, seconds),
        findings=findings,
    )


STUDY = study()


def slow(name: StudyName) -> Study:
    """The study with items of half a second, as a worker finds it."""
    return study(0.5, name)


def deadly(name: StudyName) -> Study:
    """A study whose fourth item ends the process."""

    def prepared(_seen: Subject, _on_progress: OnProgress) -> Measure:
        def measure(key: str, _on_progress: OnProgress) -> list[Row]:
            if key.startswith("03:"):
                os._exit(1)
            return rows_of(key.partition(":")[2])

        return measure

    return replace(study(name=name), prepare=prepared)


def refusing(name: StudyName) -> Study:
    """A study that cannot be prepared."""

    def prepared(_seen: Subject, _on_progress: OnProgress) -> Measure:
        raise UsageError("No dictionary is open.", "Open some.")

    return replace(study(name=name), prepare=prepared)


if __name__ == "__main__":
    folder, seconds, items = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    with open_run(folder, ASKED) as run:
        running.SECONDS_A_PART = 0.2
        sys.stdout.write("open\n")
        sys.stdout.flush()
        run_study(study(seconds), subject(items, run.cache), run)
