"""Ablation as identities: what switching a unit off must equal."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.readings import Ablation, Mode, Positions
from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.engine.ablate import ablation_changes, measure_ablation
from knowscope_tui.engine.answers import forward, probability
from knowscope_tui.engine.hooks import capture, intervene
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.means import mean_activations
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.sites import down_proj
from knowscope_tui.errors import UsageError
from tests.tiny import D_MLP, D_SAE, DICTIONARY_KINDS, LAYERS, activations, active_features, plain_logits

FEATURE_SITES = [Site(layer, kind) for layer, kind in product(range(LAYERS), DICTIONARY_KINDS)]
LAST_LAYER = LAYERS - 1


def ablated(
    lm: LanguageModel,
    library: Library,
    question: Question,
    ablation: Ablation,
    means: dict[Unit, float] | None = None,
) -> Tensor:
    """Logits under `ablation`, (pos, vocabulary)."""
    with intervene(lm.model, ablation_changes(lm, library, ablation, question.last, means)):
        return forward(lm, question)


def after_ablation(
    lm: LanguageModel, library: Library, question: Question, ablation: Ablation, site: Site
) -> tuple[Tensor, Tensor]:
    """The activation at `site` without and with `ablation`: (pos, width) twice."""
    plain = activations(lm, question, [site])[site]
    changes = ablation_changes(lm, library, ablation, question.last, dict.fromkeys(ablation.units, 0.7))
    with torch.no_grad():
        return plain, changes[site](plain[None])[0]


# --- nothing, everything --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("substitute", [False, True])
@pytest.mark.parametrize("positions", Positions)
def test_an_ablation_with_no_units_changes_no_bit(
    lm: LanguageModel, library: Library, question: Question, positions: Positions, substitute: bool
) -> None:
    nothing = Ablation((), positions=positions, substitute=substitute)
    assert torch.equal(ablated(lm, library, question, nothing), plain_logits(lm, question))


@pytest.mark.parametrize("site", FEATURE_SITES, ids=str)
def test_ablating_a_feature_that_does_not_fire_changes_no_bit(
    lm: LanguageModel, library: Library, question: Question, site: Site
) -> None:
    firing = {unit.index for unit in active_features(lm, library.at(site), question)}
    silent = next(index for index in range(D_SAE) if index not in firing)
    after = ablated(lm, library, question, Ablation((Unit(site, Family.FEATURE, silent),)))
    assert torch.equal(after, plain_logits(lm, question))


@pytest.mark.parametrize("site", FEATURE_SITES, ids=str)
def test_ablating_a_feature_that_fires_moves_the_logits(
    lm: LanguageModel, library: Library, question: Question, site: Site
) -> None:
    strongest = active_features(lm, library.at(site), question)[0]
    after = ablated(lm, library, question, Ablation((strongest,)))
    assert (after - plain_logits(lm, question))[question.last].abs().max() > 1e-2


def test_naming_a_unit_twice_is_naming_it_once(lm: LanguageModel, library: Library, question: Question) -> None:
    unit = active_features(lm, library.at(Site(1, SiteKind.RESID_POST)), question)[0]
    once = ablated(lm, library, question, Ablation((unit,)))
    assert torch.equal(ablated(lm, library, question, Ablation((unit, unit))), once)


# --- modes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("positions", Positions)
def test_scaling_by_zero_is_zeroing(
    lm: LanguageModel, library: Library, question: Question, positions: Positions, family: Family
) -> None:
    units = some_units(lm, library, question, family)
    zero = ablated(lm, library, question, Ablation(units, Mode.ZERO, positions=positions))
    scaled = ablated(lm, library, question, Ablation(units, Mode.SCALE, 0.0, positions=positions))
    torch.testing.assert_close(scaled, zero, rtol=0, atol=1e-6)
    assert not torch.allclose(zero, plain_logits(lm, question), atol=1e-3)


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("positions", Positions)
def test_scaling_by_one_is_doing_nothing(
    lm: LanguageModel, library: Library, question: Question, positions: Positions, family: Family
) -> None:
    units = some_units(lm, library, question, family)
    scaled = ablated(lm, library, question, Ablation(units, Mode.SCALE, 1.0, positions=positions))
    torch.testing.assert_close(scaled, plain_logits(lm, question), rtol=0, atol=1e-5)


def test_doubling_a_feature_adds_what_zeroing_it_takes_away(
    lm: LanguageModel, library: Library, question: Question
) -> None:
    site = Site(1, SiteKind.RESID_POST)
    units = some_units(lm, library, question, Family.FEATURE, site)
    plain, zeroed = after_ablation(lm, library, question, Ablation(units), site)
    _plain, doubled = after_ablation(lm, library, question, Ablation(units, Mode.SCALE, 2.0), site)
    torch.testing.assert_close(doubled - plain, plain - zeroed, rtol=1e-5, atol=1e-5)


def test_in_mode_mean_an_activation_becomes_its_mean(lm: LanguageModel, library: Library, question: Question) -> None:
    site = Site(1, SiteKind.RESID_POST)
    (unit,) = some_units(lm, library, question, Family.FEATURE, site)[:1]
    plain, after = after_ablation(lm, library, question, Ablation((unit,), Mode.MEAN), site)
    dictionary = library.at(site)
    z = dictionary.encode(plain[question.last])[unit.index]
    expected = plain[question.last] + (0.7 - z) * dictionary.decoder[unit.index]
    torch.testing.assert_close(after[question.last], expected, rtol=1e-5, atol=1e-5)
    neuron = Unit.neuron(1, 5)
    site = neuron.site
    plain, after = after_ablation(lm, library, question, Ablation((neuron,), Mode.MEAN), site)
    assert float(after[question.last, 5]) == pytest.approx(0.7)
    assert torch.equal(after[question.last, :5], plain[question.last, :5])


def test_means_are_those_of_a_naive_loop_without_bos(lm: LanguageModel, library: Library) -> None:
    texts = ["The capital of France is Paris.", "Orla Venn lives at the old mill in the long valley."]
    units = [Unit.feature(1, SiteKind.RESID_POST, 3), Unit.feature(0, SiteKind.ATTN_Z, 7), Unit.neuron(2, 11)]
    found = mean_activations(lm, library, units, texts)
    for unit in units:
        values: list[float] = []
        for text in texts:
            with torch.no_grad(), capture(lm.model, [unit.site]) as cache:
                lm.model(input_ids=lm.tensor([lm.encode(text)]))
            h = cache[unit.site][0, 1:]
            z = h if unit.family is Family.NEURON else library.at(unit.site).encode(h)
            values += z[:, unit.index].tolist()
        assert found[unit] == pytest.approx(sum(values) / len(values), rel=1e-4, abs=1e-6)


# --- positions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", [*FEATURE_SITES, Site(1, SiteKind.MLP_ACT)], ids=str)
def test_last_reaches_the_reading_position_alone_and_all_spares_bos(
    lm: LanguageModel, library: Library, question: Question, site: Site
) -> None:
    family = Family.NEURON if site.kind is SiteKind.MLP_ACT else Family.FEATURE
    units = tuple(Unit(site, family, index) for index in range(D_SAE))
    for substitute in (False, True):
        plain, last = after_ablation(lm, library, question, Ablation(units, substitute=substitute), site)
        moved = (last - plain).abs().amax(dim=1) > 0
        assert moved.nonzero().flatten().tolist() == [question.last]
        everywhere = Ablation(units, positions=Positions.ALL, substitute=substitute)
        plain, after = after_ablation(lm, library, question, everywhere, site)
        moved = (after - plain).abs().amax(dim=1) > 0
        assert moved.nonzero().flatten().tolist() == list(range(1, len(plain)))


def test_measuring_at_another_position_ablates_there(lm: LanguageModel, library: Library, question: Question) -> None:
    unit = Unit.neuron(0, 3)
    elsewhere = measure_ablation(lm, library, question, Ablation((unit,)), position=2)

    def clear(activation: Tensor) -> Tensor:
        changed = activation.clone()
        changed[:, 2, 3] = 0
        return changed

    with intervene(lm.model, {unit.site: clear}):
        expected = probability(forward(lm, question), question)
    assert elsewhere.p_after == pytest.approx(expected, abs=1e-7)
    assert elsewhere.p_after != elsewhere.p_before


# --- neurons and weights --------------------------------------------------------------------------------------------


def column_zeroed(lm: LanguageModel, question: Question, units: list[Unit], spared: Tensor | None) -> Tensor:
    """Logits with the neurons' columns of `down_proj` zeroed in the weights themselves, then restored.

    `spared` (batch, pos) says at which tokens the columns still write, as an ablation spares `<bos>`.
    """
    handles, pristine = [], []
    for unit in units:
        weight, layer = down_proj(lm.model, unit.site.layer), lm.model.model.layers[unit.site.layer]
        column = weight[:, unit.index].clone()
        pristine.append((weight, unit.index, column))

        def give_back(_module: object, args: tuple[Tensor], output: Tensor, k: int = unit.index, w: Tensor = column):
            assert spared is not None
            return output + spared[..., None] * args[0][..., k : k + 1] * w

        if spared is not None:
            handles.append(layer.mlp.down_proj.register_forward_hook(give_back))
    with torch.no_grad():
        for weight, index, _column in pristine:
            weight[:, index] = 0
        try:
            return plain_logits(lm, question)
        finally:
            for weight, index, column in pristine:
                weight[:, index] = column
            for handle in handles:
                handle.remove()


@pytest.mark.parametrize(
    "units",
    [[Unit.neuron(0, 7)], [Unit.neuron(1, 0), Unit.neuron(1, D_MLP - 1)], [Unit.neuron(0, 1), Unit.neuron(2, 2)]],
)
def test_zeroing_a_neurons_column_equals_ablating_it(
    lm: LanguageModel, library: Library, question: Question, units: list[Unit]
) -> None:
    """At every token but `<bos>`, where an ablation leaves the neuron alone and the column goes on writing."""
    bos = torch.zeros(1, len(question.input_ids))
    bos[0, 0] = 1
    after = ablated(lm, library, question, Ablation(tuple(units), positions=Positions.ALL))
    torch.testing.assert_close(after, column_zeroed(lm, question, units, bos), rtol=0, atol=1e-5)
    assert (after - plain_logits(lm, question))[question.last].abs().max() > 1e-3


def test_in_the_last_layer_zeroing_a_column_equals_ablating_at_the_last_token(
    lm: LanguageModel, library: Library, question: Question
) -> None:
    """Nothing above the last layer reads other tokens, so the plain edited model agrees at that token."""
    units = [Unit.neuron(LAST_LAYER, index) for index in (3, 17, 30)]
    after = ablated(lm, library, question, Ablation(tuple(units)))[question.last]
    edited = column_zeroed(lm, question, units, None)[question.last]
    torch.testing.assert_close(after, edited, rtol=0, atol=1e-5)
    assert (after - plain_logits(lm, question)[question.last]).abs().max() > 1e-2


# --- substituting and adding up -------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", FEATURE_SITES, ids=str)
@pytest.mark.parametrize("mode", [Mode.ZERO, Mode.MEAN, Mode.SCALE])
def test_substituting_differs_from_preserving_by_exactly_the_reconstruction_error(
    lm: LanguageModel, library: Library, question: Question, site: Site, mode: Mode
) -> None:
    units = some_units(lm, library, question, Family.FEATURE, site)
    dictionary = library.at(site)
    plain, preserved = after_ablation(lm, library, question, Ablation(units, mode, 0.5), site)
    _plain, substituted = after_ablation(lm, library, question, Ablation(units, mode, 0.5, substitute=True), site)
    h = plain[question.last]
    error = h - dictionary.decode(dictionary.encode(h), h)
    assert error.abs().max() > 1e-2
    torch.testing.assert_close((preserved - substituted)[question.last], error, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("site", FEATURE_SITES, ids=str)
def test_several_units_at_one_site_take_away_the_sum_of_what_each_does(
    lm: LanguageModel, library: Library, question: Question, site: Site
) -> None:
    units = some_units(lm, library, question, Family.FEATURE, site)
    plain, together = after_ablation(lm, library, question, Ablation(units), site)
    each = [after_ablation(lm, library, question, Ablation((unit,)), site)[1] - plain for unit in units]
    torch.testing.assert_close(together - plain, torch.stack(each).sum(dim=0), rtol=1e-4, atol=1e-4)


def test_ablating_a_feature_takes_away_its_activation_times_its_decoder_row(
    lm: LanguageModel, library: Library, question: Question
) -> None:
    for site in FEATURE_SITES:
        (unit,) = some_units(lm, library, question, Family.FEATURE, site)[:1]
        plain, after = after_ablation(lm, library, question, Ablation((unit,)), site)
        dictionary = library.at(site)
        z = dictionary.encode(plain[question.last])[unit.index]
        expected = -z * dictionary.decoder[unit.index]
        torch.testing.assert_close((after - plain)[question.last], expected, rtol=1e-4, atol=1e-4)


# --- what is measured -----------------------------------------------------------------------------------------------


def test_the_effect_tells_probability_rank_and_top_tokens(
    lm: LanguageModel, library: Library, question: Question, facts: list[Fact]
) -> None:
    unit = active_features(lm, library.at(Site(2, SiteKind.RESID_POST)), question)[0]
    effect = measure_ablation(lm, library, question, Ablation((unit,)))
    for logits, p, rank, top in (
        (plain_logits(lm, question), effect.p_before, effect.rank_before, effect.top_before),
        (ablated(lm, library, question, effect.ablation), effect.p_after, effect.rank_after, effect.top_after),
    ):
        distribution = torch.softmax(logits[question.last], dim=-1)
        assert p == pytest.approx(float(distribution[question.answer_ids[0]]), rel=1e-5)
        order = distribution.argsort(descending=True).tolist()
        assert rank == order.index(question.answer_ids[0]) + 1
        assert [token.token for token in top] == [lm.text(token) for token in order[:10]]
        assert [token.p for token in top] == sorted((token.p for token in top), reverse=True)
    assert effect.rank_before == 1
    assert effect.delta_prob == pytest.approx((effect.p_before - effect.p_after) / effect.p_before)


def test_the_probability_of_a_long_answer_is_the_product_over_its_tokens(
    lm: LanguageModel, library: Library, long_question: Question
) -> None:
    effect = measure_ablation(lm, library, long_question, Ablation())
    product_of_steps = 1.0
    for done, token in enumerate(long_question.answer_ids):
        ids = torch.tensor([long_question.prompt_ids + long_question.answer_ids[:done]])
        with torch.no_grad():
            step = torch.softmax(lm.model(input_ids=ids).logits[0, -1], dim=-1)
        product_of_steps *= float(step[token])
    assert effect.p_before == pytest.approx(product_of_steps, rel=1e-4)
    assert effect.p_after == effect.p_before


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ("9.resid_post.f1", "There is no layer 9. This model has layers 0 to 2."),
        ("1.resid_post.f40", "There is no feature 40 at 1.resid_post. Its dictionary has features 0 to 39."),
        ("1.mlp_act.n48", "There is no neuron 48 in layer 1. It has neurons 0 to 47."),
    ],
)
def test_a_unit_that_does_not_exist_is_refused_with_those_that_do(
    lm: LanguageModel, library: Library, question: Question, unit: str, message: str
) -> None:
    with pytest.raises(UsageError) as refused:
        measure_ablation(lm, library, question, Ablation((Unit.parse(unit),)))
    assert str(refused.value) == message


def test_a_site_without_a_dictionary_is_refused(lm: LanguageModel, question: Question) -> None:
    with pytest.raises(UsageError, match=r"No dictionary is loaded at 1\.resid_post"):
        measure_ablation(lm, Library(), question, Ablation((Unit.feature(1, SiteKind.RESID_POST, 0),)))


def some_units(
    lm: LanguageModel, library: Library, question: Question, family: Family, site: Site | None = None
) -> tuple[Unit, ...]:
    """Four units of a family: the strongest features at `site`, or at two sites, or neurons of two layers."""
    if family is Family.NEURON:
        return (Unit.neuron(0, 3), Unit.neuron(0, 30), Unit.neuron(2, 4), Unit.neuron(2, 40))
    if site is not None:
        return tuple(active_features(lm, library.at(site), question)[:4])
    sites = (Site(0, SiteKind.ATTN_Z), Site(2, SiteKind.RESID_POST))
    return tuple(unit for at in sites for unit in active_features(lm, library.at(at), question)[:2])
