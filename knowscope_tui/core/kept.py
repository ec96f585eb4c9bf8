"""Which facts an edit is told to keep, and which it is judged by: never the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from knowscope_tui.core.facts import Fact, distinct, seeded


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

    With neither named, every relation is dealt out in two halves by a seeded draw, the same whatever is edited.
    What one of the two names, the other does not get; facts named for both are held out.
    """
    gone = {_key(fact) for fact in edited}
    if retain is None and neighbors is None:
        halves = _halves(among, seed)
        return Kept(tuple(_without(halves.retained, gone)), tuple(_without(halves.held, gone)))
    held_out = _without(among if neighbors is None else neighbors, gone)
    if retain is None:
        return Kept(tuple(_without(among, gone | {_key(fact) for fact in held_out})), tuple(held_out))
    if neighbors is None:
        held_out = _without(held_out, {_key(fact) for fact in retain})
    return Kept(tuple(_without(retain, gone | {_key(fact) for fact in held_out})), tuple(held_out))


@dataclass(frozen=True)
class Told:
    """What one edit was told to keep: the facts that were named, or the half that `seed` deals out."""

    retain: tuple[Fact, ...] | None = None
    seed: int = 0


def kept_by_all(
    edited: Sequence[Fact], among: Sequence[Fact], told: Sequence[Told], neighbors: Sequence[Fact] | None = None
) -> Kept:
    """Who is retained and who held out when several edits are judged together: what any of them was told to keep is
    retained, and judges none of them."""
    each = [split(edited, among, retain=one.retain, neighbors=neighbors, seed=one.seed) for one in told or [Told()]]
    retained = distinct(fact for one in each for fact in one.retained)
    return Kept(retained, tuple(_without(each[-1].held, {_key(fact) for fact in retained})))


def _halves(facts: Sequence[Fact], seed: int) -> Kept:
    by_relation: dict[str, list[Fact]] = {}
    for fact in facts:
        by_relation.setdefault(fact.relation, []).append(fact)
    retained: set[tuple[str, str]] = set()
    for relation in by_relation.values():
        dealt = sorted(distinct(relation), key=lambda fact: seeded(fact, seed))
        retained.update(_key(fact) for fact in dealt[: len(dealt) // 2])
    return Kept(
        tuple(fact for fact in facts if _key(fact) in retained),
        tuple(fact for fact in facts if _key(fact) not in retained),
    )


def _without(facts: Sequence[Fact], keys: set[tuple[str, str]]) -> list[Fact]:
    return [fact for fact in facts if _key(fact) not in keys]


def _key(fact: Fact) -> tuple[str, str]:
    return fact.prompt, fact.answer
