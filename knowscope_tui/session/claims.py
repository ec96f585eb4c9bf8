"""What a record claims, held against what was measured again: figure by figure, fact by fact, leak by leak."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from knowscope_tui.core.edit_json import Json
from knowscope_tui.core.proof import Claim

CLOSE = 2e-3
"""How far a probability, an end of an interval or ΔPPL may be from what was claimed. Shares count items, and must be
the same."""

COUNTED = 0.05
"""How far the number of leaking samples may be off, as a share of what was tried: other devices round otherwise."""

MOMENTS = ("before", "after")
SHARES = ("reliability", "generalization", "locality", "retained")
PROBABILITIES = ("p_answer", "p_paraphrases", "p_neighbors")
OUTCOME = ("known_before", "erased", "paraphrases_erased", "paraphrases")
OUTCOME_P = ("p_before", "p_after", "p_target")

Row = Mapping[str, Any]


def claims_of(claimed: Json, measured: Json) -> Iterator[Claim]:
    """Every figure of the proof `claimed` beside what was `measured`; leak tests only where both were made.

    Raises what a record raises that does not hold what a record holds (see `core.record.unbroken`).
    """
    for moment in MOMENTS:
        yield from _figures(moment, claimed[moment], measured[moment])
    yield Claim(
        "neighbors",
        str(claimed["neighbors"]),
        str(measured["neighbors"]),
        claimed["neighbors"] == measured["neighbors"],
    )
    yield _facts(claimed["facts"], measured["facts"])
    again = {row["test"]: row for row in measured["leaks"]}
    for row in claimed["leaks"]:
        if row["test"] in again:
            yield _leaks(row, again[row["test"]])


def leak_claims(claimed: Json) -> tuple[str, ...]:
    """The names of the claims about leaks."""
    return tuple(f"leaks, {row['test']}" for row in claimed["leaks"])


def _figures(moment: str, claimed: Row, measured: Row) -> Iterator[Claim]:
    for key in SHARES:
        yield _share(f"{key}, {moment}", claimed[key], measured[key])
    for ring in dict.fromkeys((*claimed["rings"], *measured["rings"])):
        yield _share(f"locality, {ring}, {moment}", claimed["rings"].get(ring, {}), measured["rings"].get(ring, {}))
    yield _interval(f"delta_ppl, {moment}", claimed["delta_ppl"], measured["delta_ppl"])
    for key in PROBABILITIES:
        yield Claim(
            f"{key}, {moment}", _shown(claimed[key]), _shown(measured[key]), _close(claimed[key], measured[key])
        )


def _share(name: str, claimed: Row, measured: Row) -> Claim:
    same = all(claimed.get(key) == measured.get(key) for key in ("value", "items"))
    return Claim(name, _with_ends(claimed), _with_ends(measured), same and _same_ends(claimed, measured))


def _interval(name: str, claimed: Row, measured: Row) -> Claim:
    agrees = _close(claimed.get("value"), measured.get("value")) and claimed.get("items") == measured.get("items")
    return Claim(name, _with_ends(claimed), _with_ends(measured), agrees and _same_ends(claimed, measured))


def _same_ends(claimed: Row, measured: Row) -> bool:
    return all(_close(claimed.get(end), measured.get(end)) for end in ("low", "high"))


def _close(claimed: Any, measured: Any) -> bool:
    if claimed is None or measured is None:
        return claimed is measured
    return bool(abs(claimed - measured) <= CLOSE)


def _facts(claimed: Sequence[Row], measured: Sequence[Row]) -> Claim:
    again = {row["fact"]: row for row in measured}
    other = [row["fact"] for row in claimed if not _same_outcome(row, again.get(row["fact"], {}))]
    other += [name for name in again if name not in {row["fact"] for row in claimed}]
    count = str(len(claimed))
    told = f"other outcomes for {', '.join(map(str, other))}" if other else str(len(measured))
    return Claim("facts, one by one", count, told, not other and len(claimed) == len(measured))


def _same_outcome(claimed: Row, measured: Row) -> bool:
    same = all(claimed.get(key) == measured.get(key) for key in OUTCOME)
    return same and all(_close(claimed.get(key), measured.get(key)) for key in OUTCOME_P)


def _leaks(claimed: Row, measured: Row) -> Claim:
    """Which facts leak, how many were tested, and how often each came out."""
    again = {row["fact"]: row for row in measured["facts"]}
    agrees = sorted(claimed["leaking"]) == sorted(measured["leaking"]) and claimed["tested"] == measured["tested"]
    agrees = agrees and len(claimed["facts"]) == len(again)
    agrees = agrees and all(_same_leak(row, again.get(row["fact"])) for row in claimed["facts"])
    return Claim(f"leaks, {claimed['test']}", _named(claimed), _named(measured), agrees)


def _same_leak(claimed: Row, measured: Row | None) -> bool:
    if measured is None or any(claimed[key] != measured[key] for key in ("tried", "leaks")):
        return False
    return bool(abs(claimed["leaked"] - measured["leaked"]) <= COUNTED * claimed["tried"])


def _named(row: Row) -> str:
    counted = sum(fact["leaked"] for fact in row["facts"])
    return f"{', '.join(sorted(row['leaking'])) or 'none'} ({counted} times in all)"


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _with_ends(figure: Row) -> str:
    if figure.get("low") is None:
        return f"{_shown(figure.get('value'))} of {figure.get('items', 0)}"
    return (
        f"{_shown(figure.get('value'))} ({_shown(figure['low'])} to {_shown(figure.get('high'))}) of {figure['items']}"
    )
