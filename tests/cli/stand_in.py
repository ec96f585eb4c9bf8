"""A scope without a model, and a shelf without a hub: they answer at once, with figures that are made up but agree
with one another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from knowscope_tui.core.checks import DictionaryCheck, SelfTest
from knowscope_tui.core.dictionaries import (
    CachedDictionary,
    Choice,
    Entry,
    EntryState,
    Pulled,
    Release,
    ReleaseState,
    choose,
)
from knowscope_tui.core.edits import EditPlan, EditSpec, ParameterChange
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.memory import MemoryPlan, Need, Place
from knowscope_tui.core.proof import EditReport, FactOutcome, Figure, Proof, Scores
from knowscope_tui.core.readings import (
    Ablation,
    Effect,
    Mode,
    Positions,
    Rank,
    Reading,
    SiteReading,
    TokenProb,
    UnitEffect,
    UnitReading,
    UnitSet,
)
from knowscope_tui.core.saved import SavedCheckpoint, SaveOptions
from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.errors import DictionaryError
from knowscope_tui.session.editing import Wishes
from knowscope_tui.session.protocol import DictionaryInUse, ModelInfo, SourceSpec

FACT = Fact(
    "The capital of France is", "Paris", "capital/france", "France", "capital", (), ("France is governed from",)
)

GB = 10**9
PLAN = MemoryPlan(
    "cuda:0",
    (
        Need("model", Place.DEVICE, 5 * GB),
        Need("working memory", Place.DEVICE, 1 * GB),
        Need("encoders", Place.DEVICE, 2 * GB),
        Need("78 dictionaries", Place.MAPPED, 12 * GB),
        Need("conversion, one at a time", Place.HOST, 1 * GB),
        Need("download", Place.DISK, 24 * GB),
    ),
    {Place.DEVICE: 10 * GB, Place.HOST: 19 * GB, Place.DISK: 100 * GB},
    6 * GB,
    2 * GB,
)
CHECK = DictionaryCheck(Site(3, SiteKind.RESID_POST), "some-release some/id", 16384, "bfloat16", 71.5, 80.0, 0.83)


@dataclass
class StandInScope:
    """What the verbs call, and what they were called with."""

    source: SourceSpec = field(default_factory=SourceSpec)
    facts: tuple[Fact, ...] = (FACT,)
    asked: dict[str, Any] = field(default_factory=dict)
    next_token: str = " Paris"
    plan: MemoryPlan = PLAN
    test: SelfTest = SelfTest(0.0, 480, (CHECK,))

    @property
    def info(self) -> ModelInfo:
        return ModelInfo(
            name="demo",
            is_demo=True,
            trained_on=None,
            chat=self.source.chat,
            device="cpu",
            dtype="float32",
            n_layers=4,
            d_model=128,
            n_neurons=512,
            context=128,
            parameters=1_000_000,
            dictionary_kinds=(SiteKind.RESID_POST,),
            features_per_site=(512,),
            dictionaries=(DictionaryInUse(CHECK.site, CHECK.source, 16384, "jumprelu", "bfloat16", 80.0),),
            plan=self.plan,
        )

    def self_test(self, _on_progress: object) -> SelfTest:
        return self.test

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
            beside=tuple(asked["beside"]),
            p_beside=0.12 if asked["beside"] else None,
        )

    def smallest_set(self, prompt: str, answer: str | None, *, below: float, **asked: Any) -> Iterator[UnitSet]:
        self.asked = asked | {"below": below}
        first, second = Unit.feature(3, SiteKind.RESID_POST, 17), Unit.neuron(2, 345)
        steps = (UnitEffect(first, 0.4, 0.59), UnitEffect(second, 0.01, 0.99))
        yield UnitSet(prompt, "Paris", below, 0.98, 0.4, steps[:1], (first,))
        yield UnitSet(prompt, "Paris", below, 0.98, 0.01, steps, (second,), final=True)

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

    def carry_out(self, spec: EditSpec, wishes: Wishes) -> EditReport:
        self.asked = {"spec": spec, "neighbors": wishes.neighbors, "dry_run": wishes.dry_run, "wishes": wishes}
        unit = Unit.feature(1, SiteKind.MLP_OUT, 3)
        change = ParameterChange("model.layers.1.mlp.down_proj.weight", 1, (128, 512), 65, 65)
        before = Scores(_figure(0.0), _figure(0.0), _figure(1.0), _figure(0.0), 0.98, 0.9, 0.97)
        after = Scores(_figure(1.0), Figure(), _figure(0.98), _figure(float("nan")), 0.01, 0.1, 0.96)
        outcomes = tuple(FactOutcome(fact, True, True, 0.98, 0.01, " Lyon", 1, 1) for fact in spec.facts)
        plan = EditPlan(spec, 0.1, (unit,), (change,), 1_000_000)
        return EditReport(plan, Proof(before, after, outcomes, neighbors=5), applied=not wishes.dry_run)

    def save(self, folder: Path, options: SaveOptions, _on_progress: object) -> SavedCheckpoint:
        self.asked["saved"] = folder
        self.asked["save_options"] = options
        return SavedCheckpoint(str(folder), 8_000_000, ("model.layers.1.mlp.down_proj.weight",))


def _figure(value: float) -> Figure:
    return Figure(value, 5, value, value)


# --- the shelf ------------------------------------------------------------------------------------------------------

LONG = "sae_bench_gemma-2-2b_vanilla_width-2pow16_date-1109"


def _entries(release: str, kind: SiteKind, widths: Sequence[int], l0s: Sequence[int]) -> tuple[Entry, ...]:
    return tuple(
        Entry(
            release,
            f"layer_{layer}/width_{width // 1000}k/average_l0_{l0}",
            f"google/{release}",
            f"layer_{layer}/width_{width // 1000}k/average_l0_{l0}",
            Site(layer, kind),
            width,
            float(l0),
        )
        for layer in range(26)
        for width in widths
        for l0 in l0s
    )


def _release(name: str, model: str, kind: SiteKind, why_not: str = "") -> Release:
    return Release(name, f"google/{name}", model, _entries(name, kind, (16384, 65536), (22, 105)), why_not)


RELEASES = (
    _release("gemma-scope-2b-pt-res", "gemma-2-2b", SiteKind.RESID_POST),
    _release("gemma-scope-2b-pt-mlp", "gemma-2-2b", SiteKind.MLP_OUT),
    _release(LONG, "gemma-2-2b", SiteKind.RESID_POST),
    _release("gemma-scope-9b-pt-att", "gemma-2-9b", SiteKind.ATTN_Z),
    _release("gemma-scope-2b-pt-transcoders", "gemma-2-2b", SiteKind.MLP_OUT, "its dictionaries are transcoders"),
)


def cached_dictionary(name: str, problem: str = "") -> CachedDictionary:
    site = Site(12, SiteKind.RESID_POST)
    return CachedDictionary(f"/cache/{name}", name, site, 16384, "bfloat16", 150_000_000, 1_760_000_000.0, problem)


@dataclass
class StandInShelf:
    """What the verbs about published dictionaries call, and what they were called with."""

    rows: tuple[CachedDictionary, ...] = (
        cached_dictionary("gemma-scope-2b-pt-res layer_12/width_16k/average_l0_105"),
        cached_dictionary("gemma-scope-2b-pt-res layer_3/width_16k/average_l0_22"),
        cached_dictionary("/home/somebody/dictionaries/with/a/long/name/layer_3"),
    )
    asked: dict[str, Any] = field(default_factory=dict)
    interrupted: bool = False

    def releases(self, words: str = "", model: str | None = None) -> tuple[ReleaseState, ...]:
        return tuple(
            ReleaseState(release, 26, 7_856_848_896, 2, 2, 300_000_000)
            for release in RELEASES
            if (model is None or release.model == model.rpartition("/")[2])
            and all(word in f"{release.name} {release.model}" for word in words.split())
        )

    def release(
        self, name: str, *, ask_hub: bool = False, sae_dtype: str = "bfloat16"
    ) -> tuple[ReleaseState, tuple[EntryState, ...]]:
        self.asked |= {"ask_hub": ask_hub}
        found = [state for state in self.releases() if state.release.name == name]
        if not found:
            raise DictionaryError(f"There is no release called {name!r}.", "Did you mean gemma-scope-2b-pt-res?")
        release = found[0].release
        usual = () if release.why_not else choose(release, Choice())
        ordered = [*usual, *(entry for entry in release.entries if entry not in usual)]
        return found[0], tuple(EntryState(entry, 302_186_496, False, 0) for entry in ordered)

    def pull(self, name: str, choice: Choice, ids: Sequence[str], **asked: Any) -> Pulled:
        self.asked = asked | {"name": name, "choice": choice, "ids": ids}
        asked["on_progress"]("Downloading it: 1.2 GB of 3 GB", 0.4)
        if self.interrupted:
            raise KeyboardInterrupt
        return Pulled(name, 24, 2, 3_900_000_000)

    def cached(self) -> tuple[CachedDictionary, ...]:
        return self.rows

    def verify_cache(self, on_progress: Callable[[str, float | None], None]) -> tuple[CachedDictionary, ...]:
        on_progress("Reading", 0.5)
        return self.rows

    def prune_cache(self, **asked: Any) -> tuple[CachedDictionary, ...]:
        self.asked = asked
        return self.rows[:1]
