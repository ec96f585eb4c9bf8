"""Holds a saved checkpoint against its base: is it what its record says, and does it do what it claims?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from knowscope_tui.core.edit_json import Json, proof_json
from knowscope_tui.core.edits import ParameterChange
from knowscope_tui.core.fact_names import FactNames
from knowscope_tui.core.facts import Fact, distinct
from knowscope_tui.core.kept import Kept, Told, kept_by_all
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.proof import LeakOptions, Proof, VerifyReport
from knowscope_tui.core.record import RECORD, Row, unbroken
from knowscope_tui.demo import bundle, corpus
from knowscope_tui.engine.loading import load_model
from knowscope_tui.engine.proof import evaluate
from knowscope_tui.engine.proof.leaks import LeakBaseline, leak_tests
from knowscope_tui.engine.saving import saved as saving
from knowscope_tui.engine.saving.saved import Saved
from knowscope_tui.errors import SaveError, UsageError
from knowscope_tui.session.claims import claims_of, leak_claims
from knowscope_tui.session.opening import DEMO


@dataclass(frozen=True)
class _Asked:
    """What the record was measured on, and how."""

    facts: tuple[Fact, ...]
    kept: Kept
    leaks: LeakOptions | None
    chat: bool


def verify_checkpoint(
    folder: Path,
    facts: Sequence[Fact] | None = None,
    neighbors: Sequence[Fact] | None = None,
    base: str | None = None,
    *,
    retain: Sequence[Fact] | None = None,
    quick: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    offline: bool = False,
    on_progress: OnProgress = silent,
) -> VerifyReport:
    """Compares the checkpoint in `folder` with its base, tensor by tensor, and measures every figure it claims again.

    `facts` may be left out when the record includes them; `neighbors` and `retain` must be named again when they were
    named for the edit. `base` replaces the base that the record names. `quick` leaves out the leak tests. Raises
    `SaveError`, `UsageError` for facts that are not the recorded ones, `ModelNotLoaded`, `HubError`, `PromptError` or
    `DeviceError`.
    """
    saved = saving.read(folder)
    record = saved.record
    named = base or saved.base_name
    with unbroken(folder):
        names = FactNames(str(record["salt"]))
        among = corpus.demo_facts() if named == DEMO else []
        asked = _asked(record, names, among, facts, neighbors, retain)
        problems = [*_gaps(record), *_disagreements(saved)]
    source = str(bundle.model_folder()) if named == DEMO else named
    on_progress("Comparing the weights", 0.1)
    with unbroken(folder):
        problems = [*saving.problems(saved, source), *problems]
    proof = _measured(
        folder, source, replace(asked, leaks=None) if quick else asked, device, dtype, offline, on_progress
    )
    with unbroken(folder):
        claimed: Json | None = record.get("proof")
        claims = () if claimed is None else tuple(claims_of(claimed, proof_json(proof, names)))
        return VerifyReport(
            checkpoint=str(folder),
            method=", ".join(_methods(record)),
            units=tuple(dict.fromkeys(unit for edit in record["edits"] for unit in edit["units"])),
            parameters=tuple(_parameters(saved)),
            proof=proof,
            claims=claims,
            problems=tuple(problems),
            skipped=leak_claims(claimed) if quick and claimed is not None else (),
            unchecked=tuple(_unchecked(record)),
        )


def _measured(
    folder: Path, source: str, asked: _Asked, device: str, dtype: str, offline: bool, on_progress: OnProgress
) -> Proof:
    """The proof of the checkpoint in `folder` against the base `source`."""
    texts, kept = corpus.reference_texts(), asked.kept
    on_progress("Asking the base", 0.3)
    model = load_model(source, device=device, dtype=dtype, chat=asked.chat, offline=offline)
    before = evaluate.take(model, asked.facts, kept.held, texts, kept.retained)
    baseline = None
    if asked.leaks is not None:
        baseline = LeakBaseline.take(model, asked.facts, kept.held, asked.leaks, on_progress)
    del model
    on_progress("Asking the checkpoint", 0.6)
    edited = load_model(str(folder), device=device, dtype=dtype, chat=asked.chat)
    proof = evaluate.prove(before, evaluate.take(edited, asked.facts, kept.held, texts, kept.retained))
    return proof if baseline is None else replace(proof, leaks=tuple(leak_tests(edited, baseline, on_progress)))


# --- what the record was measured on --------------------------------------------------------------------------------


def _asked(
    record: Row,
    names: FactNames,
    among: Sequence[Fact],
    facts: Sequence[Fact] | None,
    neighbors: Sequence[Fact] | None,
    retain: Sequence[Fact] | None,
) -> _Asked:
    settings: Mapping[str, Any] = record["settings"]
    whole = _facts_of(record, facts, names)
    _check_named("neighbors", neighbors, names, settings)
    _check_named("retain", None if retain is None else distinct(retain), names, settings)
    told = [Told(None, int(seed)) for seed in settings["seeds"]]
    told += [] if retain is None else [Told(tuple(retain))]
    leaks = settings["leaks"]
    return _Asked(
        whole,
        kept_by_all(whole, among, told, neighbors),
        None if leaks is None else LeakOptions(**leaks),
        bool(record.get("chat")),
    )


def _facts_of(record: Row, facts: Sequence[Fact] | None, names: FactNames) -> tuple[Fact, ...]:
    """The facts to ask for: those given, which must be the recorded ones, or those that the record includes."""
    recorded = record["settings"]["facts"]
    if facts is None:
        rows = record.get("facts")
        if not rows:
            raise UsageError("The record does not include the facts' text.", "Name the fact file with --facts.")
        try:
            facts = [Fact.from_json(row) for row in rows]
        except ValueError as error:
            raise SaveError(f"A fact in the record is broken: {error}.", "Name the fact file with --facts.") from None
    whole = distinct(facts)
    if recorded is not None and names.fingerprint(whole) != recorded:
        raise UsageError(
            "These are not the facts that the edit was made for.", "Name the very file that was edited, unchanged."
        )
    return whole


def _check_named(what: str, facts: Sequence[Fact] | None, names: FactNames, settings: Mapping[str, Any]) -> None:
    """Raises `UsageError` when facts were named for the edit and not, or others, are named for its verification."""
    recorded = settings[what]
    given = "default" if facts is None else names.fingerprint(facts)
    if given != recorded:
        raise UsageError(
            f"The figures were claimed with other facts as --{what}.",
            f"Leave --{what} out." if recorded == "default" else f"Name the file that --{what} named for the edit.",
        )


# --- what the record says of itself ---------------------------------------------------------------------------------


def _gaps(record: Row) -> Iterator[str]:
    """What a record of this kind has and this one has not, a sentence each."""
    edits, proof = record["edits"], record.get("proof")
    if not edits:
        yield f"{RECORD} names no edit."
    if proof is None:
        if edits and all("after" in edit for edit in edits):
            yield f"{RECORD} claims no figures, though every edit was measured."
        return
    if (record["settings"]["leaks"] is None) != (not proof["leaks"]):
        yield f"{RECORD} names results of leak tests or how they were made, and not both."
    if len(edits) == 1 and "after" in edits[0] and edits[0]["number"] == 1:
        for key in ("before", "after", "facts", "leaks", "control"):
            if edits[0][key] != proof[key]:
                yield f"{RECORD} gives the edit other figures under {key!r} than its proof."


def _disagreements(saved: Saved) -> Iterator[str]:
    """Where the record and the delta name different edits, a sentence each."""
    record, delta = saved.record, saved.delta
    if delta.about.get("method") != ", ".join(_methods(record)):
        yield f"{RECORD} names another method than the delta."
    if list(delta.about.get("facts", ())) != [name for edit in record["edits"] for name in edit["edited"]]:
        yield f"{RECORD} names other facts than the delta."
    rows = [row for edit in record["edits"] for row in edit["parameters"]]
    if not all(edit["parameters"] for edit in record["edits"]):
        return
    shapes = {row["name"]: tuple(row["shape"]) for row in rows}
    if shapes.keys() != {part.name for part in delta.parts}:
        yield f"{RECORD} names other parameters than the delta."
    for part in delta.parts:
        if shapes.get(part.name, part.change.shape) != part.change.shape:
            yield f"{RECORD} gives {part.name} another shape than the delta."
        if len(record["edits"]) == 1 and [row["positions"] for row in rows if row["name"] == part.name] != [
            part.change.positions
        ]:
            yield f"{RECORD} counts other positions in {part.name} than the delta."


def _unchecked(record: Row) -> Iterator[str]:
    """What is said and cannot be measured from the folder."""
    edits = record["edits"]
    if any(edit.get("control") for edit in edits):
        yield "the random control"
    if any(edit.get("frontier") for edit in edits):
        yield "the frontier of τ2"
    if len(edits) > 1:
        yield "the figures of each edit by itself"
    yield "why these units were chosen, and how long that took"


def _methods(record: Row) -> list[str]:
    return list(dict.fromkeys(str(edit["method"]) for edit in record["edits"]))


def _parameters(saved: Saved) -> Iterator[ParameterChange]:
    """What the delta changes, with the layers as the record names them."""
    recorded = {row["name"]: row for edit in saved.record["edits"] for row in edit["parameters"]}
    for part in saved.delta.parts:
        row = recorded.get(part.name, {})
        change = part.change
        values = getattr(change, "values", None)
        zeroed = 0 if values is None else int((values == 0).sum())
        yield ParameterChange(
            part.name, int(row.get("layer", 0)), part.shape, change.positions, zeroed, row.get("rank")
        )
