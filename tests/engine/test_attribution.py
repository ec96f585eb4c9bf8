"""Attribution: gradients against finite differences, integrated gradients against what they must add up to."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from knowscope_tui.core.readings import Ablation, Mode
from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.engine.ablate import ablation_changes
from knowscope_tui.engine.answers import answer_log_prob, forward, probability
from knowscope_tui.engine.attribution import integrated_gradients, unit_attribution
from knowscope_tui.engine.hooks import intervene
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.errors import Cancelled
from tests.tiny import D_MLP, DICTIONARY_KINDS, LAYERS, activations, plain_logits, traced

SITES = [Site(layer, kind) for layer, kind in product(range(LAYERS), SiteKind)]
LAST_LAYER = LAYERS - 1


def log_p_with_unit_scaled(lm: LanguageModel, library: Library, question: Question, unit: Unit, by: float) -> float:
    changes = ablation_changes(lm, library, Ablation((unit,), Mode.SCALE, by), question.last)
    with intervene(lm.model, changes):
        return float(answer_log_prob(forward(lm, question)[None].double(), question))


@pytest.mark.parametrize("which", ["question", "long_question"])
def test_gradients_come_with_the_plain_models_logits_and_activations(
    lm: LanguageModel, request: pytest.FixtureRequest, which: str
) -> None:
    asked: Question = request.getfixturevalue(which)
    trace = traced(lm, asked, SITES)
    torch.testing.assert_close(trace.logits[0], plain_logits(lm, asked)[asked.last :], rtol=1e-4, atol=1e-4)
    plain = activations(lm, asked, SITES)
    for site in SITES:
        assert torch.equal(trace.activations[site][0], plain[site][asked.last])
        assert trace.slopes[site].shape == trace.activations[site].shape
        assert not trace.activations[site].requires_grad


def test_gradients_need_no_sites_and_work_inside_no_grad(lm: LanguageModel, question: Question) -> None:
    with torch.no_grad():
        empty = traced(lm, question, [])
        assert empty.activations == empty.slopes == {}
        slopes = traced(lm, question, SITES[:1]).slopes
    assert slopes[SITES[0]].abs().max() > 0


@pytest.mark.parametrize("kind", [*DICTIONARY_KINDS, SiteKind.MLP_ACT], ids=str)
@pytest.mark.parametrize("which", ["question", "long_question"])
def test_gradient_times_activation_is_the_finite_difference_of_log_p(
    lm: LanguageModel, library: Library, request: pytest.FixtureRequest, which: str, kind: SiteKind
) -> None:
    """d log P / d s at s = 1, where the unit's activation is scaled by s: in every layer, for the strongest units."""
    asked: Question = request.getfixturevalue(which)
    h = 2e-2
    for layer in range(LAYERS):
        site = Site(layer, kind)
        attribution = unit_attribution(library, site, traced(lm, asked, [site]))[1][0]
        family = Family.NEURON if kind is SiteKind.MLP_ACT else Family.FEATURE
        for index in attribution.abs().topk(3).indices.tolist():
            unit = Unit(site, family, index)
            up = log_p_with_unit_scaled(lm, library, asked, unit, 1 + h)
            down = log_p_with_unit_scaled(lm, library, asked, unit, 1 - h)
            assert float(attribution[index]) == pytest.approx((up - down) / (2 * h), rel=2e-2, abs=2e-3), unit


def test_features_that_do_not_fire_have_no_attribution(lm: LanguageModel, library: Library, question: Question) -> None:
    site = Site(1, SiteKind.RESID_POST)
    f, attribution = unit_attribution(library, site, traced(lm, question, [site]))
    assert torch.equal(f, library.at(site).encode(activations(lm, question, [site])[site][question.last])[None])
    assert torch.equal(attribution == 0, f == 0)


@pytest.mark.parametrize("which", ["question", "long_question"])
def test_integrated_gradients_add_up_to_what_the_layer_does(
    lm: LanguageModel, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """Completeness: Σ over a layer's neurons → P(all of them) − P(none of them), as the steps grow.

    The norm after `down_proj` gets a large epsilon here: with the real one the whole change happens in the path's
    first millionth (see the next test), where no number of steps finds it.
    """
    asked: Question = request.getfixturevalue(which)
    for layer in lm.model.model.layers:
        monkeypatch.setattr(layer.post_feedforward_layernorm, "eps", 4.0)
    full = probability(plain_logits(lm, asked), asked)
    found = integrated_gradients(lm, asked, asked.last, steps=200)
    differences = []
    for layer in range(LAYERS):
        neurons = tuple(Unit.neuron(layer, index) for index in range(D_MLP))
        with intervene(lm.model, ablation_changes(lm, Library(), Ablation(neurons), asked.last)):
            none = probability(forward(lm, asked), asked)
        differences.append(abs(full - none))
        total = float(found[Site(layer, SiteKind.MLP_ACT)].sum())
        assert total == pytest.approx(full - none, rel=3e-2, abs=3e-3 * full)
    assert max(differences) > 0.1 * full


def test_a_layers_attributions_cancel_since_the_norm_after_the_mlp_undoes_scaling(
    lm: LanguageModel, question: Question
) -> None:
    """Gemma-2 normalizes what `down_proj` writes: scaling all neurons of a layer together changes nothing."""
    found = integrated_gradients(lm, question, question.last)
    sites = [Site(layer, SiteKind.MLP_ACT) for layer in range(LAYERS)]
    trace = traced(lm, question, sites)
    for site in sites:
        for attribution in (found[site], unit_attribution(Library(), site, trace)[1][0]):
            assert abs(float(attribution.sum())) < 1e-2 * float(attribution.abs().sum())


def test_integrated_gradients_are_the_mean_gradient_along_the_path(lm: LanguageModel, question: Question) -> None:
    """Each step by itself, by hand, in place of one batch."""
    site, steps = Site(LAST_LAYER, SiteKind.MLP_ACT), 4
    a = activations(lm, question, [site])[site][question.last]
    total = torch.zeros_like(a)
    for step in range(1, steps + 1):
        leaf = (a * step / steps).requires_grad_(True)

        def put(activation: torch.Tensor, leaf: torch.Tensor = leaf) -> torch.Tensor:
            changed = activation.clone()
            changed[:, question.last] = leaf
            return changed

        with torch.enable_grad(), intervene(lm.model, {site: put}):
            logits = lm.model(input_ids=lm.tensor([question.input_ids])).logits
            p = answer_log_prob(logits, question)[0].exp()
        total += torch.autograd.grad(p, leaf)[0]
    found = integrated_gradients(lm, question, question.last, steps=steps)[site]
    torch.testing.assert_close(found, a * total / steps, rtol=1e-4, atol=1e-6)


def test_cancelling_between_layers_leaves_no_hook(lm: LanguageModel, question: Question) -> None:
    def cancel(layer: int) -> None:
        if layer == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        integrated_gradients(lm, question, question.last, cancel)
