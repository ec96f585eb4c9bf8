"""CounterFact (Meng et al. 2022, arXiv 2202.05262): a JSON list of requested rewrites.

A row's prompt holds `{}` where its subject goes; the true answer is the fact's answer, the new one its `target_new`.
Paraphrases stay unseen by edits, as CounterFact means them. Neighborhood prompts have the same true answer: they become
neighbors of the same relation, whose subjects the file does not name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from knowscope_tui.core.fact_formats.fact_set import FactSet
from knowscope_tui.core.facts import Fact

FORM = "CounterFact"


def is_row(row: object) -> bool:
    return isinstance(row, Mapping) and "requested_rewrite" in row


def fact_set(rows: Sequence[Any]) -> FactSet:
    """The facts of all rows. Raises `ValueError` that names the row at fault, from 1."""
    facts: list[Fact] = []
    neighbors: list[Fact] = []
    for number, row in enumerate(rows, start=1):
        try:
            fact, near = _read(row, number)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"row {number} is no requested rewrite ({error})") from None
        facts.append(fact)
        neighbors += near
    return FactSet(FORM, tuple(facts), tuple(dict.fromkeys(neighbors)))


def _read(row: Mapping[str, Any], number: int) -> tuple[Fact, list[Fact]]:
    asked = row["requested_rewrite"]
    relation, answer = str(asked.get("relation_id") or ""), asked["target_true"]["str"].strip()
    if "{}" not in asked["prompt"]:
        raise ValueError("its prompt has no {} for the subject")
    case = str(row.get("case_id", number))
    fact = Fact.from_json(
        {
            "id": f"counterfact/{case}",
            "subject": asked["subject"],
            "relation": relation,
            "prompt": asked["prompt"].replace("{}", asked["subject"]),
            "answer": answer,
            "target_new": ((asked.get("target_new") or {}).get("str") or "").strip(),
            "paraphrases": row.get("paraphrase_prompts", []),
        }
    )
    near = [
        Fact(prompt, answer, f"{fact.id}/neighbor-{place}", relation=relation)
        for place, prompt in enumerate(row.get("neighborhood_prompts", []), start=1)
        if isinstance(prompt, str) and prompt.strip()
    ]
    return fact, near
