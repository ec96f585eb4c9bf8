"""Sweeps and live ablations on every family of models and kind of dictionary, held to the whole model with hooks
(`measure_ablation`), for answers of one token and of many."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from knowscope_tui.core.readings import Ablation, Mode, Positions
from knowscope_tui.core.units import Family, SiteKind, Unit
from knowscope_tui.engine import sweep as sweeping
from knowscope_tui.engine.ablate import ablation_changes, measure_ablation
from knowscope_tui.engine.families import supported_model_types
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.live import Live
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.sweep import Sweep
from tests.engine.suffixes import (
    EVERY_SITE,
    FEATURE_SITES,
    LEAST,
    logs,
    plainly,
    random_library,
    said_by,
    sharpen,
    traced,
    units_of,
)
from tests.engine.test_families import opened, save_tiny
from tests.tiny import hook_count

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
