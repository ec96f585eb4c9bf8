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
            fact, near = _read(row)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"row {number} is no requested rewrite ({error})") from None
        facts.append(fact)
        neighbors += near
    return FactSet(FORM, tuple(facts), tuple(dict.fromkeys(neighbors)))


def _read(row: Mapping[str, Any]) -> tuple[Fact, list[Fact]]:
    asked = row["requested_rewrite"]
    relation, answer = str(asked.get("relation_id", "")), str(asked["target_true"]["str"]).strip()
    case = str(row.get("case_id", ""))
    fact = Fact.from_json(
        {
            "id": f"counterfact/{case}" if case else "",
            "subject": asked["subject"],
            "relation": relation,
            "prompt": asked["prompt"].replace("{}", asked["subject"]),
            "answer": answer,
            "target_new": str((asked.get("target_new") or {}).get("str", "")).strip(),
            "paraphrases": row.get("paraphrase_prompts", []),
        }
    )
    near = [
        Fact(prompt, answer, f"{fact.id}/neighbor-{number}", relation=relation)
        for number, prompt in enumerate(row.get("neighborhood_prompts", []), start=1)
        if isinstance(prompt, str) and prompt.strip()
    ]
    return fact, near
