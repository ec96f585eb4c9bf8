"""Which facts an edit is told to keep, and which it is judged by: never the same ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from knowscope_tui.core.facts import Fact


@dataclass(frozen=True)
class Kept:
    """`retained` facts are shown to the edit; locality is measured on the `held` ones."""

    retained: tuple[Fact, ...]
    held: tuple[Fact, ...]


def split(
    edited: Sequence[Fact],
    among: Sequence[Fact],
    *,
    retain: Sequence[Fact] | None = None,
    neighbors: Sequence[Fact] | None = None,
    seed: int = 0,
) -> Kept:
    """Who is retained and who held out of the facts `among`, none of them edited.

    With neither named, every relation is dealt out in two halves by a seeded draw. What one of the two names, the other
    does not get; facts named for both are held out.
    """
    gone = {_key(fact) for fact in edited}
    if retain is None and neighbors is None:
        return _halves([fact for fact in among if _key(fact) not in gone], seed)
    held_out = _without(among if neighbors is None else neighbors, gone)
    if retain is None:
        return Kept(tuple(_without(among, gone | {_key(fact) for fact in held_out})), tuple(held_out))
    if neighbors is None:
        held_out = _without(held_out, {_key(fact) for fact in retain})
    return Kept(tuple(_without(retain, gone | {_key(fact) for fact in held_out})), tuple(held_out))


def _halves(facts: Sequence[Fact], seed: int) -> Kept:
    by_relation: dict[str, list[Fact]] = {}
    for fact in facts:
        by_relation.setdefault(fact.relation, []).append(fact)
    rng = random.Random(seed)
    retained: set[tuple[str, str]] = set()
    for relation in by_relation.values():
        retained.update(_key(fact) for fact in rng.sample(relation, len(relation) // 2))
    return Kept(
        tuple(fact for fact in facts if _key(fact) in retained),
        tuple(fact for fact in facts if _key(fact) not in retained),
    )


def _without(facts: Sequence[Fact], keys: set[tuple[str, str]]) -> list[Fact]:
    return [fact for fact in facts if _key(fact) not in keys]


def _key(fact: Fact) -> tuple[str, str]:
    return fact.prompt, fact.answer
