"""ParaRel (Elazar et al. 2021, arXiv 2102.01017): for each relation a file of patterns and one of T-REx facts.

    {"pattern": "The capital of [X] is [Y].", …}
    {"sub_label": "Atlantis", "obj_label": "Poseidonia", "uuid": "…"}

A language model that reads from the left can only be asked where [Y] comes last: other patterns are left out, and
counted. The first pattern gives the prompt; of the others, in a draw that is the same for the whole relation, half and
at most `EDIT_PROMPTS` may be seen by an edit, and the rest are its unseen paraphrases.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from knowscope_tui.core.fact_formats.fact_set import FactSet
from knowscope_tui.core.fact_formats.lines import json_lines
from knowscope_tui.core.facts import Fact
from knowscope_tui.errors import FactFileError

FORM = "ParaRel"
SUBJECT, ANSWER = "[X]", "[Y]"
EDIT_PROMPTS = 3

LABELS = ("sub_label", "obj_label")

_RELATION = re.compile(r"(?<![A-Za-z0-9])P\d+")
_END = re.compile(r"[\s.]*")


def is_pattern(row: object) -> bool:
    return isinstance(row, Mapping) and "pattern" in row


def is_fact(row: object) -> bool:
    return isinstance(row, Mapping) and "sub_label" in row and "obj_label" in row


def relation_of(path: Path) -> str:
    """The relation that a file's name or its folder's spells, as P103; the name's stem where none does."""
    found = _RELATION.search(path.name) or _RELATION.search(path.parent.name)
    return found[0] if found else path.name.split(".")[0]


def read_folder(folder: Path) -> FactSet:
    """The facts of every relation in `folder` or below it that has both files. Raises `FactFileError`."""
    patterns: dict[str, Path] = {}
    facts: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.jsonl")):
        first = next((row for _number, row in json_lines(path)), None)
        if is_pattern(first) or is_fact(first):
            files, relation = (patterns if is_pattern(first) else facts), relation_of(path)
            if relation in files:
                raise FactFileError(
                    f"{str(files[relation])!r} and {str(path)!r} are both of {relation}.",
                    "Name a folder with one of them.",
                )
            files[relation] = path
    return _read(facts, patterns, folder)


def read_relation(path: Path) -> FactSet:
    """The facts of the one relation that `path`, either of its two files, belongs to. Raises `FactFileError`: the other
    one is not beside it, or several could be."""
    relation = relation_of(path)
    named = _holds_patterns(path)
    halves = [
        other
        for other in sorted(path.parent.glob("*.jsonl"))
        if relation_of(other) == relation and _holds_patterns(other) is (not named)
    ]
    if len(halves) > 1:
        raise FactFileError(
            f"{str(halves[0])!r} and {str(halves[1])!r} could both belong to {path.name!r}.",
            "Put the two files of the relation into a folder of their own.",
        )
    beside = {relation: halves[0]} if halves else {}
    return _read(beside, {relation: path}, path) if named else _read({relation: path}, beside, path)


def _holds_patterns(path: Path) -> bool | None:
    """Whether a file holds patterns; False for facts, and None for neither."""
    first = next((row for _number, row in json_lines(path)), None)
    return is_pattern(first) if is_pattern(first) or is_fact(first) else None


def _read(facts: Mapping[str, Path], patterns: Mapping[str, Path], source: Path) -> FactSet:
    both = sorted(facts.keys() & patterns.keys())
    if not both:
        raise FactFileError(
            f"{str(source)!r} holds no relation of ParaRel with both its patterns and its facts.",
            "Put P….jsonl with patterns and P….jsonl with facts into one folder, and name the folder.",
        )
    found: list[Fact] = []
    remarks: list[str] = []
    for relation in both:
        asked, left_out = usable(row for _number, row in json_lines(patterns[relation]))
        if left_out:
            remarks.append(f"{relation}: {left_out} of {left_out + len(asked)} patterns do not end in the answer.")
        if asked:
            found += _facts(relation, asked, facts[relation])
    if not found:
        raise FactFileError(
            f"No pattern in {str(source)!r} ends in {ANSWER}, so that nothing can be asked.", "Name other relations."
        )
    alone = sorted(facts.keys() ^ patterns.keys())
    if alone:
        remarks.append(f"Left out, since one of their two files is missing: {', '.join(alone)}.")
    whole = tuple(dict.fromkeys(found))
    if len(whole) < len(found):
        remarks.append(f"{len(found) - len(whole)} facts stood there twice.")
    return FactSet(FORM, whole, remarks=tuple(remarks))


def usable(rows: Iterable[Any]) -> tuple[list[str], int]:
    """The patterns that end in the answer, cut before it, each once; and how many do not."""
    asked: dict[str, None] = {}
    left_out = 0
    for row in rows:
        before, sign, after = str(row["pattern"] if is_pattern(row) else "").partition(ANSWER)
        if sign and SUBJECT in before and _END.fullmatch(after):
            asked[before.strip()] = None
        else:
            left_out += 1
    return list(asked), left_out


def _facts(relation: str, asked: Sequence[str], file: Path) -> Iterable[Fact]:
    first, others = asked[0], list(asked[1:])
    random.Random(relation).shuffle(others)
    seen = min(EDIT_PROMPTS, len(others) // 2)
    for number, row in json_lines(file):
        if not is_fact(row) or not all(isinstance(row[name], str) and row[name].strip() for name in LABELS):
            raise FactFileError(
                f"Line {number} of {str(file)!r} is no fact: {json.dumps(row, ensure_ascii=False)[:60]}.",
                'Each line is {"sub_label": "…", "obj_label": "…"}.',
            )
        subject, answer = (row[name].strip() for name in LABELS)
        told = [pattern.replace(SUBJECT, subject) for pattern in (first, *others)]
        yield Fact(
            prompt=told[0],
            answer=answer,
            id=f"{relation}/{row.get('uuid') or number}",
            subject=subject,
            relation=relation,
            edit_prompts=tuple(told[1 : 1 + seen]),
            paraphrases=tuple(told[1 + seen :]),
        )
