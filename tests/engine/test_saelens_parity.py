"""The same ablation through sae-lens: `SAETransformerBridge` with the same SAE and the same features zeroed.

sae-lens's hook is told to spare `<bos>`, as an ablation here does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from knowscope_tui.core.readings import Ablation, Positions
from knowscope_tui.core.units import Site, SiteKind, Unit
from knowscope_tui.demo import bundle
from knowscope_tui.demo.corpus import demo_facts
from knowscope_tui.engine.ablate import ablation_changes, measure_ablation
from knowscope_tui.engine.answers import forward, probability
from knowscope_tui.engine.hooks import intervene
from knowscope_tui.engine.library import Library, load_library
from knowscope_tui.engine.loading import load_model
from knowscope_tui.engine.model import LanguageModel, Question
from tests.tiny import active_features, plain_logits

TOLERANCE = 1e-5
KINDS = (SiteKind.ATTN_Z, SiteKind.MLP_OUT, SiteKind.RESID_POST)


@dataclass(frozen=True)
class Peers:
    """One model and its dictionaries, opened by this package and by sae-lens."""

    lm: LanguageModel
    library: Library
    bridge: Any
    sources: dict[SiteKind, Path]
    questions: tuple[Question, ...]

    def sae(self, site: Site) -> Any:
        from sae_lens import SAE

        return SAE.load_from_disk(self.sources[site.kind] / f"layer_{site.layer}", device="cpu", dtype="float32")


def boot(folder: Path) -> Any:
    from sae_lens.analysis.sae_transformer_bridge import SAETransformerBridge

    return SAETransformerBridge.boot_transformers(str(folder), device="cpu", dtype=torch.float32)


@pytest.fixture(scope="module")
def tiny_peers(
    lm: LanguageModel,
    library: Library,
    sources: dict[SiteKind, Path],
    tiny_folder: Path,
    question: Question,
    long_question: Question,
) -> Peers:
    return Peers(lm, library, boot(tiny_folder), sources, (question, long_question))


@pytest.fixture(scope="module")
def demo_peers() -> Peers:
    lm = load_model(str(bundle.model_folder()), device="cpu", dtype="float32")
    sources = bundle.dictionary_folders()
    chosen = demo_facts()[:: len(demo_facts()) // 3][:3]
    questions = tuple(lm.ask(fact.prompt, fact.answer) for fact in chosen)
    return Peers(lm, load_library(lm, sources.items()), boot(bundle.model_folder()), sources, questions)


@pytest.fixture(params=["tiny", "demo"])
def peers(request: pytest.FixtureRequest) -> Peers:
    chosen: Peers = request.getfixturevalue(f"{request.param}_peers")
    return chosen


def zeroing(units: list[Unit], positions: Positions, last: int) -> Callable[..., Tensor]:
    reached = slice(last, last + 1) if positions is Positions.LAST else slice(1, None)

    def hook(features: Tensor, **_kwargs: Any) -> Tensor:
        changed = features.clone()
        for unit in units:
            changed[:, reached, unit.index] = 0
        return changed

    return hook


@torch.no_grad()
def through_sae_lens(
    peers: Peers, question: Question, site: Site, hook: Callable[..., Tensor], use_error_term: bool
) -> Tensor:
    """Logits of the bridge with one SAE attached and `hook` on its features: (pos, vocabulary)."""
    sae = peers.sae(site)
    tokens = torch.tensor([question.input_ids])
    with peers.bridge.saes(saes=[sae], use_error_term=use_error_term):
        name = peers.bridge.get_sae_hook_name(sae)
        logits: Tensor = peers.bridge.run_with_hooks(tokens, fwd_hooks=[(name, hook)])
    return logits[0]


def test_the_bridges_logits_are_bit_equal_to_ours_with_nothing_switched_off(peers: Peers) -> None:
    for question in peers.questions:
        with torch.no_grad():
            logits = peers.bridge(torch.tensor([question.input_ids]))[0]
        assert torch.equal(logits, forward(peers.lm, question))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_features_are_those_of_sae_lens(peers: Peers, kind: SiteKind) -> None:
    question = peers.questions[0]
    for layer in range(peers.lm.n_layers):
        site = Site(layer, kind)
        sae, seen = peers.sae(site), list[Tensor]()

        def keep(features: Tensor, seen: list[Tensor] = seen, **_kwargs: Any) -> Tensor:
            seen.append(features[0])
            return features

        through_sae_lens(peers, question, site, keep, use_error_term=True)
        ours = active_features(peers.lm, peers.library.at(site), question)
        theirs = seen[0][question.last]
        assert {unit.index for unit in ours} == set(theirs.nonzero().flatten().tolist())
        assert torch.equal(peers.library.at(site).decoder, sae.W_dec.detach())


@pytest.mark.parametrize("positions", Positions)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_error_preserving_ablation_agrees_with_sae_lens(peers: Peers, kind: SiteKind, positions: Positions) -> None:
    for question in peers.questions:
        before = probability(plain_logits(peers.lm, question), question)
        largest = 0.0
        for layer in range(peers.lm.n_layers):
            site = Site(layer, kind)
            units = active_features(peers.lm, peers.library.at(site), question)[:5]
            ablation = Ablation(tuple(units), positions=positions)
            hook = zeroing(units, positions, question.last)
            theirs = through_sae_lens(peers, question, site, hook, use_error_term=True)
            effect = measure_ablation(peers.lm, peers.library, question, ablation)
            assert effect.p_after == pytest.approx(probability(theirs, question), abs=TOLERANCE)
            with intervene(peers.lm.model, ablation_changes(peers.lm, peers.library, ablation, question.last)):
                ours = forward(peers.lm, question)
            distance = (ours.softmax(-1) - theirs.softmax(-1)).abs().max()
            assert distance < TOLERANCE
            largest = max(largest, abs(effect.p_after - before))
        assert largest > 100 * TOLERANCE * before


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_substituting_ablation_agrees_with_sae_lens(peers: Peers, kind: SiteKind) -> None:
    """Without the error term sae-lens replaces every token's activation, `<bos>` too: its hook puts that one back."""
    for question in peers.questions:
        for layer in range(peers.lm.n_layers):
            site = Site(layer, kind)
            units = active_features(peers.lm, peers.library.at(site), question)[:5]
            ablation = Ablation(tuple(units), positions=Positions.ALL, substitute=True)
            theirs = with_bos_spared(peers, question, site, zeroing(units, Positions.ALL, question.last))
            effect = measure_ablation(peers.lm, peers.library, question, ablation)
            assert effect.p_after == pytest.approx(probability(theirs, question), abs=TOLERANCE)
            with intervene(peers.lm.model, ablation_changes(peers.lm, peers.library, ablation, question.last)):
                ours = forward(peers.lm, question)
            assert (ours.softmax(-1) - theirs.softmax(-1)).abs().max() < TOLERANCE


@torch.no_grad()
def with_bos_spared(peers: Peers, question: Question, site: Site, hook: Callable[..., Tensor]) -> Tensor:
    """`through_sae_lens` without the error term, `<bos>` passing by the SAE."""
    sae = peers.sae(site)
    tokens = torch.tensor([question.input_ids])
    with peers.bridge.saes(saes=[sae], use_error_term=False):
        base = peers.bridge.get_sae_hook_name(sae, "hook_sae_input")
        seen: list[Tensor] = []

        def see(activation: Tensor, **_kwargs: Any) -> Tensor:
            seen.append(activation)
            return activation

        def put_back(output: Tensor, **_kwargs: Any) -> Tensor:
            changed = output.clone()
            changed[:, 0] = seen[-1][:, 0]
            return changed

        hooks: list[tuple[str, Callable[..., Tensor]]] = [
            (base, see),
            (peers.bridge.get_sae_hook_name(sae), hook),
            (peers.bridge.get_sae_hook_name(sae, "hook_sae_output"), put_back),
        ]
        logits: Tensor = peers.bridge.run_with_hooks(tokens, fwd_hooks=hooks)
    return logits[0]
