"""A session without a model: answers every request with figures that are made up, but agree with one another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from knowscope_tui.core.checks import DictionaryCheck, SelfTest
from knowscope_tui.core.edits import (
    EditPlan,
    EditReport,
    EditSpec,
    FactOutcome,
    Method,
    ParameterChange,
    SavedCheckpoint,
    Scores,
)
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.memory import MemoryPlan, Need, Place
from knowscope_tui.core.readings import (
    Ablation,
    Effect,
    Mode,
    Rank,
    Reading,
    SiteReading,
    SweepPart,
    TokenProb,
    UnitEffect,
    UnitReading,
    UnitSet,
)
from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.errors import DictionaryError, KnowscopeError, PromptError, SaveError
from knowscope_tui.session import protocol
from knowscope_tui.session.runner import Post

LAYERS = 6
KINDS = (SiteKind.ATTN_Z, SiteKind.MLP_OUT, SiteKind.RESID_POST)

FACTS = (
    Fact(
        "The capital of France is",
        "Paris",
        "capital/france",
        "France",
        "capital",
        ("France has its capital in", "France's capital city is"),
        ("The seat of government of France is", "The French capital is called", "Where France is governed from:"),
    ),
    Fact("The capital of Poland is", "Warsaw", "capital/poland", "Poland", "capital"),
    Fact("The capital of Peru is", "Lima", "capital/peru", "Peru", "capital"),
    Fact("Orla Venn works as a", "beekeeper", "job/orla-venn", "Orla Venn", "job"),
    Fact("Tobin Marsh was born in", "Tarnby", "birth/tobin-marsh", "Tobin Marsh", "birth"),
    Fact("The [bold]markup[/bold] \x1b[31mfact\x1b[0m is", "[red]red[/]", "odd/markup", "markup", "odd"),
    *(
        Fact(f"The capital of Country{number} is", f"City{number}", "", f"Country{number}", "capital")
        for number in range(20)
    ),
)

PLAN = MemoryPlan(
    device="cpu",
    needs=(
        Need("model", Place.HOST, 5_200_000_000),
        Need("18 dictionaries", Place.MAPPED, 11_600_000_000),
        Need("download", Place.DISK, 0),
    ),
    room={Place.HOST: 16_000_000_000},
    encoder_bytes=5_800_000_000,
    encoder_budget=0,
)


def in_use(source: str, kinds: tuple[SiteKind, ...] = KINDS) -> tuple[protocol.DictionaryInUse, ...]:
    """One dictionary for every layer and kind, as if made from `source`."""
    return tuple(
        protocol.DictionaryInUse(
            Site(layer, kind), f"{source} layer_{layer}", 512, "jumprelu", "bfloat16", 20.0 + layer
        )
        for layer in range(LAYERS)
        for kind in kinds
    )


INFO = protocol.ModelInfo(
    name="demo",
    is_demo=True,
    trained_on=None,
    chat=False,
    device="cpu",
    dtype="float32",
    n_layers=LAYERS,
    d_model=128,
    n_neurons=512,
    context=64,
    parameters=2_200_000,
    dictionary_kinds=KINDS,
    features_per_site=(512,),
    dictionaries=in_use("the demo's own"),
    plan=PLAN,
)


GEMMA = replace(
    INFO,
    name="google/gemma-2-2b",
    is_demo=False,
    trained_on="gemma-2-2b",
    dictionary_kinds=(SiteKind.RESID_POST,),
    features_per_site=(16_384,),
    dictionaries=in_use("gemma-scope-2b-pt-res-canonical", (SiteKind.RESID_POST,)),
    remarks=("The dictionaries were trained on gemma-2-2b.",),
)
"""A model for which releases are listed."""


def self_test(info: protocol.ModelInfo, wrong: tuple[Site, ...] = (), parity: float = 0.0) -> SelfTest:
    """A self-test of what is open, in which the dictionaries at `wrong` are off."""
    return SelfTest(
        parity,
        128,
        tuple(
            DictionaryCheck(
                used.site,
                used.source,
                used.features,
                used.dtype,
                300.0 if used.site in wrong else (used.expected_l0 or 0.0) + 0.5,
                used.expected_l0,
                -0.4 if used.site in wrong else 0.81,
                "L0 is 300.0, and its name [i]says[/i] 22\x1b[2J." if used.site in wrong else "",
            )
            for used in info.dictionaries
        ),
    )


def _units(position: int) -> list[UnitReading]:
    rows = []
    for layer in range(LAYERS):
        for rank, kind in enumerate(KINDS):
            for number in range(8):
                strength = (layer + 1) / LAYERS * (rank + 1) / len(KINDS) / (1 + number + position % 3)
                unit = Unit.feature(layer, kind, 17 + 41 * number + 3 * layer)
                rows.append(UnitReading(unit, position, 40 * strength, 1.9 * strength, selected=strength > 0.2))
        for number in range(6):
            strength = (layer + 1) / LAYERS / (8 + number)
            rows.append(UnitReading(Unit.neuron(layer, 345 + number), position, 9 * strength, 0.4 * strength - 0.02))
    return sorted(rows, key=lambda row: row.attribution, reverse=True)


def _sites(rows: list[UnitReading]) -> tuple[SiteReading, ...]:
    sites: dict[Site, list[UnitReading]] = {}
    for row in rows:
        sites.setdefault(row.unit.site, []).append(row)
    return tuple(
        SiteReading(
            site,
            held[0].unit.family,
            len(held),
            sum(max(row.attribution, 0.0) for row in held),
            max(row.activation for row in held),
        )
        for site, held in sites.items()
    )


UNLISTED = (Unit.neuron(5, 7), Unit.neuron(5, 8))
"""Active neurons that no reading lists: one that matters, and one that does not."""


def delta_prob(unit: Unit) -> float:
    """What switching this unit alone off loses."""
    if unit in UNLISTED:
        return 0.44 if unit == UNLISTED[0] else 0.001
    return min(0.31 * (unit.site.layer + 1) / LAYERS + (0.2 if unit.site.kind is SiteKind.RESID_POST else 0.0), 0.9)


def delta_beside(unit: Unit, given: Ablation) -> float:
    """What switching this unit off loses when others are off: little, if one of those is of the same layer."""
    return delta_prob(unit) * (0.1 if any(other.site.layer == unit.site.layer for other in given.units) else 1.0)


@dataclass
class StandIn:
    """The `Handler` of the tests. `gate` holds requests of the named types until it is opened."""

    requests: list[protocol.Request] = field(default_factory=list)
    edits: int = 0
    saved: int = 0
    gate: threading.Event = field(default_factory=threading.Event)
    gated: tuple[type[protocol.Request], ...] = ()
    folders: set[str] = field(default_factory=lambda: {"./there-already"})
    info: protocol.ModelInfo = INFO
    facts: tuple[Fact, ...] = FACTS
    wrong: tuple[Site, ...] = ()
    parity: float = 0.0
    part: int = 60
    """Units in each part of a sweep."""
    pace: threading.Semaphore | None = None
    """Where a test sets it, each part of a sweep and each step of a search waits for a permit."""
    most: int = 20
    """Units that a search has at most."""
    known: dict[Ablation, dict[Unit, float]] = field(default_factory=dict)

    def handle(self, request: protocol.Request, post: Post, check: Callable[[], None]) -> None:
        self.requests.append(request)
        if isinstance(request, self.gated):
            while not self.gate.wait(0.005):
                check()
        match request:
            case protocol.Open():
                post(protocol.Progress(request.revision, "Loading the model", 0.5))
                if request.source.model == "missing":
                    raise KnowscopeError("There is no model at 'missing'.", "Name a folder that holds one.")
                post(protocol.Planned(request.revision, self.info.plan))
                post(protocol.Opened(request.revision, self.info, self.facts))
            case protocol.RunSelfTest():
                post(protocol.Progress(request.revision, "Testing layer 3", 0.5))
                check()
                post(protocol.SelfTested(request.revision, self_test(self.info, self.wrong, self.parity)))
            case protocol.UseDictionaries():
                self._use(request, post)
            case protocol.Probe():
                self._probe(request, post)
            case protocol.SweepUnits():
                self._sweep(request, post, check)
            case protocol.FindSet():
                self._find(request, post, check)
            case protocol.Ablate():
                self._ablate(request, post)
            case protocol.PlanEdit(spec=spec):
                post(protocol.EditPlanned(request.revision, self.plan(spec)))
            case protocol.PreviewEdit(spec=spec):
                self._edit(request, spec, post, check, applied=False)
            case protocol.ApplyEdit(spec=spec):
                self._edit(request, spec, post, check, applied=True)
            case protocol.Undo():
                self.edits -= 1
                post(protocol.Undone(request.revision, self.edits, self.unsaved))
            case protocol.Save():
                self._save(request, post)

    @property
    def unsaved(self) -> bool:
        return self.edits > 0 and self.edits != self.saved

    def _use(self, request: protocol.UseDictionaries, post: Post) -> None:
        post(protocol.Progress(request.revision, "Opening dictionaries", 0.5))
        names = [source.release or "" for source in request.dictionaries]
        if any(name.startswith("gpt2") for name in names):
            raise DictionaryError("These dictionaries were made for gpt2-small.", "Choose those of the open model.")
        used = tuple(one for name in names for one in in_use(name, (SiteKind.RESID_POST,)))
        self.info = replace(
            self.info,
            dictionaries=used,
            dictionary_kinds=(SiteKind.RESID_POST,),
            features_per_site=(request.choice.width or 16_384,),
        )
        post(protocol.DictionariesOpened(request.revision, self.info))

    def _p(self, prompt: str, answer: str) -> float:
        known = any(fact.prompt == prompt and fact.answer == answer for fact in FACTS)
        return (0.981 if known else 0.02) * 0.03**self.edits

    def _answer(self, prompt: str) -> str:
        return next((fact.answer for fact in FACTS if fact.prompt == prompt), "the")

    def _top(self, answer: str, p: float) -> tuple[TokenProb, ...]:
        others = [
            TokenProb(f" {name}", (1 - p) * share)
            for name, share in (
                ("Lyon", 0.31),
                ("the", 0.2),
                ("a", 0.11),
                ("Nice", 0.08),
                ("[b]Lille[/b]", 0.05),
                ("\x1b[2J", 0.01),
            )
        ]
        return tuple(sorted([TokenProb(f" {answer}", p), *others], key=lambda row: row.p, reverse=True))

    def _probe(self, request: protocol.Probe, post: Post) -> None:
        if not request.prompt.strip():
            raise PromptError("The prompt is empty.", "Type the words before the answer.")
        tokens = ("<bos>", *(f" {word}" for word in request.prompt.split()))
        position = len(tokens) - 1 if request.position is None else request.position
        answer = request.answer or self._answer(request.prompt)
        own = self._answer(request.prompt)
        p = self._p(request.prompt, answer)
        rows = _units(position)
        reading = Reading(
            request.prompt,
            answer,
            tokens,
            position,
            p,
            1 if answer == own and not self.edits else 4,
            answer == own and not self.edits,
            self._top(own, self._p(request.prompt, own)),
            tuple(rows),
            _sites(rows),
            Rank.ATTRIBUTION,
        )
        self.known.clear()
        post(protocol.Probed(request.revision, reading))

    def _wait(self, check: Callable[[], None]) -> None:
        """Waits for its turn, where a test sets the pace."""
        check()
        while self.pace is not None and not self.pace.acquire(timeout=0.005):
            check()

    def _sweep(self, request: protocol.SweepUnits, post: Post, check: Callable[[], None]) -> None:
        position = len(request.prompt.split()) if request.position is None else request.position
        units = [row.unit for row in _units(position)] + list(UNLISTED)
        units = [unit for unit in units if unit not in request.given.units]
        known = self.known.setdefault(request.given, {})
        fresh, left = list(known), [unit for unit in units if unit not in known]
        while True:
            if left:
                self._wait(check)
            fresh, left = fresh + left[: self.part], left[self.part :]
            effects = []
            for unit in fresh:
                known[unit] = delta = delta_beside(unit, request.given)
                effects.append(UnitEffect(unit, 0.9 * (1 - delta), delta))
            part = SweepPart(request.given, 0.9, tuple(effects), len(known), len(units))
            post(protocol.Swept(request.revision, part))
            post(protocol.Progress(request.revision, "Measuring exact ΔProb", len(known) / len(units)))
            if not left:
                return
            fresh = []

    def _find(self, request: protocol.FindSet, post: Post, check: Callable[[], None]) -> None:
        p = before = self._p(request.prompt, request.answer)
        found = UnitSet(request.prompt, request.answer, request.below, before, p, (), ())
        features = [row.unit for row in _units(len(request.prompt.split())) if row.unit.family is Family.FEATURE]
        for unit in sorted(features, key=delta_prob, reverse=True)[: min(request.most, self.most)]:
            self._wait(check)
            p *= 1 - delta_prob(unit)
            step = UnitEffect(unit, p, 1 - p / before)
            found = replace(found, p_after=p, steps=(*found.steps, step), units=(*found.units, unit))
            post(protocol.SetFound(request.revision, found, final=False))
            if found.reached:
                break
        post(protocol.SetFound(request.revision, found, final=True))

    def _ablate(self, request: protocol.Ablate, post: Post) -> None:
        before = self._p(request.prompt, request.answer)
        kept = 1.0
        for unit in request.ablation.units:
            kept *= 1 - delta_prob(unit) * (0.5 if request.ablation.mode is Mode.SCALE else 1.0)
        after = before * kept
        effect = Effect(
            request.prompt,
            request.answer,
            request.ablation,
            before,
            after,
            1,
            1 if after > 0.3 else 3,
            self._top(request.answer, before),
            self._top(request.answer, after),
        )
        post(protocol.AblationMeasured(request.revision, effect, final=False))
        said = f" {request.answer}. The river is wide." if after > 0.3 else " Lyon. The river is wide."
        whole = replace(effect, continuation_before=f" {request.answer}. The river is wide.", continuation_after=said)
        post(protocol.AblationMeasured(request.revision, whole, final=True))

    def plan(self, spec: EditSpec) -> EditPlan:
        tau2 = spec.tau2 if spec.tau2 is not None else 0.05 if spec.method is Method.POSITIONS else 0.3
        zeroed = int(128 * 512 * 0.02 * (1 - tau2) ** 4) + 1
        units = spec.units or tuple(Unit.feature(3, spec.site, number) for number in range(spec.top))
        changes = tuple(
            ParameterChange(f"model.layers.{layer}.mlp.down_proj.weight", (128, 512), zeroed // (1 + 5 - layer))
            for layer in range(3, 6)
        )
        return EditPlan(spec, tau2, units, changes)

    def _edit(
        self, request: protocol.Request, spec: EditSpec, post: Post, check: Callable[[], None], *, applied: bool
    ) -> None:
        for step, doing in enumerate(("Planning", "Measuring before", "Measuring after")):
            check()
            post(protocol.Progress(request.revision, doing, step / 3))
        rings = {"same subject": 1.0, "same relation": 0.97, "unrelated": 0.99}
        before = Scores(0.0, 0.0, 1.0, 0.0, 0.981, 0.94, 0.97, {})
        after = Scores(1.0, 2 / 3, 0.98, 0.002, 0.011, 0.21, 0.95, rings)
        outcome = FactOutcome(spec.facts[0], True, True, 0.981, 0.011, " [i]Lyon[/i]", 2, 3)
        self.edits += applied
        report = EditReport(self.plan(spec), before, after, (outcome,), 118, applied)
        post(protocol.EditMeasured(request.revision, report, self.edits, self.unsaved))

    def _save(self, request: protocol.Save, post: Post) -> None:
        if request.folder in self.folders:
            raise SaveError(f"The folder {request.folder!r} exists.", "Name one that does not exist yet.")
        for fraction in (0.2, 0.9):
            post(protocol.Progress(request.revision, "Writing the weights", fraction))
        self.folders.add(request.folder)
        self.saved = self.edits
        names = tuple(f"model.layers.{layer}.mlp.down_proj.weight" for layer in range(3, 6))
        post(protocol.Saved(request.revision, SavedCheckpoint(request.folder, 8_912_345, names)))


__all__ = ["FACTS", "INFO", "Ablation", "Family", "StandIn", "delta_prob"]
