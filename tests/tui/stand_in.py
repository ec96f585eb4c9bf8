"""A session without a model: answers every request with figures that are made up, but agree with one another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from knowscope_tui.core.checks import DictionaryCheck, SelfTest
from knowscope_tui.core.edits import (
    Conflict,
    EditPlan,
    EditSpec,
    Frontier,
    FrontierPoint,
    JournalEntry,
    JournalState,
    Method,
    ParameterChange,
    UnitChange,
)
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.memory import MemoryPlan, Need, Place
from knowscope_tui.core.proof import (
    Control,
    EditReport,
    FactOutcome,
    Figure,
    Leak,
    LeakResult,
    LeakTest,
    Proof,
    Scores,
)
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
from knowscope_tui.core.saved import Placed, PlannedFile, SavedCheckpoint, SavePlan
from knowscope_tui.core.studies import Estimate, Findings, PaperClaim, Plot, PlotKind, Series, Verdict
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
    journal: list[JournalEntry] = field(default_factory=list)
    undone: list[JournalEntry] = field(default_factory=list)
    applied: int = 0
    """Edits that were ever applied."""
    saved: tuple[int, ...] = ()
    """Numbers of the edits in force that the last checkpoint holds."""
    conflicting: bool = False
    """Whether an edit conflicts with one that is applied."""
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
            case protocol.FindFrontier(spec=spec):
                self._frontier(request, spec, post, check)
            case protocol.Undo():
                self.undone.append(self.journal.pop())
                self._changed(request, post)
            case protocol.Redo(number=number):
                at = next((i for i, entry in enumerate(self.undone) if entry.number == number), -1)
                self.journal.append(self.undone.pop(at))
                self._changed(request, post)
            case protocol.SwitchEdit(number=number, on=on):
                self.journal = [replace(entry, on=on) if entry.number == number else entry for entry in self.journal]
                self._changed(request, post)
            case protocol.PlanSave():
                post(protocol.SavePlanned(request.revision, self._save_plan(request.folder)))
            case protocol.RunStudy():
                self._study(request, post)
            case protocol.Save():
                self._save(request, post)

    @property
    def in_force(self) -> tuple[int, ...]:
        return tuple(entry.number for entry in self.journal if entry.on)

    @property
    def edits(self) -> int:
        return len(self.in_force)

    def _changed(self, request: protocol.Request, post: Post) -> None:
        unsaved = bool(self.in_force) and self.in_force != self.saved
        journal = JournalState(tuple(self.journal), tuple(self.undone), unsaved)
        post(protocol.JournalChanged(request.revision, journal))

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
        tau2 = None
        if spec.method.has_tau2:
            tau2 = spec.tau2 if spec.tau2 is not None else 0.05 if spec.method is Method.POSITIONS else 0.3
        changed = int(128 * 512 * 0.02 * (1 - (tau2 or 0.0)) ** 4) + 1
        units = spec.units or tuple(Unit.feature(3, spec.site, number) for number in range(spec.top))
        by_layer = {layer: changed // (1 + 5 - layer) for layer in range(3, 6)}
        changes = tuple(
            ParameterChange(
                f"model.layers.{layer}.mlp.down_proj.weight",
                layer,
                (128, 512),
                positions,
                positions if spec.method.has_tau2 else 0,
                rank=8 if spec.method is Method.PRECISE else None,
                relative_norm=0.004 * (layer - 2),
            )
            for layer, positions in by_layer.items()
        )
        reach = tuple(
            UnitChange(unit, {layer: positions // (1 + at) for layer, positions in by_layer.items()})
            for at, unit in enumerate(units)
        )
        conflicts = (Conflict(spec.facts[0], FACTS[1], 0.97, 1),) if self.conflicting else ()
        return EditPlan(spec, tau2, units, changes, self.info.parameters, reach, conflicts=conflicts)

    def _frontier(self, request: protocol.Request, spec: EditSpec, post: Post, check: Callable[[], None]) -> None:
        points: list[FrontierPoint] = []
        for step in range(8):
            self._wait(check)
            tau2 = 0.64 / 2**step
            gone, kept = min(1.0, 0.1 + 0.2 * step), min(1.0, 1.18 - 0.03 * step)
            within = gone >= spec.limits.min_reliability and kept >= spec.limits.min_locality
            plan = self.plan(replace(spec, tau2=tau2))
            rings = {"same subject": kept - 0.02, "same relation": kept - 0.04, "unrelated": kept}
            points.append(FrontierPoint(tau2, plan.positions, gone, 1 - gone, kept, 0.001 * step, rings, within))
            meeting = [at for at, point in enumerate(points) if point.meets]
            frontier = Frontier(spec.limits, tuple(points), meeting[0] if meeting else None)
            post(protocol.FrontierGrown(request.revision, frontier, final=step == 7))

    def _edit(
        self,
        request: protocol.PreviewEdit | protocol.ApplyEdit,
        spec: EditSpec,
        post: Post,
        check: Callable[[], None],
        *,
        applied: bool,
    ) -> None:
        for step, doing in enumerate(("Planning", "Measuring before", "Measuring after")):
            check()
            post(protocol.Progress(request.revision, doing, step / 3))
        report = self.report(spec, applied=applied)
        if applied:
            self.applied += 1
            names = tuple(fact.id or "a hash" for fact in spec.facts)
            positions = report.plan.positions
            self.journal.append(JournalEntry(self.applied, spec.method.value, names, positions, True, 1.0))
            self.undone.clear()
            report = replace(report, number=self.applied)
        post(protocol.EditMeasured(request.revision, report))
        if applied:
            self._changed(request, post)
        if request.leaks:
            for number, test in enumerate(LeakTest, start=1):
                self._wait(check)
                post(protocol.LeakTested(request.revision, leak_result(test, spec.facts), number, len(LeakTest)))

    def report(self, spec: EditSpec, *, applied: bool) -> EditReport:
        rings = {
            "same subject": Figure(1.0, 3, 1.0, 1.0),
            "same relation": Figure(0.97, 35, 0.91, 1.0),
            "unrelated": Figure(0.99, 80, 0.96, 1.0),
        }
        number = len(spec.facts)
        kept = Figure(0.98, 118, 0.95, 1.0)
        before = Scores(Figure(0.0, number), Figure(0.0, 3), Figure(1.0, 118), Figure(0.0, 200), 0.981, 0.94, 0.97)
        after = Scores(
            Figure(1.0, number, 1.0, 1.0),
            Figure(2 / 3, 3, 0.33, 1.0),
            kept,
            Figure(0.002, 200, -0.001, 0.005),
            0.011,
            0.21,
            0.95,
            rings,
        )
        drawn = replace(after, reliability=Figure(0.0, number, 0.0, 0.0), generalization=Figure(0.0, 3, 0.0, 0.0))
        outcomes = tuple(FactOutcome(fact, True, True, 0.981, 0.011, " [i]Lyon[/i]", 2, 3) for fact in spec.facts)
        plan = self.plan(spec)
        control = Control("random", plan.positions, drawn)
        return EditReport(plan, Proof(before, after, outcomes, 118, control=control), applied)

    def _save_plan(self, folder: str) -> SavePlan:
        files = (
            PlannedFile("model-00001-of-00002.safetensors", Placed.LINKED, 4_988_025_760, 0),
            PlannedFile("tokenizer.json", Placed.LINKED, 17_525_357, 0),
            PlannedFile("model-00002-of-00002.safetensors", Placed.EDITED, 240_691_728, 240_691_728),
            PlannedFile("README.md", Placed.WRITTEN, 3_100, 3_100),
            PlannedFile("knowscope_edit.json", Placed.WRITTEN, 5_400, 5_400),
        )
        if folder in self.folders:
            return SavePlan(folder, (), 0, f"The folder {folder!r} exists.", "Name one that does not exist yet.")
        return SavePlan(folder, files, 51_000_000_000)

    def _study(self, request: protocol.RunStudy, post: Post) -> None:
        if request.folder == "taken":
            raise SaveError("'taken' holds another run.", "Name another folder.")
        post(protocol.Progress(request.revision, "components: 1 of 20", 0.05))
        post(protocol.StudyGrown(request.revision, request.name, Findings()))
        post(protocol.StudyGrown(request.revision, request.name, findings(), f"{request.folder}/report.html"))

    def _save(self, request: protocol.Save, post: Post) -> None:
        plan = self._save_plan(request.folder)
        if plan.problem:
            raise SaveError(plan.problem, plan.hint)
        for fraction in (0.2, 0.9):
            post(protocol.Progress(request.revision, "Writing the weights", fraction))
        self.folders.add(request.folder)
        self.saved = self.in_force
        names = tuple(f"model.layers.{layer}.mlp.down_proj.weight" for layer in range(3, 6))
        repo = request.options.push_to_hub
        pushed = f"https://huggingface.co/{repo}" if repo else None
        saved = SavedCheckpoint(request.folder, plan.total, names, plan.files, pushed)
        post(protocol.Saved(request.revision, saved))


STUDIED = "0.mlp_act.n345"


def findings() -> Findings:
    """A claim, bars, and a plot that names a unit."""
    claim = PaperClaim("Features carry more", "–", Estimate(0.5, 0.4, 0.6, 20), 0.0, Verdict.HOLDS)
    bars = Plot("bars", "Bars", PlotKind.BARS, "kind", "ΔProb", (Series("ours", ("a", "b"), (0.9, 0.1)),))
    values = Plot("values", "Values", PlotKind.HISTOGRAM, "IS", "density", (Series("a", (), (0.5,), units=(STUDIED,)),))
    return Findings(plots=(bars, values), claims=(claim,))


def leak_result(test: LeakTest, facts: tuple[Fact, ...]) -> LeakResult:
    """What a test finds of each fact: sampling and the logit lens see something of the first."""
    leaking = test in (LeakTest.SAMPLED, LeakTest.LOGIT_LENS)
    tried = 0 if test is LeakTest.SPELLED else 100 if test is LeakTest.SAMPLED else 6
    leaks = tuple(
        Leak(fact, tried, 2 if leaking and not at else 0, leaking and not at) for at, fact in enumerate(facts)
    )
    return LeakResult(test, leaks, 0.4, f"{tried} tried for each fact")


__all__ = ["FACTS", "INFO", "Ablation", "Family", "StandIn", "delta_prob"]
