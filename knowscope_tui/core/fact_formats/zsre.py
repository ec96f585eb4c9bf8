"""zsRE as model editing uses it (Levy et al. 2017; De Cao et al. 2021; Mitchell et al. 2022): a JSON list of questions.

`src` is the question, `answers` what is right, `alt` what an edit is to make of it, `rephrase` the same question in
other words, `loc` an unrelated question with its answer `loc_ans`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from knowscope_tui.core.fact_formats.fact_set import FactSet
from knowscope_tui.core.facts import Fact

FORM = "zsRE"
LOC_PREFIX = "nq question: "


def is_row(row: object) -> bool:
    return isinstance(row, Mapping) and "src" in row and ("answers" in row or "alt" in row)


def fact_set(rows: Sequence[Any]) -> FactSet:
    """The facts of all rows. Raises `ValueError` that names the row at fault, from 1."""
    facts: list[Fact] = []
    neighbors: list[Fact] = []
    for number, row in enumerate(rows, start=1):
        try:
            facts.append(_fact(row, number))
            neighbors += _neighbor(row, number)
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            raise ValueError(f"row {number} is no question ({error})") from None
    return FactSet(FORM, tuple(facts), tuple(dict.fromkeys(neighbors)))


def _fact(row: Mapping[str, Any], number: int) -> Fact:
    rephrased, answers = row.get("rephrase") or [], row["answers"]
    return Fact.from_json(
        {
            "id": f"zsre/{number}",
            "subject": row.get("subject", ""),
            "prompt": row["src"],
            "answer": (answers if isinstance(answers, str) else answers[0]).strip(),
            "target_new": (row.get("alt") or "").strip(),
            "paraphrases": [rephrased] if isinstance(rephrased, str) else rephrased,
        }
    )


def _neighbor(row: Mapping[str, Any], number: int) -> list[Fact]:
    question, answer = (row.get("loc") or "").removeprefix(LOC_PREFIX).strip(), (row.get("loc_ans") or "").strip()
    return [Fact(question, answer, f"zsre/{number}/loc")] if question and answer else []
