"""Units on prompts about their fact and about others."""

from __future__ import annotations

from pathlib import Path

import pytest

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.studies import StudyOptions
from knowscope_tui.core.units import Unit
from knowscope_tui.engine.hooks import capture
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.studies.monosemanticity import STUDY
from knowscope_tui.studies.study import Subject


def quiet(_doing: str, _fraction: float | None) -> None:
    """Nobody watches."""


@pytest.fixture
def subject(lm: LanguageModel, library: Library, facts: list[Fact], tmp_path: Path) -> Subject:
    return Subject(lm, library, tuple(facts[:6]), (), StudyOptions(), tmp_path)


def test_activations_are_those_of_the_prompts_alone(subject: Subject) -> None:
    measure = STUDY.prepare(subject, quiet)
    fact = subject.facts[2]
    rows = [row for row in measure(STUDY.keys(subject)[2], quiet) if row["units"] == "features"]
    phrasings = (fact.prompt, *fact.edit_prompts, *fact.paraphrases)
    related = [row for row in rows if row["related"]]
    assert len(related) == len(phrasings)
    unit = Unit.parse(str(rows[0]["unit"]))
    for row, prompt in zip(related, phrasings, strict=True):
        with capture(subject.lm.model, [unit.site]) as cache:
            subject.lm.model(input_ids=subject.lm.tensor([subject.lm.encode(prompt)]))
        alone = subject.library.at(unit.site).encode(cache[unit.site][0, -1])[unit.index]
        assert row["activation"] == pytest.approx(float(alone), abs=1e-4)
    largest = max(abs(float(str(row["activation"]))) for row in rows)
    assert all(row["scaled"] == pytest.approx(float(str(row["activation"])) / largest) for row in rows)
    assert {row["related"] for row in rows} == {True, False}


def test_rows_depend_on_their_key_alone(subject: Subject) -> None:
    keys = STUDY.keys(subject)
    forth, back = STUDY.prepare(subject, quiet), STUDY.prepare(subject, quiet)
    rows = [forth(key, quiet) for key in keys]
    assert rows == [back(key, quiet) for key in reversed(keys)][::-1]


def made(name: str, related: float, unrelated: float) -> list[dict[str, object]]:
    rows = []
    for fact in range(12):
        for number in range(20):
            sort = number < 8
            value = (related if sort else unrelated) + 0.02 * ((number * 7 + fact) % 5)
            rows.append(
                {"fact": str(fact), "units": name, "unit": "u", "related": sort, "activation": value, "scaled": value}
            )
    return rows


def test_what_is_claimed_follows_from_the_rows() -> None:
    apart = STUDY.findings([*made("features", 0.9, 0.0), *made("neurons", 0.4, 0.3)])  # type: ignore[arg-type]
    assert [claim.verdict.value for claim in apart.claims] == ["holds", "holds"]
    assert "p < .001" in apart.claims[0].text
    turned = STUDY.findings([*made("features", 0.3, 0.3), *made("neurons", 0.9, 0.0)])  # type: ignore[arg-type]
    assert [claim.verdict.value for claim in turned.claims] == ["does not hold", "does not hold"]
    shares = next(plot for plot in apart.plots if plot.name == "shares")
    assert shares.series[0].y[-1] == pytest.approx(0.94, abs=0.01)
    assert shares.series[0].y[0] == pytest.approx(0.04, abs=0.01)
    assert STUDY.findings([]).claims == ()
