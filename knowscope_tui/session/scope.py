"""`Scope`: an open model with its dictionaries, and every use case on it. The Python API, which both faces use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from knowscope_tui.core.as_json import report_json
from knowscope_tui.core.checks import SelfTest
from knowscope_tui.core.dictionaries import Choice, DictionarySource
from knowscope_tui.core.edits import EditPlan, EditReport, EditSpec, Method, SavedCheckpoint
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.memory import MemoryPlan
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.readings import Ablation, Effect, Mode, NeuronAttribution, Positions, Rank, Reading
from knowscope_tui.core.units import Family, SiteKind, Unit
from knowscope_tui.demo import corpus
from knowscope_tui.engine import ablate as _ablate
from knowscope_tui.engine import checkpoint, editing, evaluate, generate, probe
from knowscope_tui.engine.dictionary import Dictionary
from knowscope_tui.engine.journal import Journal
from knowscope_tui.engine.library import Library, Wanted, load_library, wanted
from knowscope_tui.engine.loading import load_model
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.parity import parity
from knowscope_tui.engine.residency import EncoderPool
from knowscope_tui.engine.selftest import self_test
from knowscope_tui.engine.sites import width
from knowscope_tui.engine.texts import SELF_TEST_TEXTS
from knowscope_tui.errors import EditError
from knowscope_tui.paths import typed_path
from knowscope_tui.session.opening import DEMO, Prepared, encoder_budget_each, prepare, with_dictionaries
from knowscope_tui.session.protocol import DictionaryInUse, ModelInfo, SourceSpec

SELF_TEST_SENTENCES = 40
"""Sentences of the demo's corpus that it is tested on."""


def unplanned(_plan: MemoryPlan) -> None:
    """A plan that nobody reads."""


class Scope:
    """An open model. Not thread-safe: one thread owns it (see `session.runner`)."""

    def __init__(self, lm: LanguageModel, library: Library, facts: Sequence[Fact], prepared: Prepared) -> None:
        self._lm = lm
        self._library = library
        self._journal = Journal(lm)
        self._prepared = prepared
        self._is_demo = prepared.is_demo
        self._saved_edits = 0
        self._reports: list[EditReport] = []
        self._known_means: dict[Unit, float] = {}
        self.facts: tuple[Fact, ...] = tuple(facts)

    @classmethod
    def open(
        cls, source: SourceSpec, on_progress: OnProgress = silent, on_plan: Callable[[MemoryPlan], None] = unplanned
    ) -> Scope:
        """Loads what `source` names; `on_plan` hears what goes where before anything is loaded.

        Raises `ModelNotLoaded`, `DictionaryError`, `DeviceError`, `HubError` or `DoesNotFit`.
        """
        prepared = prepare(source, on_progress)
        on_plan(prepared.plan)
        prepared.check()
        lm = load_model(
            prepared.files,
            device=str(prepared.device),
            dtype=source.dtype,
            name=DEMO if prepared.is_demo else None,
            chat=source.chat,
            offline=source.offline,
            spread=prepared.spread,
            on_progress=on_progress,
        )
        on_progress("Loading the dictionaries", None)
        library = _load_library(lm, prepared.wanted, prepared, on_progress)
        return cls(lm, library, corpus.demo_facts() if prepared.is_demo else (), prepared)

    def use(
        self, dictionaries: Sequence[DictionarySource], choice: Choice = Choice(), on_progress: OnProgress = silent
    ) -> None:
        """Puts other dictionaries beside the open model; when that fails those in use stay."""
        prepared = with_dictionaries(self._prepared, wanted(dictionaries, choice), self._library.pool.bytes)
        prepared.check()
        self._library = _load_library(self._lm, prepared.wanted, prepared, on_progress)
        self._prepared = prepared
        self._known_means.clear()

    # --- looking ----------------------------------------------------------------------------------------------------

    @property
    def info(self) -> ModelInfo:
        """What is open, in numbers and words."""
        library, model, prepared = self._library, self._lm.model, self._prepared
        in_use = tuple(_in_use(library.at(site)) for site in library.sites)
        return ModelInfo(
            name=self._lm.name,
            is_demo=self._is_demo,
            trained_on=prepared.trained_on,
            chat=self._lm.chat,
            device=prepared.plan.device if prepared.spread else str(self._lm.device),
            dtype=str(self._lm.dtype).removeprefix("torch."),
            n_layers=self._lm.n_layers,
            d_model=width(model, SiteKind.RESID_POST),
            n_neurons=width(model, SiteKind.MLP_ACT),
            context=self._lm.context,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            dictionary_kinds=tuple(library.kinds),
            features_per_site=tuple(sorted({dictionary.features for dictionary in in_use})),
            dictionaries=in_use,
            plan=prepared.plan,
            remarks=prepared.wanted.remarks,
        )

    def parity(self) -> float:
        """The largest logit difference between a hooked and a plain forward on a few texts; 0 is expected."""
        return parity(self._lm, self._texts()[:4])

    def self_test(self, on_progress: OnProgress = silent) -> SelfTest:
        """Tests what is open: parity, and of every dictionary L0 and variance explained against its name."""
        return self_test(
            self._lm,
            self._library,
            self._texts(),
            trained_on=self._prepared.trained_on,
            on_progress=on_progress,
        )

    def _texts(self) -> Sequence[str]:
        """Text of the kind that the open model was trained on."""
        return corpus.reference_texts()[:SELF_TEST_SENTENCES] if self._is_demo else SELF_TEST_TEXTS

    def probe(
        self,
        prompt: str,
        answer: str | None = None,
        *,
        position: int | None = None,
        families: Iterable[Family] = (Family.FEATURE, Family.NEURON),
        rank: Rank = Rank.ATTRIBUTION,
        neuron_attribution: NeuronAttribution = NeuronAttribution.GRADIENT,
        top: int = 50,
        exact: int = 0,
        tau1: float = 0.2,
        on_progress: OnProgress = silent,
        on_reading: Callable[[Reading], None] | None = None,
    ) -> Reading:
        """Looks at a fact: the answer's probability and rank, and the units active at one token.

        Without `answer` the model's own top token is taken. `position` is the token to read at (default: the last).
        `exact` is for how many of the units strongest by attribution ΔProb is measured exactly; ranking by ΔProb
        measures at least 200. `on_reading` hears the reading as it is before the exact values.
        """
        return probe.read(
            self._lm,
            self._library,
            prompt,
            answer,
            position=position,
            families=tuple(families),
            rank=rank,
            neuron_attribution=neuron_attribution,
            top=top,
            exact=exact,
            tau1=tau1,
            on_progress=on_progress,
            on_reading=on_reading,
        )

    def ablate(
        self,
        prompt: str,
        answer: str,
        units: Iterable[Unit | str] = (),
        *,
        mode: Mode = Mode.ZERO,
        factor: float = 0.0,
        positions: Positions = Positions.LAST,
        substitute: bool = False,
        position: int | None = None,
        continuation: int = 0,
    ) -> Effect:
        """Switches `units` off (or turns them) and says what became of the answer.

        `continuation` is how many tokens are generated greedily with and without the ablation.
        """
        ablation = Ablation(_units(units), mode, factor, positions, substitute)
        return self.measure(prompt, answer, ablation, position=position, continuation=continuation)

    def measure(
        self, prompt: str, answer: str, ablation: Ablation, *, position: int | None = None, continuation: int = 0
    ) -> Effect:
        """`ablate` for an `Ablation` that is at hand."""
        question = self._lm.ask(prompt, answer)
        position = probe.reading_position(question, position)
        means = self._means(ablation)
        effect = _ablate.measure_ablation(self._lm, self._library, question, ablation, position=position, means=means)
        if not continuation:
            return effect
        before, after = self.continuations(prompt, answer, ablation, continuation, position=position)
        return replace(effect, continuation_before=before, continuation_after=after)

    def continuations(
        self, prompt: str, answer: str, ablation: Ablation, tokens: int, *, position: int | None = None
    ) -> tuple[str, str]:
        """What the model goes on to say after `prompt`, greedily, without and with the ablation."""
        question = self._lm.ask(prompt, answer)
        position = probe.reading_position(question, position)
        changes = _ablate.ablation_changes(self._lm, self._library, ablation, position, self._means(ablation))
        before = generate.continuation(self._lm, question, {}, tokens)
        return before, generate.continuation(self._lm, question, changes, tokens)

    def _means(self, ablation: Ablation) -> dict[Unit, float]:
        """Mean activations for `Mode.MEAN`, each measured once for the model as it stands."""
        if ablation.mode is not Mode.MEAN:
            return {}
        missing = [unit for unit in ablation.units if unit not in self._known_means]
        if missing:
            self._known_means |= evaluate.mean_activations(self._lm, self._library, missing, corpus.reference_texts())
        return self._known_means

    # --- editing ----------------------------------------------------------------------------------------------------

    @property
    def edits(self) -> int:
        """Edits applied to the model in memory."""
        return len(self._journal)

    @property
    def unsaved(self) -> bool:
        """Whether the model in memory holds edits that no checkpoint holds."""
        return bool(self._journal) and self._saved_edits != len(self._journal)

    def plan(self, spec: EditSpec) -> EditPlan:
        """What `spec` would change, without changing it. Raises `EditError`, `PromptError` or `UsageError`."""
        plan, _deltas = editing.plan_edit(self._lm, self._library, spec)
        return plan

    def edit(
        self,
        facts: Sequence[Fact],
        *,
        method: Method = Method.POSITIONS,
        site: SiteKind = SiteKind.RESID_POST,
        top: int = 10,
        tau2: float | None = None,
        units: Iterable[Unit | str] = (),
        neighbors: Sequence[Fact] | None = None,
        dry_run: bool = False,
        seed: int = 0,
        on_progress: OnProgress = silent,
    ) -> EditReport:
        """Erases `facts` from the model in memory and measures what that did; `undo` takes it back.

        Locality is measured on `neighbors`; None means the demo's other facts. With `dry_run` the edit is taken back
        after measuring.
        """
        spec = EditSpec(tuple(facts), method, site, top, tau2, _units(units), seed)
        return self.carry_out(spec, neighbors=neighbors, dry_run=dry_run, on_progress=on_progress)

    def carry_out(
        self,
        spec: EditSpec,
        *,
        neighbors: Sequence[Fact] | None = None,
        dry_run: bool = False,
        on_progress: OnProgress = silent,
    ) -> EditReport:
        """`edit` for an `EditSpec` that is at hand. When cancelled or failing, the model is as it was."""
        chosen = self._neighbors(spec, neighbors)
        texts = corpus.reference_texts()
        on_progress("Planning", None)
        plan, deltas = editing.plan_edit(self._lm, self._library, spec)
        on_progress("Measuring before", 0.1)
        before = evaluate.take(self._lm, spec.facts, chosen, texts)
        self._journal.apply(deltas)
        try:
            on_progress("Measuring after", 0.5)
            after = evaluate.take(self._lm, spec.facts, chosen, texts)
            report = evaluate.report(plan, before, after, applied=not dry_run)
        except BaseException:
            self._journal.undo()
            raise
        if dry_run:
            self._journal.undo()
        else:
            self._reports.append(report)
            self._known_means.clear()
        return report

    def _neighbors(self, spec: EditSpec, neighbors: Sequence[Fact] | None) -> tuple[Fact, ...]:
        edited = {(fact.prompt, fact.answer) for fact in spec.facts}
        among = self.facts if neighbors is None else neighbors
        return tuple(fact for fact in among if (fact.prompt, fact.answer) not in edited)

    def undo(self) -> int:
        """Takes the last edit back, bit for bit, and says how many remain. Raises `EditError` if there is none."""
        self._journal.undo()
        self._reports.pop()
        self._known_means.clear()
        if self._saved_edits > len(self._journal):
            self._saved_edits = -1
        return len(self._journal)

    def save(self, folder: str | Path, on_progress: OnProgress = silent) -> SavedCheckpoint:
        """Saves the model as it stands as a folder that plain `transformers` loads. Raises `SaveError`."""
        if not self._journal:
            raise EditError("There is no edit to save.", "Apply one first.")
        edits = [report_json(report) for report in self._reports]
        record: dict[str, object] = {"base_name": self._lm.name, "edits": edits}
        if self._lm.chat:
            record["chat"] = True
        base, target = self._lm.source, typed_path(str(folder))
        if not self._is_demo and typed_path(base).is_dir():
            record["base_name"] = str(typed_path(base).absolute())
        saved = checkpoint.save(base, self._journal.total(), record, target, on_progress)
        self._saved_edits = len(self._journal)
        return saved


def _units(units: Iterable[Unit | str]) -> tuple[Unit, ...]:
    return tuple(Unit.parse(unit) if isinstance(unit, str) else unit for unit in units)


def _load_library(lm: LanguageModel, chosen: Wanted, prepared: Prepared, on_progress: OnProgress) -> Library:
    budget = encoder_budget_each(prepared)
    return load_library(
        lm,
        chosen.folders,
        chosen.entries,
        sae_dtype=prepared.source.sae_dtype,
        offline=prepared.source.offline,
        pool=EncoderPool(budget),
        on_progress=on_progress,
    )


def _in_use(dictionary: Dictionary) -> DictionaryInUse:
    spec = dictionary.spec
    return DictionaryInUse(spec.site, spec.source, spec.d_sae, spec.architecture, dictionary.dtype, spec.expected_l0)


def plan_for(source: SourceSpec, on_progress: OnProgress = silent) -> MemoryPlan:
    """What opening `source` would take and where it would go; nothing but configurations is fetched or read."""
    return prepare(source, on_progress).plan


def open_scope(
    model: str | None = None,
    *,
    sae: Mapping[str, str | Path] | Sequence[str] | None = None,
    width: int | None = None,
    l0: float | None = None,
    layers: tuple[int, int] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    sae_dtype: str = "bfloat16",
    sae_memory: int | None = None,
    chat: bool = False,
    offline: bool = False,
) -> Scope:
    """Opens a model: the embedded demo, or `model`, a folder or a hub name with or without @revision.

    `sae` names dictionaries: releases, or site → folder. None is the model's usual set, () none at all. `width`, `l0`
    and `layers` choose among those of a release. `offline` holds for the whole process. Raises what `Scope.open`
    raises.
    """
    named: tuple[DictionarySource, ...] | None = None
    if isinstance(sae, Mapping):
        named = tuple(DictionarySource(str(folder), SiteKind.parse(kind)) for kind, folder in sae.items())
    elif sae is not None:
        named = tuple(DictionarySource.parse(text) for text in sae)
    choice = Choice(width, l0, layers)
    return Scope.open(SourceSpec(model, named, choice, device, dtype, sae_dtype, sae_memory, chat, offline))
