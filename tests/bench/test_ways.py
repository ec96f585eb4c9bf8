"""All ways compute the same thing, on the same weights."""

from __future__ import annotations

import pytest
import torch

from knowscope_tui.bench import ours, plain_hooks
from knowscope_tui.bench.peers import Peers
from knowscope_tui.bench.saelens import Bridge
from knowscope_tui.bench.shapes import KINDS, SHAPES
from knowscope_tui.bench.subject import Subject, make_subject
from knowscope_tui.bench.units import strongest
from knowscope_tui.core.units import Unit
from knowscope_tui.engine.answers import forward, probability
from tests.tiny import bits, hook_count

TINY = SHAPES["tiny"]
AGREEING = 1e-4
"""Of a probability: those of a random model are small themselves."""


@pytest.fixture(scope="module")
def units(subject: Subject) -> list[Unit]:
    """The strongest feature of every site."""
    active = ours.active_features(subject)
    assert len(active) == 70 * len(subject.library)
    return [
        strongest({unit: value for unit, value in active.items() if unit.site == site}, 1)[0]
        for site in subject.library.sites
    ]


def test_the_ways_agree(subject: Subject, bridge: Bridge, units: list[Unit]) -> None:
    before = probability(forward(subject.lm, subject.question), subject.question)
    toggle = ours.Toggle(subject)
    ranked = ours.rank(subject, units)
    for unit, p in zip(units, ranked, strict=True):
        assert p == pytest.approx(bridge.p_without(bridge.sae(unit.site), unit), rel=AGREEING)
        assert p == pytest.approx(plain_hooks.p_without(subject, unit), rel=AGREEING)
        assert p == pytest.approx(toggle.p_without(unit), rel=AGREEING)
        assert abs(p / before - 1) > 10 * AGREEING


def test_the_bridge_copies_no_weights_and_changes_nothing(subject: Subject, units: list[Unit]) -> None:
    model = subject.lm.model
    before, hooks, kind = bits(model), hook_count(model), type(model.model.layers[0].self_attn)
    bridge = Bridge(subject)
    bridge.p_without(bridge.sae(units[0].site), units[0])
    assert (bits(model), hook_count(model)) == (before, hooks)
    assert type(model.model.layers[0].self_attn) is kind
    ours_lie = {parameter.data_ptr() for parameter in model.parameters()}
    copied = [p.numel() for p in bridge.bridge.parameters() if p.data_ptr() not in ours_lie]
    # The bridge gives its unembedding a bias of zeros.
    assert sum(copied) <= subject.shape.vocabulary


def test_a_first_reading_shows_units(subject: Subject) -> None:
    reading = ours.reading(subject)
    assert len(reading.sites) == len(subject.library) + subject.shape.layers
    assert reading.units
    assert reading.answer == "Paris"


def test_peers_may_leave_sae_lens_out(subject: Subject, units: list[Unit]) -> None:
    one = Peers(subject, saelens=False).run(units[0])
    assert one.saelens is None
    assert one.probabilities == [one.hooks.p]
    both = Peers(subject, saelens=True).run(units[0])
    assert both.saelens is not None
    assert both.probabilities == pytest.approx([one.hooks.p] * 2, rel=AGREEING)


def test_sae_lens_takes_part_in_other_dtypes() -> None:
    subject = make_subject(TINY, KINDS, torch.device("cpu"), torch.bfloat16, seed=3)
    unit = strongest(ours.active_features(subject), 1)[0]
    one = Peers(subject, saelens=True).run(unit)
    assert one.probabilities == pytest.approx([one.hooks.p] * 2, rel=0.05)
