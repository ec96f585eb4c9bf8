"""Sweeps and live ablations in every mode on the tiny Gemma-2, and in both dtypes: each is held to the whole model with
hooks (`measure_ablation`)."""

from __future__ import annotations

import math
from itertools import pairwise, product
from pathlib import Path

import pytest

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.readings import Ablation, Mode, Positions
from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.demo import bundle
from knowscope_tui.demo.corpus import demo_facts
from knowscope_tui.engine import sweep as sweeping
from knowscope_tui.engine.ablate import ablation_changes, measure_ablation
from knowscope_tui.engine.hooks import intervene
from knowscope_tui.engine.library import Library, load_library
from knowscope_tui.engine.live import Live
from knowscope_tui.engine.loading import load_model
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.sweep import Sweep
from knowscope_tui.engine.trace import record
from tests.engine.suffixes import (
    EVERY_SITE,
    logs,
    plainly,
    traced,
    units_of,
)
from tests.tiny import active_features

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
