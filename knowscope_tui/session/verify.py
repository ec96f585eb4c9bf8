"""Holds a saved checkpoint against its base: is it what its record says, and does it do what it claims?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from knowscope_tui.core.edit_json import Json, proof_json
from knowscope_tui.core.edits import ParameterChange
from knowscope_tui.core.fact_names import FactNames
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.proof import Claim, LeakOptions, Proof, VerifyReport
from knowscope_tui.demo import bundle, corpus
from knowscope_tui.engine.loading import load_model
from knowscope_tui.engine.proof import evaluate
from knowscope_tui.engine.proof.leaks import LeakBaseline, leak_tests
from knowscope_tui.engine.saving import saved as saving
from knowscope_tui.engine.saving.saved import Saved
from knowscope_tui.errors import SaveError, UsageError
from knowscope_tui.session.kept import split
from knowscope_tui.session.opening import DEMO

CLOSE = 2e-3
"""How far a mean probability or ΔPPL may be from what was claimed. Shares count items, and must be the same."""


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
    names = FactNames(str(record.get("salt", "")) or None)
    settings: Mapping[str, Any] = record.get("settings") or {}
    asked = _facts_of(record, facts, names, settings)
    named = base or saved.base_name
    is_demo = named == DEMO
    source = str(bundle.model_folder()) if is_demo else named
    on_progress("Comparing the weights", 0.1)
    problems = saving.problems(saved, source)
    _check_named("neighbors", neighbors, names, settings)
    _check_named("retain", retain, names, settings)
    among = corpus.demo_facts() if is_demo else []
    kept = split(asked, among, retain=retain, neighbors=neighbors, seed=int(settings.get("seed", 0)))
    options = None if quick or not settings.get("leaks") else LeakOptions(**settings["leaks"])
    texts = corpus.reference_texts()
    chat = bool(record.get("chat"))
    on_progress("Asking the base", 0.3)
    model = load_model(source, device=device, dtype=dtype, chat=chat, offline=offline)
    before = evaluate.take(model, asked, kept.held, texts, kept.retained)
    baseline = None if options is None else LeakBaseline.take(model, asked, kept.held, options)
    del model
    on_progress("Asking the checkpoint", 0.6)
    edited = load_model(str(folder), device=device, dtype=dtype, chat=chat)
    proof = evaluate.prove(before, evaluate.take(edited, asked, kept.held, texts, kept.retained))
    if baseline is not None:
        proof = replace(proof, leaks=tuple(leak_tests(edited, baseline, on_progress)))
    edits = record.get("edits") or [{}]
    return VerifyReport(
        checkpoint=str(folder),
        method=", ".join(dict.fromkeys(str(edit.get("method", "unknown")) for edit in edits)),
        units=tuple(dict.fromkeys(unit for edit in edits for unit in edit.get("units", ()))),
        parameters=tuple(_parameters(saved)),
        proof=proof,
        claims=tuple(_claims(record.get("proof"), proof, names)),
        problems=tuple(problems),
    )


def _facts_of(
    record: Mapping[str, Any], facts: Sequence[Fact] | None, names: FactNames, settings: Mapping[str, Any]
) -> list[Fact]:
    """The facts to ask for: those given, which must be the recorded ones, or those that the record includes."""
    if facts is None:
        rows = record.get("facts")
        if not rows:
            raise UsageError("The record does not include the facts' text.", "Name the fact file with --facts.")
        try:
            return [Fact.from_json(row) for row in rows]
        except ValueError as error:
            raise SaveError(f"A fact in the record is broken: {error}.", "Name the fact file with --facts.") from None
    recorded = settings.get("facts")
    if recorded and names.fingerprint(facts) != recorded:
        raise UsageError(
            "These are not the facts that the edit was made for.", "Name the very file that was edited, unchanged."
        )
    return list(facts)


def _check_named(what: str, facts: Sequence[Fact] | None, names: FactNames, settings: Mapping[str, Any]) -> None:
    """Raises `UsageError` when facts were named for the edit and not, or others, are named for its verification."""
    recorded = settings.get(what, "default")
    given = "default" if facts is None else names.fingerprint(facts)
    if given != recorded:
        raise UsageError(
            f"The figures were claimed with other facts as --{what}.",
            f"Leave --{what} out." if recorded == "default" else f"Name the file that --{what} named for the edit.",
        )


def _parameters(saved: Saved) -> Iterator[ParameterChange]:
    """What the delta changes, with the layers as the record names them."""
    recorded = {row["name"]: row for edit in saved.record["edits"] for row in edit.get("parameters", ())}
    for part in saved.delta.parts:
        row = recorded.get(part.name, {})
        change = part.change
        values = getattr(change, "values", None)
        zeroed = 0 if values is None else int((values == 0).sum())
        yield ParameterChange(
            part.name, int(row.get("layer", 0)), part.shape, change.positions, zeroed, row.get("rank")
        )


def _claims(claimed: Json | None, proof: Proof, names: FactNames) -> Iterator[Claim]:
    """Every figure of the record's proof beside what was measured; what was not measured this time is left out."""
    if claimed is None:
        return
    measured = proof_json(proof, names)
    for key in ("reliability", "generalization", "locality", "retained"):
        yield _share_claim(key, claimed["after"][key], measured["after"][key])
    for ring, figure in claimed["after"].get("rings", {}).items():
        yield _share_claim(f"locality, {ring}", figure, measured["after"]["rings"].get(ring, {}))
    yield _number_claim("delta_ppl", claimed["after"]["delta_ppl"]["value"], measured["after"]["delta_ppl"]["value"])
    for key in ("p_answer", "p_paraphrases", "p_neighbors"):
        yield _number_claim(key, claimed["after"].get(key), measured["after"][key])
    again = {row["fact"]: row for row in measured["facts"]}
    lost = [row["fact"] for row in claimed["facts"] if again.get(row["fact"], {}).get("erased") != row["erased"]]
    yield Claim("facts, one by one", f"{len(claimed['facts'])}", _but(len(claimed["facts"]), lost), not lost)
    leaks = {row["test"]: row for row in measured["leaks"]}
    for row in claimed.get("leaks", ()):
        if row["test"] in leaks:
            found = leaks[row["test"]]["leaking"]
            agrees = sorted(found) == sorted(row["leaking"])
            yield Claim(f"leaks, {row['test']}", _named(row["leaking"]), _named(found), agrees)


def _share_claim(name: str, claimed: Mapping[str, Any], measured: Mapping[str, Any]) -> Claim:
    same = all(claimed.get(key) == measured.get(key) for key in ("value", "items"))
    return Claim(name, _shown(claimed.get("value")), _shown(measured.get("value")), same)


def _number_claim(name: str, claimed: float | None, measured: float | None) -> Claim:
    if claimed is None or measured is None:
        return Claim(name, _shown(claimed), _shown(measured), claimed is measured)
    return Claim(name, _shown(claimed), _shown(measured), abs(claimed - measured) <= CLOSE)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _named(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _but(count: int, other: Sequence[str]) -> str:
    return f"{count}" if not other else f"other outcomes for {', '.join(other)}"
