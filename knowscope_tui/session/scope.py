"""`Scope`: an open model with its dictionaries, and every use case on it. The Python API, which both faces use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from knowscope_tui.core.checks import SelfTest
from knowscope_tui.core.dictionaries import Choice, DictionarySource
from knowscope_tui.core.edits import EditPlan, EditSpec, Frontier, JournalState, Method
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.injection import InjectionReport, InjectOptions
from knowscope_tui.core.memory import MemoryPlan
from knowscope_tui.core.progress import OnProgress, silent, unstopped
from knowscope_tui.core.proof import EditReport
from knowscope_tui.core.ranks import DEFAULT_MEMORY, DEFAULT_NEURONS, RankOptions, RankSummary
from knowscope_tui.core.readings import (
    Ablation,
    Effect,
    Mode,
    NeuronAttribution,
    Positions,
    Rank,
    Reading,
    SweepPart,
    UnitSet,
)
from knowscope_tui.core.saved import DeltaInfo, SavedCheckpoint, SaveOptions, SavePlan
from knowscope_tui.core.studies import Cluster, StudyName, StudyOptions, StudyReport, studies_named
from knowscope_tui.core.units import Family, SiteKind, Unit
from knowscope_tui.demo import corpus
from knowscope_tui.engine.greedy import grow_set
from knowscope_tui.engine.library import Library, wanted
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.parity import parity
from knowscope_tui.engine.selftest import self_test
from knowscope_tui.engine.texts import SELF_TEST_TEXTS
from knowscope_tui.paths import typed_path
from knowscope_tui.session.editing import Edits, Wishes
from knowscope_tui.session.info import model_info
from knowscope_tui.session.injecting import inject
from knowscope_tui.session.known import Looked, look_at
from knowscope_tui.session.loaded import load, load_dictionaries, open_subject, unplanned
from knowscope_tui.session.looking import BOTH, NEURON_SECONDS, Looking
from knowscope_tui.session.opening import Prepared, with_dictionaries
from knowscope_tui.session.protocol import ModelInfo, SourceSpec
from knowscope_tui.session.ranking import rank_facts
from knowscope_tui.session.saving import Saving
from knowscope_tui.session.study_command import study_command
from knowscope_tui.session.studying import OnGrowing, StudyWishes, study, unwatched
from knowscope_tui.studies.run import Loop, serial
from knowscope_tui.studies.spread import spread

SELF_TEST_SENTENCES = 40
"""Sentences of the demo's corpus that it is tested on."""


NEURON_CANDIDATES = 1000
"""Neurons that are tried for a smallest set: a large model has hundreds of thousands active."""


class Scope:
    """An open model. Not thread-safe: one thread owns it (see `session.runner`)."""

    def __init__(self, lm: LanguageModel, library: Library, facts: Sequence[Fact], prepared: Prepared) -> None:
        self._lm = lm
        self._library = library
        self._looking = Looking(lm, library)
        self._edits = Edits(lm, facts)
        self._saving = Saving(lm, self._edits, is_demo=prepared.is_demo)
        self._prepared = prepared
        self._is_demo = prepared.is_demo
        self.facts: tuple[Fact, ...] = tuple(facts)

    @classmethod
    def open(
        cls, source: SourceSpec, on_progress: OnProgress = silent, on_plan: Callable[[MemoryPlan], None] = unplanned
    ) -> Scope:
        """Loads what `source` names; `on_plan` hears what goes where before anything is loaded.

        Raises `ModelNotLoaded`, `DictionaryError`, `DeviceError`, `HubError` or `DoesNotFit`.
        """
        opened = load(source, on_progress, on_plan)
        facts = corpus.demo_facts() if opened.prepared.is_demo else ()
        return cls(opened.lm, opened.library, facts, opened.prepared)

    def use(
        self, dictionaries: Sequence[DictionarySource], choice: Choice = Choice(), on_progress: OnProgress = silent
    ) -> None:
        """Puts other dictionaries beside the open model; when that fails those in use stay."""
        prepared = with_dictionaries(self._prepared, wanted(dictionaries, choice), self._library.pool.bytes)
        prepared.check()
        self._library = load_dictionaries(self._lm, prepared.wanted, prepared, on_progress)
        self._looking = Looking(self._lm, self._library)
        self._prepared = prepared

    def known(self, facts: Sequence[Fact], least: float = 0.0, on_progress: OnProgress = silent) -> list[Looked]:
        """Each of `facts` with P(answer), and why it is dropped where the model does not know it so well."""
        return look_at(self._lm, facts, least, on_progress)

    # --- looking ----------------------------------------------------------------------------------------------------

    @property
    def info(self) -> ModelInfo:
        """What is open, in numbers and words."""
        return model_info(self._lm, self._library, self._prepared)

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
        families: Iterable[Family] = BOTH,
        rank: Rank = Rank.DELTA_PROB,
        neuron_attribution: NeuronAttribution = NeuronAttribution.GRADIENT,
        top: int | None = 50,
        exact: int | None = None,
        neuron_seconds: float = NEURON_SECONDS,
        beside: Iterable[Unit | str] = (),
        tau1: float = 0.2,
        on_progress: OnProgress = silent,
    ) -> Reading:
        """Looks at a fact: the answer's probability and rank, and the units active at one token.

        Without `answer` the model's own top token is taken. `position` is the token to read at (default: the last).
        ΔProb is measured exactly for every active feature and, `neuron_seconds` long, for neurons by order of
        attribution; `exact` measures so many units of either family instead, 0 none. With units `beside`, it is what
        each does once these are off. `top` is how many units are listed, None all active features and some hundred
        neurons.
        """
        look = self._looking.look(
            prompt,
            answer,
            position=position,
            families=tuple(families),
            neuron_attribution=neuron_attribution,
            on_progress=on_progress,
        )
        by_estimate = Rank.ATTRIBUTION if rank is Rank.DELTA_PROB else rank
        if exact == 0:
            return look.reading(by_estimate, top, tau1)
        share = 0.0

        def check() -> None:
            on_progress("Measuring exact ΔProb", share)

        given = Ablation(_units(beside))
        for part in self._looking.sweep(look, given, most=exact, neuron_seconds=neuron_seconds, check=check):
            share = part.measured / max(part.active, 1)
            check()
        return look.reading(rank, top, tau1, given)

    def sweep(
        self,
        prompt: str,
        answer: str | None = None,
        *,
        position: int | None = None,
        given: Ablation | Iterable[Unit | str] = (),
        neuron_seconds: float = NEURON_SECONDS,
        check: Callable[[], None] = unstopped,
    ) -> Iterator[SweepPart]:
        """Exact ΔProb of each active unit alone, beside what is `given` off already, part by part as it is found.

        Features come first, then neurons for `neuron_seconds`, each the strongest by attribution first. What was
        found is kept: a sweep that was left off goes on where it was. `check` may raise to stop it.
        """
        ablation = given if isinstance(given, Ablation) else Ablation(_units(given))
        look = self._looking.look(prompt, answer, position=position)
        return self._looking.sweep(look, ablation, neuron_seconds=neuron_seconds, check=check)

    def smallest_set(
        self,
        prompt: str,
        answer: str | None = None,
        *,
        below: float = 0.05,
        most: int = 20,
        position: int | None = None,
        families: Iterable[Family] = (Family.FEATURE,),
        check: Callable[[], None] = unstopped,
    ) -> Iterator[UnitSet]:
        """Switches units off one by one until P(answer) is `below`, each time the one that does most.

        The last set of those it gives is the smallest it found (see `engine.greedy`). Of neurons those strongest by
        attribution are tried, `NEURON_CANDIDATES` of them.
        """
        look = self._looking.look(prompt, answer, position=position)
        named = tuple(families)
        neurons = look.active(Family.NEURON)[:NEURON_CANDIDATES] if Family.NEURON in named else []
        units = [*(look.active(Family.FEATURE) if Family.FEATURE in named else ()), *neurons]
        return grow_set(look, units, below=below, most=most, check=check)

    def rank(
        self,
        facts: Sequence[Fact],
        out: str | Path,
        *,
        neurons: int = DEFAULT_NEURONS,
        memory: int = DEFAULT_MEMORY,
        restart: bool = False,
        on_progress: OnProgress = silent,
    ) -> RankSummary:
        """Writes the exact effect of every active unit of each fact to the Parquet file `out`.

        `session.ranking` says how; a run that was stopped goes on where it was.
        """
        options = RankOptions(neurons, memory, restart)
        return rank_facts(self._lm, self._library, facts, typed_path(str(out)), options, on_progress)

    def study(
        self,
        names: str | Sequence[StudyName],
        out: str | Path,
        facts: Sequence[Fact] | None = None,
        *,
        options: StudyOptions = StudyOptions(),
        restart: bool = False,
        facts_file: str | None = None,
        cluster: Cluster | None = None,
        on_progress: OnProgress = silent,
        on_growing: OnGrowing = unwatched,
    ) -> StudyReport:
        """Carries out the paper's studies and writes tables, plots and pages to `out`; `session.studying` says how.

        `names` are studies, or one by its name, or `all`. `facts` default to those that the open model brings along;
        `facts_file` is what they are called in the command that makes it again. Items are measured here, one after the
        other, or on a Ray `cluster`.
        """
        source = self._prepared.source
        named = studies_named(names) if isinstance(names, str) else names

        def command(word: str, folder: Path) -> str:
            return study_command(word, source, options, facts_file, str(folder))

        def loop(known: tuple[Fact, ...], cache: Path) -> Loop:
            return serial if cluster is None else spread(partial(open_subject, source, known, options, cache), cluster)

        wishes = StudyWishes(options, restart, command, on_progress, on_growing, loop)
        asked = self.facts if facts is None else facts
        return study(self._lm, self._library, named, asked, typed_path(str(out)), wishes)

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
        live = self._looking.live(prompt, answer, position)
        effect = live.measure(ablation, self._looking.means(ablation))
        if not continuation:
            return effect
        before, after = self.continuations(prompt, answer, ablation, continuation, position=position)
        return replace(effect, continuation_before=before, continuation_after=after)

    def continuations(
        self,
        prompt: str,
        answer: str,
        ablation: Ablation,
        tokens: int,
        *,
        position: int | None = None,
        check: Callable[[], None] = unstopped,
    ) -> tuple[str, str]:
        """What the model goes on to say after `prompt`, greedily, without and with the ablation."""
        return self._looking.continuations(prompt, answer, ablation, tokens, position=position, check=check)

    # --- editing ----------------------------------------------------------------------------------------------------

    @property
    def edits(self) -> int:
        """Edits of the model in memory that are switched on."""
        return len(self._edits)

    @property
    def journal(self) -> JournalState:
        """Every edit of the model in memory, on or off, and those that were undone."""
        return self._edits.state

    @property
    def unsaved(self) -> bool:
        """Whether the model in memory holds edits that no checkpoint holds."""
        return self._edits.unsaved

    def plan(self, spec: EditSpec) -> EditPlan:
        """What `spec` would change, without changing it; of a method that optimises, at most.

        Raises `EditError`, `PromptError` or `UsageError`.
        """
        return self._edits.plan(self._library, spec)

    def frontier(self, spec: EditSpec) -> Iterator[tuple[Frontier, bool]]:
        """Erasure against damage over a ladder of τ2, as it grows, and whether it is whole. Raises as `plan` does."""
        return self._edits.frontier(self._library, spec)

    def edit(
        self,
        facts: Sequence[Fact],
        *,
        method: Method | str = Method.POSITIONS,
        site: SiteKind | str = SiteKind.RESID_POST,
        top: int = 10,
        tau2: float | None = None,
        units: Iterable[Unit | str] = (),
        neighbors: Sequence[Fact] | None = None,
        dry_run: bool = False,
        seed: int = 0,
        on_progress: OnProgress = silent,
    ) -> EditReport:
        """Edits `facts` in the model in memory and measures what that did; `undo` takes it back.

        A fact with a `target_new` gets that answer, one without loses its own. Locality is measured on `neighbors`;
        None means those of the demo's other facts that the edit is not told to keep. With `dry_run` the edit is taken
        back after measuring. `carry_out` takes everything else there is to choose.
        """
        spec = EditSpec(tuple(facts), Method.parse(method), SiteKind.parse(site), top, tau2, _units(units), seed)
        kept = None if neighbors is None else tuple(neighbors)
        return self.carry_out(spec, Wishes(neighbors=kept, dry_run=dry_run, on_progress=on_progress))

    def carry_out(self, spec: EditSpec, wishes: Wishes = Wishes()) -> EditReport:
        """`edit` for an `EditSpec` that is at hand. When cancelled or failing, the model is as it was."""
        report = self._edits.carry_out(self._library, spec, wishes)
        if not wishes.dry_run:
            self._looking.forget()
        return report

    def apply_delta(self, file: str | Path) -> int:
        """Applies a delta file to the model in memory; its number in the journal. Raises `SaveError` or `EditError`."""
        number = self._edits.apply_delta(typed_path(str(file)))
        self._looking.forget()
        return number

    def undo(self) -> int:
        """Takes the last edit back, bit for bit, and says how many remain. Raises `EditError` if there is none."""
        self._edits.undo()
        self._looking.forget()
        return len(self._edits)

    def redo(self, number: int | None = None) -> int:
        """Makes an undone edit again, after all others, and says how many are on. Raises `EditError`."""
        self._edits.redo(number)
        self._looking.forget()
        return len(self._edits)

    def switch(self, number: int, *, on: bool) -> None:
        """Switches an edit of the journal off or on, in its place, bit for bit. Raises `EditError`."""
        self._edits.switch(number, on=on)
        self._looking.forget()

    def plan_save(self, folder: str | Path, options: SaveOptions = SaveOptions()) -> SavePlan:
        """What saving to `folder` would write and link, and what stands in the way."""
        return self._saving.plan(folder, options)

    def save(
        self, folder: str | Path, options: SaveOptions = SaveOptions(), on_progress: OnProgress = silent
    ) -> SavedCheckpoint:
        """Saves the model as it stands as a folder that plain `transformers` loads. Raises `SaveError`."""
        return self._saving.save(folder, options, on_progress)

    def inject(
        self,
        facts: Sequence[Fact],
        folder: str | Path,
        keep: Sequence[Fact] | None = None,
        *,
        options: InjectOptions = InjectOptions(),
        on_progress: OnProgress = silent,
    ) -> InjectionReport:
        """Saves the open model with `facts` put in by fine-tuning as `folder`; the open model stays as it is.

        `keep` are other facts that it knows (default: those it brings along). Raises `EditError`, `SaveError`,
        `UsageError`, `PromptError` or `DeviceError`; nothing half-written stays.
        """
        among = self.facts if keep is None else keep
        return inject(self._lm, facts, typed_path(str(folder)), among, options, on_progress)

    def save_delta(self, file: str | Path) -> DeltaInfo:
        """Writes the edits that are on as a delta file: positions and values only. Raises `EditError`, `SaveError`."""
        return self._saving.save_delta(file)


def _units(units: Iterable[Unit | str]) -> tuple[Unit, ...]:
    return tuple(Unit.parse(unit) if isinstance(unit, str) else unit for unit in units)
