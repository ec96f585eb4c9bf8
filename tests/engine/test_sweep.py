"""Sweeps, live ablations and continuations run the upper layers alone. Each is held to the whole model with hooks
(`measure_ablation`), on every family, on answers of one token and of many, and in both dtypes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.readings import Ablation, Mode, Positions
from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.demo import bundle
from knowscope_tui.demo.corpus import demo_facts
from knowscope_tui.engine import sweep as sweeping
from knowscope_tui.engine.ablate import ablation_changes, measure_ablation
from knowscope_tui.engine.batch import rows_within
from knowscope_tui.engine.dictionary import Spec, make_dictionary
from knowscope_tui.engine.families import supported_model_types
from knowscope_tui.engine.hooks import Change, intervene
from knowscope_tui.engine.library import Library, load_library
from knowscope_tui.engine.live import Live
from knowscope_tui.engine.loading import load_model
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.sites import final_norm
from knowscope_tui.engine.suffix import Suffix
from knowscope_tui.engine.sweep import Chunk, Sweep
from knowscope_tui.engine.trace import Trace, record
from knowscope_tui.engine.transfer import Landing
from knowscope_tui.errors import Cancelled, UsageError
from tests.engine.test_families import opened, save_tiny
from tests.tiny import D_MLP, DICTIONARY_KINDS, LAYERS, active_features, hook_count, random_sae

FEATURE_SITES = [Site(layer, kind) for layer, kind in product(range(LAYERS), DICTIONARY_KINDS)]
LEAST = 1e-5
"""Of P(answer) of what is measured here: a difference of less would be no difference."""
EVERY_SITE = [*FEATURE_SITES, *(Site(layer, SiteKind.MLP_ACT) for layer in range(LAYERS))]


def traced(lm: LanguageModel, questions: list[Question], positions: list[int] | None = None, **options: Any) -> Trace:
    return record(lm, questions, positions or [question.last for question in questions], EVERY_SITE, **options)


def units_of(library: Library, trace: Trace, fact: int = 0, each: int = 3) -> list[Unit]:
    """Strong features of every site and neurons of every layer, in mixed order."""
    units = []
    for site in FEATURE_SITES:
        f = trace.encoded(library, site)[fact]
        units += [Unit(site, Family.FEATURE, index) for index in f.abs().topk(each).indices.tolist() if f[index] != 0]
    units += [Unit.neuron(layer, index) for layer in range(LAYERS) for index in (0, 20, D_MLP - 1)]
    return units[::2] + units[1::2]


def plainly(
    lm: LanguageModel, library: Library, question: Question, units: tuple[Unit, ...], position: int | None = None
) -> float:
    return measure_ablation(lm, library, question, Ablation(units), position=position).p_after


@torch.no_grad()
def greedily(
    lm: LanguageModel, ids: Sequence[int], tokens: int, changes: Mapping[Site, Change] | None = None
) -> tuple[int, ...]:
    """The `tokens` tokens that follow `ids`, each by a forward over all of them, with `changes` and without a cache."""
    found = list(ids)
    with intervene(lm.model, changes or {}):
        for _ in range(tokens):
            logits = lm.model(input_ids=lm.tensor([tuple(found)]), use_cache=False).logits
            found.append(int(logits[0, -1].argmax()))
    return tuple(found[len(ids) :])


def said_by(lm: LanguageModel, ids: tuple[int, ...], tokens: int) -> Question:
    """A prompt with what the model itself goes on with for an answer: with any other P(answer) is next to nothing,
    and so is the difference between two of them, right or wrong."""
    return Question("a", "b", ids, greedily(lm, ids, tokens))


def logs(probabilities: Iterable[float]) -> list[float]:
    """Their logarithms, in which two small probabilities are as far apart as two large ones."""
    return [math.log(p) for p in probabilities]


# --- families and shapes --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    lm: LanguageModel
    library: Library
    questions: tuple[Question, Question]
    """One whose answer is a token, and one whose answer is several; both longer than any sliding window."""


@pytest.fixture(scope="module")
def make(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    made: dict[str, Case] = {}

    def build(model_type: str) -> Case:
        if model_type not in made:
            folder = tmp_path_factory.mktemp(model_type)
            save_tiny(model_type, tokenizer, folder)
            lm = opened(model_type, folder)
            sharpen(lm)
            generator = torch.Generator().manual_seed(3)
            ids = torch.randint(4, len(tokenizer), (14,), generator=generator).tolist()
            questions = (
                said_by(lm, tuple(ids[:10]), 1),
                said_by(lm, tuple(ids[:9]), 5),
            )
            made[model_type] = Case(lm, random_library(lm, questions[0]), questions)
        return made[model_type]

    return build


@torch.no_grad()
def sharpen(lm: LanguageModel) -> None:
    """Raises the final norm's gain: untrained, a model holds all tokens for about equally likely, whatever it read."""
    logits = lm.model(input_ids=lm.tensor([tuple(range(4, 14))]), use_cache=False).logits[0]
    norm: Any = final_norm(lm.model)
    factor = 4 / float(logits.std())
    one = 1 if lm.model.config.model_type.startswith("gemma") else 0  # What is added to the gain that is stored.
    norm.weight.add_(one).mul_(factor).sub_(one)
    if getattr(norm, "bias", None) is not None:
        norm.bias.mul_(factor)


def random_library(
    lm: LanguageModel, question: Question, architecture: str = "jumprelu", normalize: str = "none"
) -> Library:
    """A dictionary for every site but `mlp_act`, scaled to what the question shows there."""
    dictionaries = []
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(5)
        for number, site in enumerate(FEATURE_SITES):
            h = record(lm, [question], [question.last], [site]).activations[site]
            # One that normalises reads and writes numbers of size 1, and its own scale is far from 1 here.
            sae = random_sae(h if normalize == "none" else h / h.std(), number)
            n = len(sae["b_enc"])
            gate = {name: 0.2 * torch.randn(n) for name in ("b_gate", "b_mag", "r_mag")}
            spec = Spec(site, architecture, h.shape[1], n, "random", k=7, normalize=normalize, checked=True)
            tensors = {"encoder": sae["W_enc"].T.contiguous(), "decoder": sae["W_dec"], **sae, **gate}
            dictionaries.append(make_dictionary(spec, tensors))
    return Library(dictionaries)


@pytest.mark.parametrize("model_type", supported_model_types())
@pytest.mark.parametrize("which", [0, 1])
def test_a_sweep_of_any_family_is_what_the_whole_model_says(
    make: Callable[[str], Case], model_type: str, which: int
) -> None:
    case = make(model_type)
    question = case.questions[which]
    trace = traced(case.lm, [question])
    units = units_of(case.library, trace)
    found = sweeping.sweep(case.lm, case.library, trace, units)
    alone = [plainly(case.lm, case.library, question, (unit,)) for unit in units]
    assert trace.p_answer[0] > LEAST
    assert logs(found) == pytest.approx(logs(alone), abs=1e-4)
    assert max(abs(p / trace.p_answer[0] - 1) for p in alone) > 0.1
    assert hook_count(case.lm.model) == 0


@pytest.mark.parametrize("model_type", supported_model_types())
def test_facts_of_several_lengths_in_one_batch_are_what_each_is_alone(
    make: Callable[[str], Case], model_type: str
) -> None:
    case = make(model_type)
    ids = case.questions[0].prompt_ids
    questions = [*case.questions, said_by(case.lm, ids[:4], 2), said_by(case.lm, (*ids, 11, 12, 13), 3)]
    trace = traced(case.lm, questions, [9, 5, 2, 12])
    assert min(trace.p_answer) > LEAST
    pairs = [(fact, unit) for fact in range(4) for unit in units_of(case.library, trace, fact, each=2)]
    found = Sweep(case.lm, case.library, trace).run(pairs)
    alone = [plainly(case.lm, case.library, questions[fact], (unit,), trace.positions[fact]) for fact, unit in pairs]
    assert logs(found) == pytest.approx(logs(alone), abs=1e-4)


def test_a_row_longer_than_its_fact_sees_no_token_twice(lm: LanguageModel, library: Library) -> None:
    """A long prompt with a short answer beside a short prompt with a long one: rows are as long as the longest."""
    questions = [said_by(lm, tuple(range(4, 19)), 1), said_by(lm, tuple(range(30, 40)), 6)]
    trace = traced(lm, questions)
    assert min(trace.p_answer) > LEAST
    pairs = [(fact, unit) for fact in range(2) for unit in units_of(library, trace, fact)]
    found = Sweep(lm, library, trace).run(pairs)
    alone = [plainly(lm, library, questions[fact], (unit,)) for fact, unit in pairs]
    assert logs(found) == pytest.approx(logs(alone), abs=1e-4)


def test_a_trace_holds_no_graph(lm: LanguageModel, library: Library, question: Question) -> None:
    """All that is kept would otherwise keep what the backward pass needed."""
    trace = traced(lm, [question], slopes=True)
    kept = [*(call.hidden for call in trace.calls), *trace.keys, *trace.values, *trace.logits]
    kept += [value for call in trace.calls for value in call.arguments.values() if isinstance(value, torch.Tensor)]
    kept += [*trace.activations.values(), *trace.slopes.values()]
    assert all(tensor.grad_fn is None for tensor in kept)
    assert not any("past_key_values" in call.arguments for call in trace.calls)


@pytest.mark.parametrize("model_type", supported_model_types())
@pytest.mark.parametrize("positions", Positions)
def test_a_live_ablation_of_any_family_is_what_the_whole_model_says(
    make: Callable[[str], Case], model_type: str, positions: Positions
) -> None:
    case = make(model_type)
    for question in case.questions:
        trace = traced(case.lm, [question])
        assert trace.p_answer[0] > LEAST
        live = Live(case.lm, case.library, trace)
        for site in EVERY_SITE:
            family = Family.NEURON if site.kind is SiteKind.MLP_ACT else Family.FEATURE
            ablation = Ablation(tuple(Unit(site, family, index) for index in (1, 5, 8)), positions=positions)
            fast, plain = live.measure(ablation), measure_ablation(case.lm, case.library, question, ablation)
            assert math.log(fast.p_after) == pytest.approx(math.log(plain.p_after), abs=1e-4), site
            assert fast.rank_after == plain.rank_after


# --- dictionaries that normalise, and ones of which a feature depends on all others ---------------------------------

KINDS_OF_DICTIONARY = [
    ("jumprelu", "none"),
    ("jumprelu", "layer_norm"),
    ("topk", "constant_norm_rescale"),
    ("abstopk", "layer_norm"),
    ("gated", "none"),
]


@pytest.fixture(params=KINDS_OF_DICTIONARY, ids="-".join)
def any_library(lm: LanguageModel, question: Question, request: pytest.FixtureRequest) -> Library:
    found = random_library(lm, question, *request.param)
    if request.param[1] != "none":
        scales = [
            found.at(site).write_scale(h)
            for site, h in traced(lm, [question]).activations.items()
            if site in found.sites
        ]
        assert all(abs(float(scale) - 1) > 0.05 for scale in scales)
    return found


def test_a_sweep_with_any_dictionary_is_what_the_whole_model_says(
    lm: LanguageModel, any_library: Library, question: Question, long_question: Question
) -> None:
    for asked in (question, long_question):
        trace = traced(lm, [asked])
        units = units_of(any_library, trace, each=4)
        assert {unit.site for unit in units} == set(EVERY_SITE)
        alone = [plainly(lm, any_library, asked, (unit,)) for unit in units]
        assert logs(sweeping.sweep(lm, any_library, trace, units)) == pytest.approx(logs(alone), abs=1e-4)


def test_a_sweep_with_any_dictionary_beside_what_is_off_is_what_both_together_do(
    lm: LanguageModel, any_library: Library, question: Question
) -> None:
    """At one site both are measured on the activation as it was: neither moves what the other reads."""
    units = units_of(any_library, traced(lm, [question]))
    given = Ablation(tuple(units[::5]))
    trace = traced(lm, [question], changes=ablation_changes(lm, any_library, given, question.last))
    others = [unit for unit in units_of(any_library, trace) if unit not in given.units]
    found = Sweep(lm, any_library, trace, given=given).run([(0, unit) for unit in others])
    together = [plainly(lm, any_library, question, (*given.units, unit)) for unit in others]
    assert logs(found) == pytest.approx(logs(together), abs=1e-4)


@pytest.mark.parametrize("mode", [(Mode.ZERO, 0.0), (Mode.SCALE, 2.5), (Mode.MEAN, 0.0)])
@pytest.mark.parametrize(("positions", "substitute"), [*product(Positions, [False]), (Positions.LAST, True)])
def test_a_live_ablation_with_any_dictionary_is_what_the_whole_model_says(
    lm: LanguageModel,
    any_library: Library,
    long_question: Question,
    mode: tuple[Mode, float],
    positions: Positions,
    substitute: bool,
) -> None:
    trace = traced(lm, [long_question])
    live, units = Live(lm, any_library, trace), units_of(any_library, trace)
    for site in FEATURE_SITES:
        ablation = Ablation(tuple(unit for unit in units if unit.site == site), *mode, positions, substitute)
        means = dict.fromkeys(units, 0.3)
        plain = measure_ablation(lm, any_library, long_question, ablation, means=means)
        assert math.log(live.measure(ablation, means).p_after) == pytest.approx(math.log(plain.p_after), abs=1e-4), site


# --- the tiny Gemma-2 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("which", "rows"), [("question", None), ("question", 5), ("long_question", 7)])
def test_a_sweep_in_chunks_equals_measuring_each_unit_alone(
    lm: LanguageModel, library: Library, request: pytest.FixtureRequest, which: str, rows: int | None
) -> None:
    asked: Question = request.getfixturevalue(which)
    trace = traced(lm, [asked])
    units = units_of(library, trace)
    sweep = Sweep(lm, library, trace)
    found: dict[Unit, float] = {}
    sizes = []
    for places, values in sweep.chunks([(0, unit) for unit in units], rows=rows, first_rows=2):
        sizes.append(len(places))
        found |= {units[place]: value for place, value in zip(places, values, strict=True)}
    assert sizes[:2] == [2, 4]
    assert max(sizes) <= (rows or len(units))
    alone = [plainly(lm, library, asked, (unit,)) for unit in units]
    assert logs(found[unit] for unit in units) == pytest.approx(logs(alone), abs=1e-4)


def test_a_sweep_at_another_token_ablates_there(lm: LanguageModel, library: Library, question: Question) -> None:
    """Tokens between the reading position and the answer are part of each row."""
    trace = traced(lm, [question], [3])
    units = units_of(library, trace)
    alone = [plainly(lm, library, question, (unit,), 3) for unit in units]
    assert logs(sweeping.sweep(lm, library, trace, units)) == pytest.approx(logs(alone), abs=1e-4)
    assert max(abs(p - trace.p_answer[0]) for p in alone) > 1e-3


@pytest.mark.parametrize(
    "kinds",
    [
        [SiteKind.RESID_POST],
        [SiteKind.MLP_OUT],
        [SiteKind.ATTN_Z, SiteKind.RESID_POST],
        [SiteKind.RESID_MID, SiteKind.MLP_ACT],
    ],
)
@pytest.mark.parametrize("positions", Positions)
def test_a_sweep_beside_what_is_off_is_what_both_together_do(
    lm: LanguageModel, library: Library, question: Question, kinds: list[SiteKind], positions: Positions
) -> None:
    """What is given may stand below, at and above the unit's own site, and is measured anew on each row."""
    chosen = []
    for kind, layer in product(kinds, (0, 1)):
        if kind is SiteKind.MLP_ACT:
            chosen += [Unit.neuron(layer, 7), Unit.neuron(layer, 21)]
        else:
            chosen += active_features(lm, library.at(Site(layer, kind)), question)[:2]
    given = Ablation(tuple(chosen), positions=positions)
    trace = traced(lm, [question], changes=ablation_changes(lm, library, given, question.last))
    units = [unit for unit in units_of(library, trace) if unit not in chosen]
    found = Sweep(lm, library, trace, given=given).run([(0, unit) for unit in units])
    plain = measure_ablation(lm, library, question, given).p_after
    assert trace.p_answer[0] == pytest.approx(plain, rel=1e-4)
    if positions is Positions.LAST:
        expected = [plainly(lm, library, question, (*chosen, unit)) for unit in units]
        assert logs(found) == pytest.approx(logs(expected), abs=1e-4)
        return
    for unit, p in zip(units, found, strict=True):
        if unit.site not in {other.site for other in chosen}:
            with intervene(lm.model, ablation_changes(lm, library, given, question.last)):
                expected_p = plainly(lm, library, question, (unit,))
            assert math.log(p) == pytest.approx(math.log(expected_p), abs=1e-4), unit


@pytest.mark.parametrize("mode", [(Mode.ZERO, 0.0), (Mode.SCALE, 2.5), (Mode.MEAN, 0.0)])
@pytest.mark.parametrize("substitute", [False, True])
@pytest.mark.parametrize("positions", Positions)
def test_a_live_ablation_in_every_mode_is_what_the_whole_model_says(
    lm: LanguageModel,
    library: Library,
    long_question: Question,
    mode: tuple[Mode, float],
    substitute: bool,
    positions: Positions,
) -> None:
    live = Live(lm, library, traced(lm, [long_question]))
    for sites in (
        [Site(1, SiteKind.RESID_POST)],
        [Site(1, SiteKind.MLP_OUT), Site(1, SiteKind.RESID_POST)],
        EVERY_SITE,
    ):
        units = tuple(
            unit
            for site in sites
            for unit in (
                [Unit.neuron(site.layer, 4)]
                if site.kind is SiteKind.MLP_ACT
                else active_features(lm, library.at(site), long_question)[:2]
            )
        )
        ablation = Ablation(units, *mode, positions, substitute)
        means = dict.fromkeys(units, 0.3)
        plain = measure_ablation(lm, library, long_question, ablation, means=means)
        fast = live.measure(ablation, means)
        assert math.log(fast.p_after) == pytest.approx(math.log(plain.p_after), abs=1e-4)
        assert [token.token for token in fast.top_after[:3]] == [token.token for token in plain.top_after[:3]]
        assert fast.p_before == pytest.approx(plain.p_before, abs=1e-6)


def test_nothing_switched_off_is_the_trace_itself(lm: LanguageModel, library: Library, question: Question) -> None:
    effect = Live(lm, library, traced(lm, [question])).measure(Ablation())
    assert effect.p_after == effect.p_before
    assert effect.top_after == effect.top_before


def in_bfloat16(
    folder: Path, sources: dict[SiteKind, Path], asked: tuple[str, str]
) -> tuple[list[float], list[float], list[float]]:
    """P(answer) with each of some features off: in bfloat16 by a sweep and by the whole model, and in float32."""
    lm, exact = (load_model(str(folder), device="cpu", dtype=dtype) for dtype in ("bfloat16", "float32"))
    library = load_library(lm, sources.items())
    question = lm.ask(*asked)
    trace = record(lm, [question], [question.last], library.sites)
    units = [
        Unit(site, Family.FEATURE, index)
        for site in library.sites
        for index in trace.encoded(library, site)[0].topk(4).indices.tolist()
    ]
    plain, true = ([plainly(model, library, question, (unit,)) for unit in units] for model in (lm, exact))
    return sweeping.sweep(lm, library, trace, units), plain, true


def test_in_bfloat16_the_demos_probabilities_agree_and_so_does_their_order() -> None:
    for fact in demo_facts()[:40:10]:
        found, plain, _true = in_bfloat16(
            bundle.model_folder(), bundle.dictionary_folders(), (fact.prompt, fact.answer)
        )
        assert found == pytest.approx(plain, abs=1e-2)
        order = sorted(range(len(plain)), key=plain.__getitem__)[:10]
        for one, other in pairwise(order):
            if plain[other] - plain[one] > 2e-2:
                assert found[one] < found[other]


def test_in_bfloat16_a_sweep_is_as_close_to_float32_as_the_whole_model_is(
    tiny_folder: Path, sources: dict[SiteKind, Path], facts: list[Fact]
) -> None:
    """With this model's huge weights 8 bits leave both further from the truth than from one another."""
    for fact in facts[:4]:
        found, plain, true = in_bfloat16(tiny_folder, sources, (fact.prompt, fact.answer))
        rounding = max(abs(p - t) for p, t in zip(plain, true, strict=True))
        assert found == pytest.approx(true, abs=rounding + 1e-2)


# --- what can go wrong ----------------------------------------------------------------------------------------------


def test_a_cancelled_sweep_leaves_no_hook_and_keeps_what_it_found(
    lm: LanguageModel, library: Library, question: Question
) -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls > 8:
            raise Cancelled

    chunks = Sweep(lm, library, traced(lm, [question]), check=check).chunks(
        [(0, Unit.neuron(0, index)) for index in range(10)], rows=4
    )
    places, values = next(chunks)
    assert len(places) == len(values) == 4
    with pytest.raises(Cancelled):
        list(chunks)


def test_where_memory_runs_out_the_chunk_is_halved_and_nothing_is_lost(
    lm: LanguageModel, library: Library, question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = traced(lm, [question])
    units = [(0, unit) for unit in units_of(library, trace)]
    expected = Sweep(lm, library, trace).run(units)
    sizes: list[int] = []
    whole = Sweep._chunk

    def chunk(self: Sweep, some: Any) -> Any:
        sizes.append(len(some))
        if len(some) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, some)

    monkeypatch.setattr(Sweep, "_chunk", chunk)
    assert Sweep(lm, library, trace).run(units, rows=16) == pytest.approx(expected, abs=1e-6)
    assert sizes[:4] == [16, 8, 4, 2]
    assert max(sizes[4:]) == 2


def test_where_not_even_one_row_fits_the_error_is_not_hidden(
    lm: LanguageModel, library: Library, question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Sweep, some: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Sweep, "_chunk", full)
    with pytest.raises(torch.OutOfMemoryError):
        Sweep(lm, library, traced(lm, [question])).run([(0, Unit.neuron(0, 1))])


def test_any_other_fault_is_raised_at_once(
    lm: LanguageModel, library: Library, question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Sweep, some: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Sweep, "_chunk", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        Sweep(lm, library, traced(lm, [question])).run([(0, Unit.neuron(0, 1))])


def test_a_unit_that_does_not_exist_is_refused_before_anything_runs(
    lm: LanguageModel, library: Library, question: Question
) -> None:
    sweep = Sweep(lm, library, traced(lm, [question]))
    with pytest.raises(UsageError, match="There is no layer 9"):
        sweep.run([(0, Unit.neuron(0, 1)), (0, Unit.neuron(9, 1))])


def test_a_smaller_budget_means_fewer_rows_and_never_none(lm: LanguageModel, question: Question) -> None:
    suffix = Suffix(lm, traced(lm, [question]), [question.last])
    rows = [rows_within(lm, suffix, budget) for budget in (1 << 30, 1 << 20, 1 << 16, 1)]
    assert rows == sorted(rows, reverse=True)
    assert rows[0] > rows[2] > rows[3] == 1


# --- chunks that are started before the last one's values are waited for ---------------------------------------------


class OnGpu:
    """A model that says it is on a GPU, to the sweep alone: that is what makes it look ahead."""

    device = torch.device("cuda")

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lm, name)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What happened to chunks of how many units: started, and waited for."""
    happened: list[tuple[str, int]] = []

    class Told(Landing):
        def __init__(self, vector: torch.Tensor) -> None:
            super().__init__(vector)
            self._size = len(vector)
            happened.append(("started", self._size))

        def values(self) -> list[float]:
            happened.append(("waited for", self._size))
            return super().values()

    monkeypatch.setattr(sweeping, "Landing", Told)
    return happened


def looking_ahead(lm: LanguageModel, *args: Any, **options: Any) -> Sweep:
    sweep = Sweep(lm, *args, **options)
    sweep._lm = OnGpu(lm)  # type: ignore[assignment]
    return sweep


def gather(chunks: Iterable[Chunk], found: dict[int, float]) -> None:
    """Fills `found` with what is handed out, each place once."""
    for places, values in chunks:
        assert not found.keys() & set(places)
        found.update(zip(places, values, strict=True))


def test_a_sweep_that_looks_ahead_measures_every_unit_once(
    lm: LanguageModel, library: Library, question: Question, told: list[tuple[str, int]]
) -> None:
    trace = traced(lm, [question])
    pairs = [(0, unit) for unit in units_of(library, trace)][:14]
    expected = Sweep(lm, library, trace).run(pairs)
    told.clear()
    found: dict[int, float] = {}
    gather(looking_ahead(lm, library, trace).chunks(pairs, rows=4, first_rows=2), found)
    assert told == [
        ("started", 2),
        ("started", 4),
        ("waited for", 2),
        ("started", 4),
        ("waited for", 4),
        ("started", 4),
        ("waited for", 4),
        ("waited for", 4),
    ]
    assert [found[place] for place in range(14)] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("whole", range(4))
def test_what_landed_before_a_sweep_is_cancelled_is_handed_out(
    lm: LanguageModel, library: Library, question: Question, monkeypatch: pytest.MonkeyPatch, ahead: bool, whole: int
) -> None:
    """Cancelled within the chunk after `whole` whole ones: those are handed out, each unit once, and no other."""
    trace = traced(lm, [question])
    pairs = [(0, unit) for unit in units_of(library, trace)][:16]
    expected = Sweep(lm, library, trace).run(pairs)
    started = 0
    one = Sweep._chunk

    def chunk(self: Sweep, units: Any) -> Any:
        nonlocal started
        started += 1
        return one(self, units)

    def check() -> None:
        if started > whole:
            raise Cancelled

    monkeypatch.setattr(Sweep, "_chunk", chunk)
    make_sweep = looking_ahead if ahead else Sweep
    found: dict[int, float] = {}
    with pytest.raises(Cancelled):
        gather(make_sweep(lm, library, trace, check=check).chunks(pairs, rows=4), found)
    assert sorted(found) == list(range(4 * whole))
    assert [found[place] for place in sorted(found)] == pytest.approx(expected[: 4 * whole], rel=1e-5)


def test_where_memory_runs_out_behind_a_chunk_that_is_on_its_way_nothing_is_lost(
    lm: LanguageModel, library: Library, question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = traced(lm, [question])
    pairs = [(0, unit) for unit in units_of(library, trace)][:13]
    expected = Sweep(lm, library, trace).run(pairs)
    one = Sweep._chunk

    def chunk(self: Sweep, some: Any) -> Any:
        if len(some) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return one(self, some)

    monkeypatch.setattr(Sweep, "_chunk", chunk)
    found: dict[int, float] = {}
    gather(looking_ahead(lm, library, trace).chunks(pairs, rows=8, first_rows=2), found)
    assert [found[place] for place in range(13)] == pytest.approx(expected, rel=1e-5)
