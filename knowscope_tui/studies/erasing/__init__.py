"""Facts erased from the weights: FeatureEdit against neuron columns, on private facts that were injected before.

The model is a copy of the subject's into which invented facts were put; the dictionaries are those of before, as in the
paper. An item is a fact edited by a method, at its own setting and walked from weak to strong, or all facts at once.
"""

from __future__ import annotations

from knowscope_tui.core.edits import Method
from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.studies import Row, StudyName
from knowscope_tui.studies.erasing.edits import ONE_BY_ONE, TOGETHER, many_facts, one_fact
from knowscope_tui.studies.erasing.findings import findings
from knowscope_tui.studies.erasing.judging import Judge
from knowscope_tui.studies.erasing.known import erased_facts, ground
from knowscope_tui.studies.study import Measure, Study, Subject

ALL = "all"


def keys(subject: Subject) -> list[str]:
    """Method and number of the fact, or method and `all`."""
    facts = erased_facts(subject)
    single = [f"{method.value}:{number:03d}" for method in ONE_BY_ONE for number in range(len(facts))]
    return [*single, *(f"{method.value}:{ALL}" for method in TOGETHER)]


def prepare(subject: Subject, on_progress: OnProgress) -> Measure:
    """Injects the facts, unless an earlier run did."""
    facts = erased_facts(subject)
    base = ground(subject, on_progress)
    judge = Judge(base, facts)

    def measure(key: str, on_progress: OnProgress) -> list[Row]:
        word, _colon, number = key.partition(":")
        method = Method(word)
        if number == ALL:
            return judge.rows(many_facts(subject, base, method, facts, on_progress))
        rows: list[Row] = []
        for edit in one_fact(subject, base, method, facts[int(number)]):
            on_progress(f"{method.value}, {edit.setting}", None)
            rows += judge.rows(edit)
        return rows

    return measure


STUDY = Study(
    name=StudyName.ERASING,
    keys=keys,
    prepare=prepare,
    findings=findings,
)
