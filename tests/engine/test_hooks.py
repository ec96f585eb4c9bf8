"""Hooks: each site is what plain Hugging Face computes there, and none outlives its block."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.hooks import capture, intervene
from knowscope_tui.engine.loading import load_model
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.sites import tap, width
from knowscope_tui.errors import UsageError
from tests.tiny import LAYERS, activations, hook_count, plain_logits

EVERY_SITE = [Site(layer, kind) for layer, kind in product(range(LAYERS), SiteKind)]


def logits(lm: LanguageModel, question: Question) -> Tensor:
    output: Tensor = lm.model(input_ids=lm.tensor([question.input_ids])).logits[0]
    return output


# --- nothing changes what should not ---------------------------------------------------------------------------------


def test_an_intervention_with_nothing_in_it_changes_no_bit(lm: LanguageModel, question: Question) -> None:
    plain = plain_logits(lm, question)
    with intervene(lm.model, {}):
        assert torch.equal(logits(lm, question), plain)


def test_capturing_every_site_changes_no_bit(lm: LanguageModel, question: Question) -> None:
    plain = plain_logits(lm, question)
    with capture(lm.model, EVERY_SITE) as cache:
        assert torch.equal(logits(lm, question), plain)
    assert set(cache) == set(EVERY_SITE)


def test_capturing_gradients_changes_no_bit(lm: LanguageModel, question: Question) -> None:
    plain = plain_logits(lm, question)
    with capture(lm.model, EVERY_SITE, gradients=True):
        assert torch.equal(logits(lm, question).detach(), plain)


def test_passing_every_site_through_the_identity_changes_no_bit(lm: LanguageModel, question: Question) -> None:
    plain = plain_logits(lm, question)
    with intervene(lm.model, dict.fromkeys(EVERY_SITE, lambda activation: activation)):
        assert torch.equal(logits(lm, question), plain)


@pytest.mark.parametrize("site", EVERY_SITE, ids=str)
def test_a_change_at_any_site_reaches_the_logits(lm: LanguageModel, question: Question, site: Site) -> None:
    plain = plain_logits(lm, question)
    with intervene(lm.model, {site: torch.zeros_like}):
        assert (logits(lm, question) - plain).abs().max() > 1e-2


# --- no hook stays --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradients", [False, True])
def test_no_hook_remains_after_the_block(lm: LanguageModel, question: Question, gradients: bool) -> None:
    before = hook_count(lm.model)
    with capture(lm.model, EVERY_SITE, gradients=gradients):
        assert hook_count(lm.model) >= before + len(EVERY_SITE) + gradients
        logits(lm, question)
    assert hook_count(lm.model) == before


def test_no_hook_remains_after_an_exception_inside_the_block(lm: LanguageModel) -> None:
    before = hook_count(lm.model)
    with pytest.raises(KeyboardInterrupt), capture(lm.model, EVERY_SITE, gradients=True):
        raise KeyboardInterrupt
    assert hook_count(lm.model) == before


def test_no_hook_remains_when_a_change_itself_fails(lm: LanguageModel, question: Question) -> None:
    def fails(activation: Tensor) -> Tensor:
        raise RuntimeError("inside a forward")

    before, plain = hook_count(lm.model), plain_logits(lm, question)
    with pytest.raises(RuntimeError, match="inside a forward"), intervene(lm.model, {EVERY_SITE[5]: fails}):
        logits(lm, question)
    assert hook_count(lm.model) == before
    assert torch.equal(plain_logits(lm, question), plain)


def test_no_hook_remains_when_one_site_of_many_does_not_exist(lm: LanguageModel) -> None:
    before = hook_count(lm.model)
    beyond = Site(LAYERS, SiteKind.MLP_OUT)
    with pytest.raises(UsageError, match=f"no layer {LAYERS}"), capture(lm.model, [*EVERY_SITE, beyond]):
        pass
    assert hook_count(lm.model) == before


# --- each site is what it is called ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_hand(tiny_folder: Path, question: Question) -> dict[Site, Tensor]:
    """Every site's activation, (pos, width), computed from a model of our own without any of the package's hooks:
    module inputs and outputs as plain PyTorch shows them."""
    model = load_model(str(tiny_folder), device="cpu", dtype="float32").model
    seen: dict[str, Tensor] = {}

    def see(name: str) -> Any:
        def hook(_module: Any, args: tuple[Tensor, ...], output: Any) -> None:
            seen[f"{name} input"] = args[0].detach()[0] if args else torch.empty(0)
            seen[f"{name} output"] = (output[0] if isinstance(output, tuple) else output).detach()[0]

        return hook

    for layer, block in enumerate(model.model.layers):
        for name in ("self_attn.o_proj", "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp"):
            block.get_submodule(name).register_forward_hook(see(f"{layer} {name}"))
    output = model(input_ids=torch.tensor([question.input_ids]), output_hidden_states=True)
    hidden = [state[0].detach() for state in output.hidden_states]
    expected: dict[Site, Tensor] = {}
    for layer, block in enumerate(model.model.layers):
        resid_mid = hidden[layer] + seen[f"{layer} post_attention_layernorm output"]
        gate, up = seen[f"{layer} mlp.gate_proj output"], seen[f"{layer} mlp.up_proj output"]
        mlp_out = block.post_feedforward_layernorm(seen[f"{layer} mlp output"]).detach()
        expected[Site(layer, SiteKind.ATTN_Z)] = seen[f"{layer} self_attn.o_proj input"]
        expected[Site(layer, SiteKind.RESID_MID)] = resid_mid
        expected[Site(layer, SiteKind.MLP_ACT)] = torch.nn.functional.gelu(gate, approximate="tanh") * up
        expected[Site(layer, SiteKind.MLP_OUT)] = mlp_out
        expected[Site(layer, SiteKind.RESID_POST)] = resid_mid + mlp_out
        if layer + 1 < LAYERS:  # the last hidden state is taken after the final norm
            assert torch.equal(hidden[layer + 1], resid_mid + mlp_out)
    assert torch.equal(model.model.norm(expected[Site(LAYERS - 1, SiteKind.RESID_POST)]).detach(), hidden[-1])
    return expected


@pytest.mark.parametrize("site", EVERY_SITE, ids=str)
def test_a_captured_site_is_what_hugging_face_computes_there(
    lm: LanguageModel, question: Question, by_hand: dict[Site, Tensor], site: Site
) -> None:
    captured = activations(lm, question, [site])[site]
    assert torch.equal(captured, by_hand[site])
    assert captured.shape[-1] == width(lm.model, site.kind)


def test_attn_z_is_what_o_proj_reads(lm: LanguageModel, question: Question) -> None:
    """The input side is the one that is captured and changed: zero attn_z is a zero attention output."""
    site = Site(1, SiteKind.ATTN_Z)
    kept: list[Tensor] = []
    module = tap(lm.model, site).module
    handle = module.register_forward_hook(lambda _module, _args, output: kept.append(output))
    with intervene(lm.model, {site: torch.zeros_like}):
        logits(lm, question)
    handle.remove()
    assert torch.equal(kept[0], torch.zeros_like(kept[0]))


def test_the_residual_stream_is_changed_on_both_its_ways(lm: LanguageModel, question: Question) -> None:
    """Adding v at resid_mid changes what the MLP reads, and what its output is added to: resid_post = mid + v + mlp."""
    mid, out, post = (Site(1, kind) for kind in (SiteKind.RESID_MID, SiteKind.MLP_OUT, SiteKind.RESID_POST))
    plain = activations(lm, question, [mid, out, post])
    v = torch.linspace(-2, 2, plain[mid].shape[-1])
    # Whichever of the two is registered first, the one further up sees what the other did.
    changes = {mid: lambda activation: activation + v}
    with capture(lm.model, [out, post]) as captured_first, intervene(lm.model, changes):
        logits(lm, question)
    with intervene(lm.model, changes), capture(lm.model, [out, post]) as captured_last:
        logits(lm, question)
    for cache in (captured_first, captured_last):
        torch.testing.assert_close(cache[post][0], plain[mid] + v + cache[out][0], rtol=0, atol=1e-5)
        assert (cache[out][0] - plain[out]).abs().max() > 1e-2


def test_captured_activations_are_detached_unless_gradients_are_asked_for(
    lm: LanguageModel, question: Question
) -> None:
    with capture(lm.model, EVERY_SITE) as cache:
        logits(lm, question)
    assert not any(activation.requires_grad for activation in cache.values())
    with capture(lm.model, EVERY_SITE, gradients=True) as cache:
        logits(lm, question)
    assert all(activation.requires_grad for activation in cache.values())
