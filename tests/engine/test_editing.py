"""Edits: each method's formula against the weights it really changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from knowscope_tui.core.edits import EditPlan, EditSpec, Method
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.engine.attribution import unit_attribution
from knowscope_tui.engine.deltas.change import Change
from knowscope_tui.engine.journal import Journal
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.methods.check import EDITABLE_KINDS
from knowscope_tui.engine.methods.plan import ZEROING, plan_edit
from knowscope_tui.engine.methods.zeroing import DEFAULT_TAU2
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.sites import down_proj
from knowscope_tui.errors import EditError, UsageError
from tests.tiny import D_MLP, D_MODEL, LAYERS, activations, active_features, plain_logits, sparse, traced

EPS = 1e-6


@pytest.fixture
def fact(facts: list[Fact]) -> Fact:
    return facts[0]


def weights(lm: LanguageModel) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in lm.model.named_parameters()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, int]:
    """How many entries of each parameter differ."""
    counts = {name: int((before[name] != after[name]).sum()) for name in before}
    return {name: count for name, count in counts.items() if count}


def applied(lm: LanguageModel, deltas: list[Change]) -> dict[str, Tensor]:
    """The weights with `deltas` in them; the model itself is put back."""
    journal = Journal(lm)
    journal.apply(deltas)
    after = weights(lm)
    journal.undo()
    return after


def a_feature(lm: LanguageModel, library: Library, question: Question, site: Site) -> Unit:
    return active_features(lm, library.at(site), question)[0]


def contributions(lm: LanguageModel, library: Library, unit: Unit, layer: int, questions: list[Question]) -> Tensor:
    """c_jk by hand, entry by entry as the module's docstring states it: (d_model, d_mlp)."""
    d = library.at(unit.site).decoder[unit.index]
    W = down_proj(lm.model, layer)
    g = 1 + lm.model.model.layers[layer].post_feedforward_layernorm.weight
    total = torch.zeros_like(W)
    for question in questions:
        a = activations(lm, question, [Site(layer, SiteKind.MLP_ACT)])[Site(layer, SiteKind.MLP_ACT)][question.last]
        r = ((W @ a) ** 2).mean().add(EPS).sqrt()
        total += torch.einsum("j,j,jk,k->jk", g, d, W, a) / r
    return total


# --- counts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", EDITABLE_KINDS, ids=str)
@pytest.mark.parametrize("method", ZEROING, ids=lambda method: method.value)
def test_an_edit_changes_exactly_as_many_entries_as_its_plan_says(
    lm: LanguageModel, library: Library, fact: Fact, method: Method, site: SiteKind
) -> None:
    before = weights(lm)
    plan, deltas = plan_edit(lm, library, EditSpec((fact,), method, site, top=4))
    after = applied(lm, deltas)
    counted = {parameter.name: parameter.positions for parameter in plan.parameters}
    assert changed(before, after) == counted
    assert plan.positions == sum(counted.values()) > 0
    for name in counted:
        assert name.endswith("mlp.down_proj.weight")
        touched = before[name] != after[name]
        assert (after[name][touched] == 0).all()
    assert all(parameter.shape == tuple(before[parameter.name].shape) for parameter in plan.parameters)
    assert plan.tau2 == DEFAULT_TAU2[method]


def test_planning_changes_no_weight(lm: LanguageModel, library: Library, fact: Fact) -> None:
    before = weights(lm)
    plan_edit(lm, library, EditSpec((fact,)))
    assert changed(before, weights(lm)) == {}


# --- positions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EDITABLE_KINDS, ids=str)
def test_contributions_add_up_to_what_the_mlp_writes_into_the_feature(
    lm: LanguageModel, library: Library, question: Question, kind: SiteKind
) -> None:
    """Σ_jk c_jk = W_dec[i] · mlp_out: the identity that ties single weights to the feature's direction."""
    for layer in range(LAYERS):
        out = activations(lm, question, [Site(layer, SiteKind.MLP_OUT)])[Site(layer, SiteKind.MLP_OUT)][question.last]
        unit = Unit.feature(LAYERS - 1, kind, 5)
        c = contributions(lm, library, unit, layer, [question])
        d = library.at(unit.site).decoder[unit.index]
        assert float(c.sum()) == pytest.approx(float(d @ out), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("tau2", [0.0, 0.1, 0.5, 0.9])
def test_positions_zeroes_the_entries_whose_contribution_exceeds_tau2_of_the_largest(
    lm: LanguageModel, library: Library, fact: Fact, question: Question, tau2: float
) -> None:
    unit = a_feature(lm, library, question, Site(1, SiteKind.MLP_OUT))
    _plan, deltas = plan_edit(lm, library, EditSpec((fact,), tau2=tau2, units=(unit,)))
    c = contributions(lm, library, unit, 1, [question])
    expected = (c > tau2 * c.max()) & (c > 0)
    after = applied(lm, deltas)["model.layers.1.mlp.down_proj.weight"]
    assert torch.equal(after == 0, expected)
    assert 0 < int(expected.sum()) < expected.numel()


def test_with_tau2_zero_exactly_the_positive_contributions_go(
    lm: LanguageModel, library: Library, fact: Fact, question: Question
) -> None:
    unit = a_feature(lm, library, question, Site(2, SiteKind.MLP_OUT))
    _plan, deltas = plan_edit(lm, library, EditSpec((fact,), tau2=0.0, units=(unit,)))
    after = applied(lm, deltas)["model.layers.2.mlp.down_proj.weight"]
    assert torch.equal(after == 0, contributions(lm, library, unit, 2, [question]) > 0)


def test_a_residual_features_writers_are_weighed_against_each_other(
    lm: LanguageModel, library: Library, fact: Fact, question: Question
) -> None:
    """`resid_post` of layer 1 is written to by layers 0 and 1, `resid_mid` by layer 0 alone; one maximum for all."""
    for kind, writers in ((SiteKind.RESID_POST, [0, 1]), (SiteKind.RESID_MID, [0])):
        unit = a_feature(lm, library, question, Site(1, kind))
        _plan, deltas = plan_edit(lm, library, EditSpec((fact,), tau2=0.2, units=(unit,)))
        c = {layer: contributions(lm, library, unit, layer, [question]) for layer in writers}
        largest = max(float(table.max()) for table in c.values())
        after = applied(lm, deltas)
        for layer in range(LAYERS):
            zeroed = after[f"model.layers.{layer}.mlp.down_proj.weight"] == 0
            assert torch.equal(zeroed, c[layer] > 0.2 * largest if layer in c else torch.zeros_like(zeroed))


def test_further_phrasings_are_summed_and_paraphrases_never_seen(
    lm: LanguageModel, library: Library, fact: Fact, facts: list[Fact], question: Question
) -> None:
    unit = a_feature(lm, library, question, Site(1, SiteKind.MLP_OUT))
    other = facts[3].prompt
    worded = replace(fact, edit_prompts=(other,))
    _plan, deltas = plan_edit(lm, library, EditSpec((worded,), tau2=0.1, units=(unit,)))
    c = contributions(lm, library, unit, 1, [question, lm.ask(other, fact.answer)])
    assert torch.equal(applied(lm, deltas)["model.layers.1.mlp.down_proj.weight"] == 0, c > 0.1 * c.max())
    plain = plan_edit(lm, library, EditSpec((replace(fact, paraphrases=()),)))
    shown = plan_edit(lm, library, EditSpec((replace(fact, paraphrases=("nothing of the kind",)),)))
    assert plain[0].parameters == shown[0].parameters
    assert plain[0].units == shown[0].units


def test_zeroing_positions_lowers_what_is_written_into_the_feature(
    lm: LanguageModel, library: Library, fact: Fact, question: Question
) -> None:
    unit = a_feature(lm, library, question, Site(1, SiteKind.MLP_OUT))
    before = float(contributions(lm, library, unit, 1, [question]).sum())
    _plan, deltas = plan_edit(lm, library, EditSpec((fact,), tau2=0.3, units=(unit,)))
    journal = Journal(lm)
    journal.apply(deltas)
    after = float(contributions(lm, library, unit, 1, [question]).sum())
    journal.undo()
    assert after < before - 0.1 * abs(before)


# --- rows, neurons, random ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "writer"), [(SiteKind.MLP_OUT, 1), (SiteKind.RESID_POST, 1), (SiteKind.RESID_MID, 0)])
def test_rows_zeroes_whole_rows_where_the_decoder_row_is_large(
    lm: LanguageModel, library: Library, fact: Fact, kind: SiteKind, writer: int
) -> None:
    unit = Unit.feature(1, kind, 4)
    plan, deltas = plan_edit(lm, library, EditSpec((fact,), Method.ROWS, tau2=0.6, units=(unit,)))
    d = library.at(unit.site).decoder[unit.index].abs()
    rows = d > 0.6 * d.max()
    assert [parameter.name for parameter in plan.parameters] == [f"model.layers.{writer}.mlp.down_proj.weight"]
    after = applied(lm, deltas)[f"model.layers.{writer}.mlp.down_proj.weight"]
    assert torch.equal(after == 0, rows[:, None].expand(D_MODEL, D_MLP))
    assert plan.positions == int(rows.sum()) * D_MLP


def test_the_neurons_edit_equals_zeroing_their_columns_by_hand(
    lm: LanguageModel, library: Library, fact: Fact, question: Question
) -> None:
    units = (Unit.neuron(0, 7), Unit.neuron(2, 3), Unit.neuron(2, 40))
    plan, deltas = plan_edit(lm, library, EditSpec((fact,), Method.NEURONS, units=units))
    journal = Journal(lm)
    journal.apply(deltas)
    edited = plain_logits(lm, question)
    journal.undo()
    pristine = {layer: down_proj(lm.model, layer).clone() for layer in (0, 2)}
    with torch.no_grad():
        for unit in units:
            down_proj(lm.model, unit.site.layer)[:, unit.index] = 0
        by_hand = plain_logits(lm, question)
        for layer, weight in pristine.items():
            down_proj(lm.model, layer).copy_(weight)
    assert torch.equal(edited, by_hand)
    assert not torch.equal(edited, plain_logits(lm, question))
    assert plan.positions == len(units) * D_MODEL
    assert plan.units == units


def test_random_zeroes_exactly_as_many_entries_of_each_matrix_as_positions(
    lm: LanguageModel, library: Library, fact: Fact
) -> None:
    spec = EditSpec((fact,), site=SiteKind.RESID_POST, top=5)
    positions, _deltas = plan_edit(lm, library, spec)
    drawn, deltas = plan_edit(lm, library, replace(spec, method=Method.RANDOM))
    counts = [(change.name, change.positions, change.zeroed) for change in drawn.parameters]
    assert counts == [(change.name, change.positions, change.zeroed) for change in positions.parameters]
    again, same = plan_edit(lm, library, replace(spec, method=Method.RANDOM))
    assert all(torch.equal(sparse(one).indices, sparse(other).indices) for one, other in zip(deltas, same, strict=True))
    assert again.parameters == drawn.parameters
    _plan, others = plan_edit(lm, library, replace(spec, method=Method.RANDOM, seed=1))
    assert not all(
        torch.equal(sparse(one).indices, sparse(other).indices) for one, other in zip(deltas, others, strict=True)
    )


# --- which units ----------------------------------------------------------------------------------------------------


def test_the_units_are_the_strongest_by_attribution_at_the_site(
    lm: LanguageModel, library: Library, fact: Fact, question: Question
) -> None:
    plan, _deltas = plan_edit(lm, library, EditSpec((fact,), site=SiteKind.RESID_POST, top=6))
    sites = [Site(layer, SiteKind.RESID_POST) for layer in range(LAYERS)]
    trace = traced(lm, question, sites)
    found: list[tuple[float, Unit]] = []
    for site in sites:
        attribution = unit_attribution(library, site, trace)[1][0]
        found += [(float(value), Unit(site, Family.FEATURE, index)) for index, value in enumerate(attribution)]
    found.sort(key=lambda pair: -pair[0])
    assert plan.units == tuple(unit for _value, unit in found[:6])


def test_the_neurons_method_takes_the_strongest_neurons(
    lm: LanguageModel, library: Library, fact: Fact, question: Question
) -> None:
    plan, _deltas = plan_edit(lm, library, EditSpec((fact,), Method.NEURONS, top=3))
    sites = [Site(layer, SiteKind.MLP_ACT) for layer in range(LAYERS)]
    trace = traced(lm, question, sites)
    table = torch.stack([(trace.activations[site] * trace.slopes[site])[0] for site in sites]).flatten()
    expected = [Unit.neuron(index // D_MLP, index % D_MLP) for index in table.topk(3).indices.tolist()]
    assert list(plan.units) == expected


def test_an_edit_of_several_facts_is_the_union_of_its_facts(
    lm: LanguageModel, library: Library, facts: list[Fact]
) -> None:
    def places(plan_and_deltas: tuple[EditPlan, list[Change]]) -> set[tuple[str, int]]:
        return {(delta.name, index) for delta in plan_and_deltas[1] for index in sparse(delta).indices.tolist()}

    each = [places(plan_edit(lm, library, EditSpec((fact,), top=3))) for fact in facts[:3]]
    together = plan_edit(lm, library, EditSpec(tuple(facts[:3]), top=3))
    assert places(together) == set.union(*each)
    assert len(together[0].units) == len(set(together[0].units))


def test_answers_of_several_tokens_can_be_edited(lm: LanguageModel, library: Library, long_question: Question) -> None:
    fact = Fact(long_question.prompt, long_question.answer)
    for method in ZEROING:
        plan, deltas = plan_edit(lm, library, EditSpec((fact,), method, top=3))
        journal = Journal(lm)
        plain = plain_logits(lm, long_question)
        journal.apply(deltas)
        assert not torch.equal(plain_logits(lm, long_question), plain)
        journal.undo()
        assert plan.positions > 0


def test_a_second_edit_is_planned_on_the_model_as_the_first_left_it(
    lm: LanguageModel, library: Library, fact: Fact, question: Question
) -> None:
    unit = a_feature(lm, library, question, Site(1, SiteKind.MLP_OUT))
    spec = EditSpec((fact,), tau2=0.3, units=(unit,))
    journal = Journal(lm)
    _first, deltas = plan_edit(lm, library, spec)
    journal.apply(deltas)
    second, more = plan_edit(lm, library, spec)
    assert not set(sparse(deltas[0]).indices.tolist()) & set(sparse(more[0]).indices.tolist())
    before = weights(lm)
    journal.apply(more)
    assert sum(changed(before, weights(lm)).values()) == second.positions
    journal.undo()
    journal.undo()


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"facts": ()}, "No fact was named to edit."),
        ({"tau2": 1.0}, "τ2 is 1. It is a share of the largest value: use 0 or more, and less than 1."),
        ({"tau2": -0.1}, "τ2 is -0.1."),
        ({"tau2": float("nan")}, "τ2 is nan."),
        ({"top": 0}, "An edit of 0 units changes nothing."),
        ({"site": SiteKind.ATTN_Z}, "No down_proj writes into attn_z features."),
        ({"units": (Unit.feature(1, SiteKind.ATTN_Z, 3),)}, "No down_proj writes into attn_z features."),
        ({"units": (Unit.neuron(1, 3),)}, "The method 'positions' edits features, and 1.mlp_act.n3 is none."),
        (
            {"method": Method.NEURONS, "units": (Unit.feature(1, SiteKind.MLP_OUT, 3),)},
            "The method 'neurons' edits neurons, and 1.mlp_out.f3 is none.",
        ),
        ({"units": (Unit.feature(0, SiteKind.RESID_MID, 3),)}, "This edit changes no weight."),
        ({"method": Method.ROWS, "units": (Unit.feature(0, SiteKind.RESID_MID, 3),)}, "This edit changes no weight."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_edit_that_cannot_be_is_refused_in_a_sentence(
    lm: LanguageModel, library: Library, fact: Fact, spec: dict[str, object], message: str
) -> None:
    with pytest.raises(EditError) as refused:
        plan_edit(lm, library, replace(EditSpec((fact,)), **spec))  # type: ignore[arg-type]
    assert str(refused.value).startswith(message)
    assert refused.value.hint


def test_a_site_without_dictionaries_and_a_unit_that_is_not_there_are_refused(
    lm: LanguageModel, library: Library, fact: Fact
) -> None:
    with pytest.raises(EditError, match=r"No dictionary is loaded at mlp_out\. Sites with dictionaries: none\."):
        plan_edit(lm, Library(), EditSpec((fact,), site=SiteKind.MLP_OUT))
    with pytest.raises(UsageError, match="no feature 99"):
        plan_edit(lm, library, EditSpec((fact,), units=(Unit.feature(1, SiteKind.MLP_OUT, 99),)))
    plan, _deltas = plan_edit(lm, Library(), EditSpec((fact,), Method.NEURONS))
    assert len(plan.units) == 10
