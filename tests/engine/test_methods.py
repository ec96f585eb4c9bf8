"""The methods that solve and optimise change what they say, do what they are for, and leave every bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from knowscope_tui.core.edits import EditSpec, Limits, Method, NoTau2
from knowscope_tui.core.facts import Fact
from knowscope_tui.engine.deltas.change import make
from knowscope_tui.engine.journal import Journal
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.methods.conflicts import conflicts
from knowscope_tui.engine.methods.evidence import phrasings
from knowscope_tui.engine.methods.invented import invented_neighbors, invented_phrasings
from knowscope_tui.engine.methods.material import Material
from knowscope_tui.engine.methods.plan import frontier, outline, plan_edit
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.proof.evaluate import know
from knowscope_tui.errors import EditError
from knowscope_tui.session.scope import Scope
from tests.tiny import bits

HEAVY = (Method.PRECISE, Method.REFINED, Method.REFINED_RANDOM, Method.GRADIENT)
TEXTS = ("We packed the buns and a flask of tea.", "There was rain again.", "The pond is deep.", "Tea.", "A bridge.")


def material(facts: list[Fact]) -> Material:
    return Material(tuple(facts[3:]), TEXTS)


@pytest.mark.parametrize("method", HEAVY, ids=lambda method: method.value)
def test_working_an_edit_out_leaves_every_bit_and_counts_what_it_changes(
    lm: LanguageModel, library: Library, facts: list[Fact], method: Method
) -> None:
    before = bits(lm.model)
    plan, changes = plan_edit(lm, library, EditSpec((facts[0],), method, budget=0.02), material(facts))
    assert bits(lm.model) == before
    assert plan.positions == sum(change.positions for change in changes) > 0
    for change, described in zip(changes, plan.parameters, strict=True):
        weight = lm.model.get_parameter(change.name).detach()
        edited = weight.clone()
        make(edited, change)
        assert int((edited != weight).sum()) == described.positions == sum(map(sum, described.picture))
    if method in (Method.REFINED, Method.REFINED_RANDOM):
        assert plan.share is not None
        assert plan.share <= 0.02 + 1e-3
        assert outline(lm, library, plan.spec).positions >= plan.positions


@pytest.mark.parametrize("method", HEAVY, ids=lambda method: method.value)
def test_the_answer_goes_and_a_new_one_can_take_its_place(
    lm: LanguageModel, library: Library, facts: list[Fact], method: Method
) -> None:
    journal = Journal(lm)
    known = next(fact for fact in facts if know(lm, [lm.ask(fact.prompt, fact.answer)])[0].top)
    other = next(fact.answer for fact in facts if fact.answer != known.answer)
    for edited in (known, replace(known, target_new=other)):
        spec = EditSpec((edited,), method, budget=0.2)
        journal.apply(plan_edit(lm, library, spec, material(facts)).changes)
        asked = know(lm, [lm.ask(known.prompt, answer) for answer in (known.answer, other)])
        journal.undo()
        assert not asked[0].top
        if edited.target_new and method is not Method.REFINED_RANDOM:
            assert asked[1].p > 0.2


def test_a_method_that_only_erases_says_so(lm: LanguageModel, library: Library, facts: list[Fact]) -> None:
    with pytest.raises(EditError, match="takes answers away and writes none"):
        plan_edit(lm, library, EditSpec((replace(facts[0], target_new="Elsewhere"),)))


def test_two_answers_for_one_prompt_are_refused_and_alike_keys_are_shown(
    lm: LanguageModel, library: Library, facts: list[Fact]
) -> None:
    one, two = (replace(facts[0], target_new=answer) for answer in ("Here", "There"))
    with pytest.raises(EditError, match="answered in two ways"):
        plan_edit(lm, library, EditSpec((one, two), Method.PRECISE))
    (conflict,) = conflicts(lm, [one], [(7, [two])])
    assert (conflict.applied, conflict.similarity) == (7, 1.0)
    assert conflicts(lm, [facts[0]], [(7, [facts[0]])]) == ()


def test_the_frontier_falls_with_tau2_and_its_knee_is_within_the_limits(
    lm: LanguageModel, library: Library, facts: list[Fact]
) -> None:
    before = bits(lm.model)
    spec = EditSpec((facts[0],), limits=Limits(0.0, 10.0, 0.0))
    grown = [found for found, _final in frontier(lm, library, spec, material(facts))]
    assert bits(lm.model) == before
    points = grown[-1].points
    assert [point.tau2 for point in points] == sorted((point.tau2 for point in points), reverse=True)
    assert [point.positions for point in points] == sorted(point.positions for point in points)
    knee = grown[-1].knee
    assert knee is not None
    assert knee.meets
    plan = plan_edit(lm, library, replace(spec, auto=True), material(facts)).plan
    assert (plan.tau2, plan.positions) == (knee.tau2, knee.positions)
    others = [replace(facts[0], answer=fact.answer, edit_prompts=()) for fact in facts]
    unknown = next(fact for fact in others if not know(lm, [lm.ask(fact.prompt, fact.answer)])[0].top)
    with pytest.raises(EditError, match="in none of the phrasings"):
        plan_edit(lm, library, EditSpec((unknown,), auto=True), material(facts))
    with pytest.raises(NoTau2, match="No τ2 reaches"):
        plan_edit(lm, library, replace(spec, limits=Limits(1.0, 0.0, 1.0), auto=True), material(facts))


def test_invented_phrasings_are_others_that_the_model_answers_as_the_fact_says(demo_scope: Scope) -> None:
    lm, facts = demo_scope._lm, [fact for fact in demo_scope.facts if fact.subject][:6]
    found = invented_phrasings(lm, facts[:2], Material(tuple(facts[2:]), TEXTS), 4, 0)
    for fact, prompts in found.items():
        assert 0 < len(set(prompts)) == len(prompts) <= 4
        assert not set(prompts) & set(phrasings(fact))
        assert all(answer.top for answer in know(lm, [lm.ask(prompt, fact.answer) for prompt in prompts]))


def test_invented_neighbors_are_the_facts_prompts_about_nobody(facts: list[Fact]) -> None:
    names = ["Orla Vane", "Bram Holt", "Ines Ruiz", "Pia Dell"]
    named = [
        replace(fact, subject=name, prompt=f"{name}, {fact.prompt}") for name, fact in zip(names, facts, strict=False)
    ]
    about = invented_neighbors(named[:2], Material(tuple(named[2:])), 6, 0)
    assert len(set(about)) == 6
    for prompt in about:
        nobody, rest = prompt.split(", ", 1)
        assert nobody not in names
        assert {name.split()[0] for name in names} >= {nobody.split()[0]}
        assert rest in {fact.prompt for fact in facts[:2]}
    single = [replace(fact, subject="Orla", prompt=f"Orla, {fact.prompt}") for fact in facts[:2]]
    assert invented_neighbors(single, Material(), 6, 0) == ()


def test_the_optimised_values_survive_half_precision(tiny_folder: object, facts: list[Fact]) -> None:
    from knowscope_tui.engine.loading import load_model

    lm = load_model(str(tiny_folder), device="cpu", dtype="bfloat16")
    before = bits(lm.model)
    planned = plan_edit(lm, Library(), EditSpec((facts[0],), Method.GRADIENT), material(facts))
    assert bits(lm.model) == before
    assert all(torch.isfinite(change.values).all() for change in planned.changes if hasattr(change, "values"))
