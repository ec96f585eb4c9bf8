"""A fact as CounterFact and ParaRel know it, and the JSON-lines file that lists facts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowscope_tui.errors import FactFileError

_TEXT_KEYS = ("id", "subject", "relation", "prompt", "answer", "target_new")
_LIST_KEYS = ("edit_prompts", "paraphrases")


@dataclass(frozen=True)
class Fact:
    """Something the model may know: after `prompt` it says `answer`.

    `edit_prompts` are further phrasings that an edit may use. `paraphrases` are never shown to an edit:
    generalization is measured on them. `target_new` is what an edit makes the model say instead; without one the answer
    is erased.
    """

    prompt: str
    answer: str
    id: str = ""
    subject: str = ""
    relation: str = ""
    edit_prompts: tuple[str, ...] = ()
    paraphrases: tuple[str, ...] = ()
    target_new: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "subject": self.subject,
            "relation": self.relation,
            "prompt": self.prompt,
            "answer": self.answer,
            "edit_prompts": list(self.edit_prompts),
            "paraphrases": list(self.paraphrases),
            **({"target_new": self.target_new} if self.target_new else {}),
        }

    @classmethod
    def from_json(cls, row: object) -> Fact:
        """The fact a JSON object states. Raises `ValueError` that names the key at fault."""
        if not isinstance(row, dict):
            raise ValueError("it is no JSON object")
        for key in _TEXT_KEYS:
            if not isinstance(row.get(key, ""), str):
                raise ValueError(f'"{key}" is no text')
        for key in _LIST_KEYS:
            values = row.get(key, [])
            if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
                raise ValueError(f'"{key}" is no list of texts')
        for key in ("prompt", "answer"):
            if not row.get(key, "").strip():
                raise ValueError(f'"{key}" is missing or empty')
        texts = {key: row.get(key, "") for key in _TEXT_KEYS}
        return cls(
            **texts, edit_prompts=tuple(row.get("edit_prompts", ())), paraphrases=tuple(row.get("paraphrases", ()))
        )


def distinct(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """`facts`, each once, in the order in which they come first."""
    return tuple(dict.fromkeys(facts))


def seeded(fact: Fact, seed: int) -> int:
    """A seed of this fact's own under `seed`: the same wherever in a list it stands, on every machine."""
    told = json.dumps([seed, fact.prompt, fact.answer], ensure_ascii=False)
    return int.from_bytes(hashlib.sha256(told.encode("utf-8", "surrogatepass")).digest()[:8], "big") >> 1


def read_facts(path: Path) -> list[Fact]:
    """The facts of a JSON-lines file, in order; blank lines are skipped.

    Raises `FactFileError`: unreadable file, no fact in it, or a broken line, which is named.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise FactFileError(f"Cannot read the fact file {str(path)!r}: {reason}.", "Name a JSON-lines file.") from None
    return facts_of_lines(text, path)


def facts_of_lines(text: str, path: Path) -> list[Fact]:
    """The facts of the JSON lines in `text`, which was read from `path`. Raises `FactFileError` as `read_facts`."""
    facts = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            facts.append(Fact.from_json(json.loads(line)))
        except (ValueError, RecursionError) as error:
            reason = f"it is no JSON ({error.msg})" if isinstance(error, json.JSONDecodeError) else str(error)
            raise FactFileError(
                f"Line {number} of {str(path)!r} is no fact: {reason}.",
                'Write each fact on one line as {"prompt": "...", "answer": "..."}.',
            ) from None
    if not facts:
        raise FactFileError(f"There is no fact in {str(path)!r}.", 'Write one per line: {"prompt": …, "answer": …}.')
    return facts


def write_facts(facts: Iterable[Fact], path: Path) -> None:
    """Writes `facts` as JSON lines, the form `read_facts` reads."""
    path.write_text(as_lines(facts), encoding="utf-8")


def as_lines(facts: Iterable[Fact]) -> str:
    """`facts` as JSON lines."""
    return "".join(f"{json.dumps(fact.to_json(), ensure_ascii=False)}\n" for fact in facts)
