"""Holds a saved checkpoint against its base: is it what its record says, and are the facts gone?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from knowscope_tui.core.edits import ParameterChange, VerifyReport
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.demo import bundle, corpus
from knowscope_tui.engine import checkpoint, evaluate
from knowscope_tui.engine.loading import load_model
from knowscope_tui.session.opening import DEMO


def verify_checkpoint(
    folder: Path,
    facts: Sequence[Fact],
    neighbors: Sequence[Fact] | None = None,
    base: str | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    offline: bool = False,
    on_progress: OnProgress = silent,
) -> VerifyReport:
    """Compares the checkpoint in `folder` with its base, tensor by tensor and fact by fact.

    `base` replaces the base that the record names. Prompts go through the chat template when they did in the edit.
    Locality is measured on `neighbors`; None means the demo's other facts when the base is the demo. Raises
    `SaveError`, `ModelNotLoaded`, `HubError`, `PromptError` or `DeviceError`.
    """
    saved = checkpoint.read(folder)
    named = base or saved.base_name
    is_demo = named == DEMO
    source = str(bundle.model_folder()) if is_demo else named
    on_progress("Comparing the weights", 0.1)
    problems = checkpoint.problems(saved, source)
    asked = {(fact.prompt, fact.answer) for fact in facts}
    among = (corpus.demo_facts() if is_demo else []) if neighbors is None else neighbors
    others = [fact for fact in among if (fact.prompt, fact.answer) not in asked]
    texts = corpus.reference_texts()
    on_progress("Asking the base", 0.3)
    chat = bool(saved.record.get("chat"))
    base_model = load_model(source, device=device, dtype=dtype, chat=chat, offline=offline)
    before = evaluate.take(base_model, facts, others, texts)
    del base_model
    on_progress("Asking the checkpoint", 0.7)
    edited = load_model(str(folder), device=device, dtype=dtype, chat=chat)
    after = evaluate.take(edited, facts, others, texts)
    edits = saved.record.get("edits") or [{}]
    return VerifyReport(
        checkpoint=str(folder),
        method=", ".join(dict.fromkeys(str(edit.get("method", "unknown")) for edit in edits)),
        units=tuple(dict.fromkeys(unit for edit in edits for unit in edit.get("units", ()))),
        parameters=tuple(ParameterChange(d.name, d.shape, int((d.values == 0).sum())) for d in saved.deltas),
        before=evaluate.scores(before, before),
        after=evaluate.scores(before, after),
        facts=evaluate.outcomes(before, after),
        neighbors=sum(neighbor.top for neighbor in before.neighbors),
        problems=tuple(problems),
    )
