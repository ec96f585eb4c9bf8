"""The upper layers as CUDA graphs, their logic on the CPU: what stands for a graph here runs what was captured again,
from the static buffer that it was captured with and into the buffers that came out of it, as a replay does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from knowscope_tui.core.readings import Ablation, Mode, Positions
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine import graphs as graphs_module
from knowscope_tui.engine.ablate import measure_ablation
from knowscope_tui.engine.generate import continuation_of
from knowscope_tui.engine.graphs import Climbed, SuffixGraphs
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.live import Live
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.trace import record
from tests.engine.test_continuation import Case, as_text, telling
from tests.tiny import LAYERS, active_features


class FakeGraph:
    """What `torch.cuda.CUDAGraph` does, by running it again."""

    made: int = 0
    replays: int = 0
    failing: bool = False
    climbing: Any = None

    def __init__(self) -> None:
        FakeGraph.made += 1
        self.captured: Any = None

    def pool(self) -> str:
        return "pool"

    def replay(self) -> None:
        FakeGraph.replays += 1
        owner, layer, entering, climbed = self.captured
        again = FakeGraph.climbing(owner, layer, entering)
        climbed.logits.copy_(again.logits)
        for (keys, values), (other_keys, other_values) in zip(climbed.keys_values, again.keys_values, strict=True):
            keys.copy_(other_keys)
            values.copy_(other_values)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> type[FakeGraph]:
    """Makes `SuffixGraphs` believe that it is on a GPU, with `FakeGraph` for graphs."""
    capturing: list[FakeGraph] = []
    FakeGraph.made = FakeGraph.replays = 0
    FakeGraph.failing = False
    FakeGraph.climbing = SuffixGraphs._climb

    @contextmanager
    def capture(graph: FakeGraph, pool: object, device: torch.device) -> Iterator[None]:
        if FakeGraph.failing:
            raise RuntimeError("operation not permitted when stream is capturing")
        capturing.append(graph)
        yield
        capturing.clear()

    def climb(self: SuffixGraphs, layer: int, hidden: torch.Tensor) -> Climbed:
        climbed: Climbed = FakeGraph.climbing(self, layer, hidden)
        if capturing:
            capturing[0].captured = (self, layer, hidden, climbed)
        return climbed

    whole = SuffixGraphs.__init__

    def usable(self: SuffixGraphs, *args: Any) -> None:
        whole(self, *args)
        self._usable = True

    monkeypatch.setattr(SuffixGraphs, "__init__", usable)
    monkeypatch.setattr(SuffixGraphs, "_climb", climb)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(graphs_module, "capturing", capture)
    return FakeGraph


def some_ablations(lm: LanguageModel, library: Library, question: Question) -> list[Ablation]:
    """Ablations that enter at every layer, several of which share where they enter."""
    kinds = (SiteKind.RESID_POST, SiteKind.MLP_OUT, SiteKind.ATTN_Z)
    return [
        Ablation((unit,))
        for layer in range(LAYERS)
        for kind in kinds
        for unit in active_features(lm, library.at(Site(layer, kind)), question)[:2]
    ]


def test_replayed_ablations_are_what_the_whole_model_says(
    lm: LanguageModel, library: Library, question: Question, graphs: type[FakeGraph]
) -> None:
    live = Live(lm, library, record(lm, [question], [question.last], library.sites))
    ablations = some_ablations(lm, library, question)
    for ablation in (*ablations, *ablations[::-1]):
        plain = measure_ablation(lm, library, question, ablation)
        assert live.measure(ablation).p_after == pytest.approx(plain.p_after, abs=1e-5)
    # All three kinds go on, unchanged, in front of the next layer: one graph for each, the final norm's included.
    assert graphs.made == LAYERS
    # The first run from each layer goes without; the one that captures checks its graph by replaying it, too.
    assert graphs.replays == 2 * len(ablations) - graphs.made + graphs.made


def test_what_is_kept_of_a_run_is_not_the_next_runs(
    lm: LanguageModel, library: Library, question: Question, graphs: type[FakeGraph]
) -> None:
    """A continuation reads keys and values after the run; the effect's numbers are plain numbers by then."""
    live = Live(lm, library, record(lm, [question], [question.last], library.sites))
    first, second = (
        Ablation((unit,)) for unit in active_features(lm, library.at(Site(0, SiteKind.RESID_POST)), question)[:2]
    )
    live.measure(first)
    one = live.measure(first)
    other = live.measure(second)
    assert one.p_after != other.p_after
    assert live.measure(first) == one


@pytest.mark.parametrize("positions", Positions)
def test_continuations_after_replays_are_greedy_decoding_by_whole_forwards(
    lm: LanguageModel, library: Library, question: Question, graphs: type[FakeGraph], positions: Positions
) -> None:
    """Each reads the keys and values that its own replay left in the buffers, while they stand there."""
    live = Live(lm, library, record(lm, [question], [question.last], library.sites))
    chosen = telling(Case(lm, library, (question, question)), question, (Mode.SCALE, 3.0), positions)
    assert len({tokens for _ablation, tokens in chosen}) > 1
    for ablation, tokens in chosen * 3:
        assert continuation_of(lm, live, ablation, {}, len(tokens)) == as_text(lm, question, tokens)
    # Each layer that is entered first runs kernel by kernel; from the second time on it is replayed.
    assert graphs.replays >= 2 * len(chosen)


def test_where_capturing_fails_layers_run_one_by_one_from_then_on(
    lm: LanguageModel, library: Library, question: Question, graphs: type[FakeGraph]
) -> None:
    graphs.failing = True
    live = Live(lm, library, record(lm, [question], [question.last], library.sites))
    for ablation in some_ablations(lm, library, question) * 2:
        plain = measure_ablation(lm, library, question, ablation)
        assert live.measure(ablation).p_after == pytest.approx(plain.p_after, abs=1e-5)
    assert (graphs.made, graphs.replays) == (1, 0)


def test_on_the_cpu_nothing_is_captured(lm: LanguageModel, library: Library, question: Question) -> None:
    live = Live(lm, library, record(lm, [question], [question.last], library.sites))
    for ablation in some_ablations(lm, library, question)[:3] * 2:
        live.measure(ablation)
    assert all(not graphs._usable and not graphs._captured for graphs in live._graphs.values())
