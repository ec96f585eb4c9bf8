"""A reading: what it must equal, how it is ranked, and where it refuses to look."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from knowscope_tui.core.readings import Ablation, NeuronAttribution, Rank, Reading
from knowscope_tui.core.units import Family, Site, SiteKind
from knowscope_tui.demo.corpus import taught_facts
from knowscope_tui.engine import probe
from knowscope_tui.engine.ablate import measure_ablation
from knowscope_tui.engine.attribution import integrated_gradients, unit_attribution
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.look import Look, open_look
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.probe import reading_position
from knowscope_tui.errors import UsageError
from knowscope_tui.session.scope import Scope
from tests.tiny import D_MLP, LAYERS, activations, plain_logits, traced

BOTH = (Family.FEATURE, Family.NEURON)


def look(lm: LanguageModel, library: Library, question: Question, **options: Any) -> Look:
    return open_look(lm, library, question.prompt, question.answer, **options)


def reading_of(
    lm: LanguageModel, library: Library, question: Question, rank: Rank = Rank.ATTRIBUTION, **options: Any
) -> Reading:
    return look(lm, library, question, **options).reading(rank, 10_000)


def test_a_reading_tells_what_plain_hugging_face_computes(
    lm: LanguageModel, library: Library, question: Question
) -> None:
    reading = reading_of(lm, library, question)
    p = torch.softmax(plain_logits(lm, question)[question.last], dim=-1)
    best = p.topk(10)
    assert reading.p_answer == pytest.approx(float(p[question.answer_ids[0]]), rel=1e-5)
    assert reading.rank == 1
    assert [token.token for token in reading.top_tokens] == [lm.text(token) for token in best.indices.tolist()]
    assert [token.p for token in reading.top_tokens] == pytest.approx(best.values.tolist(), rel=1e-5)
    assert reading.tokens == tuple(lm.text(token) for token in question.prompt_ids)
    assert reading.tokens[0] == "<bos>"
    assert reading.position == question.last


@pytest.mark.parametrize("position", [None, 1, 4, -2])
def test_units_are_those_active_at_the_reading_position(
    lm: LanguageModel, library: Library, question: Question, position: int | None
) -> None:
    place = reading_position(question, position)
    reading = reading_of(lm, library, question, position=position)
    plain = activations(lm, question, [*library.sites, *(Site(n, SiteKind.MLP_ACT) for n in range(LAYERS))])
    seen = {row.unit: row.activation for row in reading.units}
    assert {row.position for row in reading.units} == {place}
    expected = {}
    for site, h in plain.items():
        z = h[place] if site.kind is SiteKind.MLP_ACT else library.at(site).encode(h[place])
        for index in z.nonzero().flatten().tolist():
            expected[site, index] = float(z[index])
    assert {(unit.site, unit.index) for unit in seen} == set(expected)
    for unit, value in seen.items():
        assert value == pytest.approx(expected[unit.site, unit.index], rel=1e-4, abs=1e-6)


def test_attributions_are_those_of_the_attribution_module(
    lm: LanguageModel, library: Library, question: Question
) -> None:
    reading = reading_of(lm, library, question)
    trace = traced(lm, question, library.sites)
    for row in reading.units:
        if row.unit.family is Family.FEATURE:
            expected = unit_attribution(library, row.unit.site, trace)[1][0, row.unit.index]
            assert row.attribution == pytest.approx(float(expected), rel=1e-3, abs=1e-6)


def test_neurons_can_be_attributed_by_integrated_gradients(
    lm: LanguageModel, library: Library, question: Question
) -> None:
    told: list[float | None] = []
    reading = reading_of(
        lm,
        library,
        question,
        families=(Family.NEURON,),
        neuron_attribution=NeuronAttribution.INTEGRATED,
        on_progress=lambda doing, fraction: told.append(fraction),
    )
    expected = integrated_gradients(lm, question, question.last)
    assert len(reading.units) == LAYERS * D_MLP
    for row in reading.units:
        assert row.attribution == pytest.approx(float(expected[row.unit.site][row.unit.index]), rel=1e-3, abs=1e-7)
    assert told == [layer / LAYERS for layer in range(LAYERS)]


@pytest.mark.parametrize("families", [(Family.FEATURE,), (Family.NEURON,), BOTH])
def test_only_the_asked_families_are_read(
    lm: LanguageModel, library: Library, question: Question, families: tuple[Family, ...]
) -> None:
    reading = reading_of(lm, library, question, families=families)
    assert {row.unit.family for row in reading.units} == set(families)
    assert {site.family for site in reading.sites} == set(families)


@pytest.mark.parametrize("rank", [Rank.ACTIVATION, Rank.ATTRIBUTION])
def test_units_are_sorted_by_what_was_asked_and_the_top_is_the_head_of_the_whole(
    lm: LanguageModel, library: Library, question: Question, rank: Rank
) -> None:
    whole = reading_of(lm, library, question, rank=rank)
    strength = [abs(row.activation) if rank is Rank.ACTIVATION else row.attribution for row in whole.units]
    assert strength == sorted(strength, reverse=True)
    assert whole.ranked_by is rank
    head = look(lm, library, question).reading(rank, 7)
    assert head.units == whole.units[:7]
    assert head.sites == whole.sites


def test_what_was_measured_ranks_first_and_is_what_ablating_each_unit_alone_gives(
    lm: LanguageModel, library: Library, question: Question
) -> None:
    seen = look(lm, library, question)
    chosen = seen.strongest()[:30][::2]
    for _found in seen.exact(chosen):
        pass
    reading = seen.reading(Rank.DELTA_PROB, 10_000)
    assert {row.unit for row in reading.units[: len(chosen)]} == set(chosen)
    drops = [row.delta_prob for row in reading.units if row.delta_prob is not None]
    assert drops == sorted(drops, reverse=True)
    assert len(drops) == len(chosen)
    for row in reading.units[: len(chosen)]:
        effect = measure_ablation(lm, library, question, Ablation((row.unit,)))
        assert row.delta_prob == pytest.approx(effect.delta_prob, abs=1e-4)
    behind = [row.attribution for row in reading.units[len(chosen) :]]
    assert behind == sorted(behind, reverse=True)
    assert seen.reading(Rank.DELTA_PROB, 5).units == reading.units[:5]


def test_without_a_number_all_features_are_listed_and_the_strongest_neurons(
    lm: LanguageModel, library: Library, question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "NEURONS_LISTED", 11)
    seen = look(lm, library, question)
    units = [row.unit for row in seen.reading().units]
    features, neurons = ([unit for unit in units if unit.family is family] for family in BOTH)
    assert set(features) == set(seen.active(Family.FEATURE))
    assert neurons == seen.active(Family.NEURON)[:11]


def test_selected_units_exceed_tau1_times_the_largest_of_their_kind(
    lm: LanguageModel, library: Library, question: Question
) -> None:
    reading = look(lm, library, question).reading(Rank.ATTRIBUTION, 10_000, tau1=0.5)
    for kind in {row.unit.site.kind for row in reading.units}:
        rows = [row for row in reading.units if row.unit.site.kind is kind]
        threshold = 0.5 * max(row.activation for row in rows)
        assert [row.selected for row in rows] == [row.activation > threshold for row in rows]
        assert any(row.selected for row in rows)
        assert not all(row.selected for row in rows)


def test_a_cell_of_the_heat_map_sums_up_its_units(lm: LanguageModel, library: Library, question: Question) -> None:
    reading = reading_of(lm, library, question)
    assert len(reading.sites) == len(library) + LAYERS
    for site in reading.sites:
        rows = [row for row in reading.units if row.unit.site == site.site]
        assert site.active == len(rows)
        assert site.attribution == pytest.approx(sum(max(row.attribution, 0) for row in rows), rel=1e-4, abs=1e-6)
        assert site.max_activation == pytest.approx(max(row.activation for row in rows), rel=1e-5)


def test_without_an_answer_the_models_own_top_token_is_taken(lm: LanguageModel, library: Library) -> None:
    """Where that token begins a word, as it does after a whole word in any trained model."""
    asked = [lm.ask(taught.seen[0], "x") for taught in taught_facts()[::20]]
    asked = [one for one in asked if lm.text(int(plain_logits(lm, one)[one.last].argmax())).startswith(" ")]
    assert len(asked) > 3
    for question in asked[:4]:
        reading = reading_of(lm, library, replace(question, answer=""), families=(Family.NEURON,))
        assert reading.answer == reading.top_tokens[0].token.strip()
        assert reading.rank == 1
        assert reading.p_answer == pytest.approx(reading.top_tokens[0].p, rel=1e-5)


@pytest.mark.parametrize("position", [0, 99, -99])
def test_bos_and_positions_outside_the_prompt_are_refused(
    lm: LanguageModel, library: Library, question: Question, position: int
) -> None:
    with pytest.raises(
        UsageError, match=rf"no reading position {position} .* Use 1 to {question.last}; 0, the start, is never read"
    ):
        reading_of(lm, library, question, position=position)


def test_a_reading_without_dictionaries_shows_neurons(lm: LanguageModel, question: Question) -> None:
    reading = reading_of(lm, Library(), question)
    assert {row.unit.family for row in reading.units} == {Family.NEURON}
    assert reading_of(lm, Library(), question, families=(Family.FEATURE,)).units == ()


def test_an_answer_that_is_right_only_at_first_is_not_what_the_model_says(demo_scope: Scope) -> None:
    """Every token of an answer counts: a number with one wrong digit at its end is not known."""
    fact = next(fact for fact in demo_scope.facts if fact.relation == "phone")
    wrong = fact.answer[:-1] + ("1" if fact.answer[-1] != "1" else "2")
    right, almost = (
        demo_scope.probe(fact.prompt, answer, families=(), top=1, exact=0) for answer in (fact.answer, wrong)
    )
    assert right.says_answer
    assert (almost.rank, almost.says_answer) == (1, False)
