"""A scope without a model: it answers at once, with figures that are made up but agree with one another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from knowscope_tui.core.edits import (
    EditPlan,
    EditReport,
    EditSpec,
    FactOutcome,
    ParameterChange,
    SavedCheckpoint,
    Scores,
)
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.readings import (
    Ablation,
    Effect,
    Mode,
    Positions,
    Rank,
    Reading,
    SiteReading,
    TokenProb,
    UnitReading,
)
from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.session.protocol import ModelInfo, SourceSpec

FACT = Fact(
    "The capital of France is", "Paris", "capital/france", "France", "capital", (), ("France is governed from",)
)


@dataclass
class StandInScope:
    """What the verbs call, and what they were called with."""

    source: SourceSpec = field(default_factory=SourceSpec)
    facts: tuple[Fact, ...] = (FACT,)
    asked: dict[str, Any] = field(default_factory=dict)
    next_token: str = " Paris"
    difference: float = 0.0

    @property
    def info(self) -> ModelInfo:
        return ModelInfo("demo", True, "cpu", "float32", 4, 128, 512, 128, 1_000_000, (SiteKind.RESID_POST,), (512,), 4)

    def parity(self) -> float:
        return self.difference

    def probe(self, prompt: str, answer: str | None, *, rank: Rank, **asked: Any) -> Reading:
        self.asked = asked | {"prompt": prompt, "answer": answer, "rank": rank}
        units = (
            UnitReading(Unit.feature(3, SiteKind.RESID_POST, 17), 2, 41.2, 1.5, 0.58, selected=True),
            UnitReading(Unit.neuron(2, 345), 2, -8.1, -0.02, None),
        )
        return Reading(
            prompt=prompt,
            answer=answer or "Paris",
            tokens=("<bos>", *(f" {word}" for word in prompt.split())),
            position=2,
            p_answer=0.98,
            rank=1 if answer in (None, "Paris") else 7,
            says_answer=answer in (None, "Paris"),
            top_tokens=(TokenProb(self.next_token, 0.98), TokenProb(" Lyon", 0.01)),
            units=units,
            sites=(
                SiteReading(Site(3, SiteKind.RESID_POST), Family.FEATURE, 9, 1.5, 41.2),
                SiteReading(Site(2, SiteKind.MLP_ACT), Family.NEURON, 512, 0.1, 8.1),
            ),
            ranked_by=rank,
        )

    def ablate(
        self,
        prompt: str,
        answer: str,
        units: Iterable[Unit],
        *,
        mode: Mode,
        factor: float,
        positions: Positions,
        substitute: bool,
        **asked: Any,
    ) -> Effect:
        self.asked = asked
        before, after = (TokenProb(" Paris", 0.98),), (TokenProb(" Lyon", 0.5),)
        ablation = Ablation(tuple(units), mode, factor, positions, substitute)
        return Effect(prompt, answer, ablation, 0.98, 0.12, 1, 3, before, after, " Paris.", " Lyon.")

    def carry_out(
        self, spec: EditSpec, *, neighbors: Sequence[Fact] | None, dry_run: bool, on_progress: object
    ) -> EditReport:
        self.asked = {"spec": spec, "neighbors": neighbors, "dry_run": dry_run}
        unit = Unit.feature(1, SiteKind.MLP_OUT, 3)
        change = ParameterChange("model.layers.1.mlp.down_proj.weight", (128, 512), 65)
        before = Scores(0.0, 0.0, 1.0, 0.0, 0.98, 0.9, 0.97, {"same_relation": 1.0})
        after = Scores(1.0, None, 0.98, float("nan"), 0.01, 0.1, 0.96, {"same_relation": 0.97})
        outcomes = tuple(FactOutcome(fact, True, True, 0.98, 0.01, " Lyon", 1, 1) for fact in spec.facts)
        plan = EditPlan(spec, 0.1, (unit,), (change,))
        return EditReport(plan, before, after, outcomes, neighbors=5, applied=not dry_run)

    def save(self, folder: Path, _on_progress: object) -> SavedCheckpoint:
        self.asked["saved"] = folder
        return SavedCheckpoint(str(folder), 8_000_000, ("model.layers.1.mlp.down_proj.weight",))
