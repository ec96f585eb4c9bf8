"""Sweeps, live ablations and continuations run the upper layers alone. Each is held to the whole model with hooks
(`measure_ablation`), on every family, on answers of one token and of many, and in both dtypes."""

from __future__ import annotations

from collections.abc import Callable
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
from knowscope_tui.engine.hooks import intervene
from knowscope_tui.engine.library import Library, load_library
from knowscope_tui.engine.live import Live
from knowscope_tui.engine.loading import load_model
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.suffix import Suffix
from knowscope_tui.engine.sweep import Sweep
from knowscope_tui.engine.trace import Trace, record
from knowscope_tui.errors import Cancelled, UsageError
from tests.engine.test_families import opened, save_tiny
from tests.tiny import D_MLP, DICTIONARY_KINDS, LAYERS, active_features, hook_count, random_sae

FEATURE_SITES = [Site(layer, kind) for layer, kind in product(range(LAYERS), DICTIONARY_KINDS)]
EVERY_SITE = [*FEATURE_SITES, *(Site(layer, SiteKind.MLP_ACT) for layer in range(LAYERS))]


def traced(lm: LanguageModel, questions: list[Question], positions: list[int] | None = None, **options: Any) -> Trace:
    return record(lm, questions, positions or [question.last for question in questions], EVERY_SITE, **options)


def units_of(library: Library, trace: Trace, fact: int = 0, each: int = 3) -> list[Unit]:
    """Strong features of every site and neurons of every layer, in mixed order."""
    units = []
    for site in FEATURE_SITES:
        f = trace.encoded(library, site)[fact]
        units += [Unit(site, Family.FEATURE, index) for index in f.topk(each).indices.tolist() if f[index] != 0]
    units += [Unit.neuron(layer, index) for layer in range(LAYERS) for index in (0, 20, D_MLP - 1)]
    return units[::2] + units[1::2]


def plainly(
    lm: LanguageModel, library: Library, question: Question, units: tuple[Unit, ...], position: int | None = None
) -> float:
    return measure_ablation(lm, library, question, Ablation(units), position=position).p_after


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
            generator = torch.Generator().manual_seed(3)
            ids = torch.randint(4, len(tokenizer), (14,), generator=generator).tolist()
            questions = (
                Question("a", "b", tuple(ids[:10]), (ids[10],)),
                Question("a", "c", tuple(ids[:9]), tuple(ids[9:])),
            )
            made[model_type] = Case(lm, random_library(lm, questions[0]), questions)
        return made[model_type]

    return build


def random_library(lm: LanguageModel, question: Question) -> Library:
    """A dictionary for every site but `mlp_act`, scaled to what the question shows there."""
    dictionaries = []
    with torch.no_grad():
        for number, site in enumerate(FEATURE_SITES):
            h = record(lm, [question], [question.last], [site]).activations[site]
            sae = random_sae(h, number)
            spec = Spec(site, "jumprelu", h.shape[1], len(sae["b_enc"]), "random", checked=True)
            tensors = {"encoder": sae["W_enc"].T.contiguous(), "decoder": sae["W_dec"], **sae}
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
    assert found == pytest.approx(alone, abs=1e-5)
    assert max(abs(p / trace.p_answer[0] - 1) for p in alone) > 0.1
    assert hook_count(case.lm.model) == 0


@pytest.mark.parametrize("model_type", supported_model_types())
def test_facts_of_several_lengths_in_one_batch_are_what_each_is_alone(
    make: Callable[[str], Case], model_type: str
) -> None:
    case = make(model_type)
    questions = [*case.questions, Question("a", "d", case.questions[0].prompt_ids[:4], (9, 17))]
    trace = traced(case.lm, questions, [9, 5, 2])
    pairs = [(fact, unit) for fact in range(3) for unit in units_of(case.library, trace, fact, each=2)]
    found = Sweep(case.lm, case.library, trace).run(pairs)
    alone = [plainly(case.lm, case.library, questions[fact], (unit,), trace.positions[fact]) for fact, unit in pairs]
    assert found == pytest.approx(alone, abs=1e-5)


def test_a_row_longer_than_its_fact_sees_no_token_twice(lm: LanguageModel, library: Library) -> None:
    """A long prompt with a short answer beside a short prompt with a long one: rows are as long as the longest."""
    long, short = tuple(range(4, 19)), tuple(range(30, 40))
    questions = [Question("a", "b", long, (7,)), Question("a", "c", short, (9, 8, 7, 6, 5, 4))]
    trace = traced(lm, questions)
    pairs = [(fact, unit) for fact in range(2) for unit in units_of(library, trace, fact)]
    found = Sweep(lm, library, trace).run(pairs)
    assert found == pytest.approx([plainly(lm, library, questions[fact], (unit,)) for fact, unit in pairs], abs=1e-5)


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
        live = Live(case.lm, case.library, trace)
        for site in EVERY_SITE:
            family = Family.NEURON if site.kind is SiteKind.MLP_ACT else Family.FEATURE
            ablation = Ablation(tuple(Unit(site, family, index) for index in (1, 5, 8)), positions=positions)
            fast, plain = live.measure(ablation), measure_ablation(case.lm, case.library, question, ablation)
            assert fast.p_after == pytest.approx(plain.p_after, abs=1e-5), site
            assert fast.rank_after == plain.rank_after


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
    assert [found[unit] for unit in units] == pytest.approx(
        [plainly(lm, library, asked, (unit,)) for unit in units], abs=1e-5
    )


def test_a_sweep_at_another_token_ablates_there(lm: LanguageModel, library: Library, question: Question) -> None:
    """Tokens between the reading position and the answer are part of each row."""
    trace = traced(lm, [question], [3])
    units = units_of(library, trace)
    alone = [plainly(lm, library, question, (unit,), 3) for unit in units]
    assert sweeping.sweep(lm, library, trace, units) == pytest.approx(alone, abs=1e-5)
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
    assert trace.p_answer[0] == pytest.approx(plain, abs=1e-6)
    if positions is Positions.LAST:
        expected = [plainly(lm, library, question, (*chosen, unit)) for unit in units]
        assert found == pytest.approx(expected, abs=1e-5)
        return
    for unit, p in zip(units, found, strict=True):
        if unit.site not in {other.site for other in chosen}:
            with intervene(lm.model, ablation_changes(lm, library, given, question.last)):
                assert p == pytest.approx(plainly(lm, library, question, (unit,)), abs=1e-5), unit


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
        assert fast.p_after == pytest.approx(plain.p_after, abs=1e-5)
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
