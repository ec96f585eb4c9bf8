"""Many facts ranked at once: the numbers of each fact alone, within the memory that was allowed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.ranks import FactRanks
from knowscope_tui.core.readings import Ablation
from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.engine import ranking
from knowscope_tui.engine.ablate import measure_ablation
from knowscope_tui.engine.answers import answer_rank, forward, is_top, probability
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.probe import read_sites, read_units
from knowscope_tui.engine.ranking import AskedFact, Ranker
from knowscope_tui.engine.suffix import Suffix
from knowscope_tui.engine.trace import record
from knowscope_tui.errors import Cancelled, DeviceError
from tests.engine.suffixes import greedily
from tests.tiny import LAYERS, activations

NEURONS = 9
MIB = 1 << 20


@pytest.fixture(scope="module")
def asked(lm: LanguageModel, facts: list[Fact]) -> list[AskedFact]:
    """Facts with prompts of several lengths and answers of one, two and more tokens, in no order."""
    found = []
    for n, fact in enumerate(facts):
        prompt, more = (fact.prompt, n % 3) if n < 9 else (" ".join(fact.prompt.split()[:3]), 0)
        ids = lm.encode(prompt)
        # What the model itself goes on with, once from its second choice: any other answer's P is next to nothing.
        first = two_best(lm, ids)[more == 1]
        answer_ids = (first, *greedily(lm, (*ids, first), more))
        answer = lm.tokenizer.decode(answer_ids).strip()
        found.append(AskedFact(10 + n, Fact(prompt, answer, fact.id), Question(prompt, answer, ids, answer_ids)))
    assert len({len(one.question.answer_ids) for one in found}) > 2
    assert len({len(one.question.prompt_ids) for one in found}) > 2
    assert min(probability(forward(lm, one.question), one.question) for one in found) > 1e-5
    return found


def two_best(lm: LanguageModel, ids: tuple[int, ...]) -> list[int]:
    """The two most probable tokens after `ids`."""
    return forward(lm, Question("a", "b", ids, (0,)))[-1].topk(2).indices.tolist()


def everything(ranker: Ranker, asked: Sequence[AskedFact], **options: Any) -> list[FactRanks]:
    """All facts, batch by batch, in the order of their numbers."""
    found = [ranks for batch in ranker.batches(asked) for ranks in ranker.rank(batch, **options)]
    return sorted(found, key=lambda ranks: ranks.number)


def assert_alike(some: Sequence[FactRanks], others: Sequence[FactRanks]) -> None:
    """The same facts and units, with the same numbers to float32's accuracy."""
    assert [ranks.number for ranks in some] == [ranks.number for ranks in others]
    for one, other in zip(some, others, strict=True):
        assert (one.fact, one.rank, one.says_answer) == (other.fact, other.rank, other.says_answer)
        assert one.p_answer == pytest.approx(other.p_answer, rel=1e-4)
        rows, expected = ({row.unit: row for row in ranks.units} for ranks in (one, other))
        assert set(rows) == set(expected)
        for unit, row in rows.items():
            assert row.activation == pytest.approx(expected[unit].activation, rel=1e-4, abs=1e-5)
            assert row.attribution == pytest.approx(expected[unit].attribution, rel=1e-3, abs=1e-5)
            assert row.p_after == pytest.approx(expected[unit].p_after, rel=2e-4)


# --- the numbers ----------------------------------------------------------------------------------------------------


def test_facts_together_give_what_each_gives_alone(lm: LanguageModel, library: Library, asked: list[AskedFact]) -> None:
    ranker = Ranker(lm, library, neurons=NEURONS)
    assert max(map(len, ranker.batches(asked))) > 2
    alone = [ranks for one in asked for ranks in ranker.rank([one])]
    assert_alike(everything(ranker, asked), alone)


def test_lengths_may_be_mixed_in_one_batch(lm: LanguageModel, library: Library, asked: list[AskedFact]) -> None:
    ranker = Ranker(lm, library, neurons=NEURONS)
    assert_alike(ranker.rank(asked), everything(ranker, asked))


def test_a_unit_does_what_ablating_it_alone_does(lm: LanguageModel, library: Library, asked: list[AskedFact]) -> None:
    some = [asked[0], asked[2], asked[-1]]
    for one, ranks in zip(some, everything(Ranker(lm, library, neurons=NEURONS), some), strict=True):
        assert {row.unit.family for row in ranks.units} == set(Family)
        for row in ranks.units[::4]:
            effect = measure_ablation(lm, library, one.question, Ablation((row.unit,)))
            assert ranks.p_answer == pytest.approx(effect.p_before, rel=1e-4)
            assert row.p_after == pytest.approx(effect.p_after, rel=2e-4)
            assert row.delta_prob == pytest.approx((ranks.p_answer - row.p_after) / ranks.p_answer)


def test_the_answer_is_as_plain_hugging_face_has_it(
    lm: LanguageModel, library: Library, asked: list[AskedFact]
) -> None:
    for one, ranks in zip(asked, everything(Ranker(lm, library, neurons=0), asked), strict=True):
        logits = forward(lm, one.question)
        assert ranks.p_answer == pytest.approx(probability(logits, one.question), rel=1e-4)
        assert ranks.rank == answer_rank(logits, one.question)
        assert ranks.says_answer == bool(is_top(logits[None], one.question)[0])


def test_every_active_feature_and_the_strongest_neurons_are_measured_the_largest_effect_first(
    lm: LanguageModel, library: Library, asked: list[AskedFact]
) -> None:
    for one, ranks in zip(asked, everything(Ranker(lm, library, neurons=NEURONS), asked), strict=True):
        question = one.question
        plain = activations(lm, question, library.sites)
        expected = {
            Unit(site, Family.FEATURE, index)
            for site, h in plain.items()
            for index in library.at(site).encode(h[question.last]).nonzero()[:, 0].tolist()
        }
        trace = record(lm, [question], [question.last], read_sites(lm, library, [Family.NEURON]), slopes=True)
        neurons = {
            Unit(units.site, Family.NEURON, index): value
            for units in read_units(library, trace)
            for index, value in enumerate(units.attribution[0].tolist())
        }
        expected |= set(sorted(neurons, key=lambda unit: -neurons[unit])[:NEURONS])
        assert {row.unit for row in ranks.units} == expected
        drops = [row.delta_prob for row in ranks.units]
        assert drops == sorted(drops, reverse=True)


def test_neurons_can_be_left_out_or_all_be_asked_for(
    lm: LanguageModel, library: Library, asked: list[AskedFact]
) -> None:
    def families(ranker: Ranker) -> set[Family]:
        return {row.unit.family for ranks in everything(ranker, asked[:3]) for row in ranks.units}

    assert families(Ranker(lm, library, neurons=0)) == {Family.FEATURE}
    assert families(Ranker(lm, Library(), neurons=2)) == {Family.NEURON}
    whole = Ranker(lm, Library(), neurons=10**6).rank(asked[:1])[0]
    sites = [Site(layer, SiteKind.MLP_ACT) for layer in range(LAYERS)]
    active = [h[asked[0].question.last].count_nonzero() for h in activations(lm, asked[0].question, sites).values()]
    assert len(whole.units) == int(sum(active))


# --- batches and memory ---------------------------------------------------------------------------------------------


def test_batches_hold_every_fact_once_and_one_length_of_answer_each(
    lm: LanguageModel, library: Library, asked: list[AskedFact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "MOST_FACTS", 3)
    batches = Ranker(lm, library).batches(asked)
    assert sorted(one.number for batch in batches for one in batch) == [one.number for one in asked]
    for batch in batches:
        assert len({len(one.question.answer_ids) for one in batch}) == 1
        assert 1 <= len(batch) <= 3
    assert Ranker(lm, library).batches(list(reversed(asked))) == batches
    assert [len(batch) for batch in Ranker(lm, library, memory=1).batches(asked)] == [1] * len(asked)


@pytest.fixture
def most_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each layer that is run."""
    rows: list[int] = []
    run_layer = Suffix.run_layer

    def spied(self: Suffix, layer: int, hidden: torch.Tensor, *rest: Any) -> Any:
        rows.append(len(hidden))
        return run_layer(self, layer, hidden, *rest)

    monkeypatch.setattr(Suffix, "run_layer", spied)
    return rows


def _peak(work: Callable[[], object]) -> int:
    """The most bytes that tensors made by `work` took at once."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    sizes: list[tuple[int, int]] = []
    waiting = list(profiled.profiler.kineto_results.experimental_event_tree())
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if event.name == "[memory]":
            sizes.append((event.start_time_ns, event.extra_fields.alloc_size))
    now = most = 0
    for _when, size in sorted(sizes):
        now += size
        most = max(most, now)
    return most


@pytest.mark.parametrize("share", [1, 4, 16])
def test_what_runs_at_once_stays_within_the_memory(
    lm: LanguageModel, library: Library, asked: list[AskedFact], most_rows: list[int], share: int
) -> None:
    memory = MIB // 2 * share
    free, bounded = Ranker(lm, library), Ranker(lm, library, memory=memory)
    expected = everything(free, asked)
    unbounded = max(most_rows)
    most_rows.clear()
    found: list[FactRanks] = []
    assert MIB // 10 < _peak(lambda: found.extend(everything(bounded, asked))) <= memory
    assert max(most_rows) < unbounded or share == 16
    assert_alike(found, expected)


def test_where_no_memory_is_allowed_one_fact_and_one_unit_run_at_a_time(
    lm: LanguageModel, library: Library, asked: list[AskedFact], most_rows: list[int]
) -> None:
    expected = everything(Ranker(lm, library, neurons=0), asked[:2])
    most_rows.clear()
    assert_alike(everything(Ranker(lm, library, neurons=0, memory=0), asked[:2]), expected)
    assert max(most_rows) == 1


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_facts_are_halved_where_memory_runs_out(
    lm: LanguageModel,
    library: Library,
    asked: list[AskedFact],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    alike = next(batch for batch in Ranker(lm, library).batches(asked) if len(batch) == 6)
    expected = Ranker(lm, library).rank(alike)
    tried: list[int] = []

    def small_only(lm: LanguageModel, questions: Sequence[Any], *rest: Any, **options: Any) -> Any:
        tried.append(len(questions))
        if len(questions) > 4:
            raise error
        return record(lm, questions, *rest, **options)

    monkeypatch.setattr(ranking, "record", small_only)
    ranker = Ranker(lm, library)
    assert_alike(ranker.rank(alike), expected)
    assert tried == [6, 3, 3]
    assert_alike(ranker.rank(alike), expected)
    assert tried[3:] == [3, 3]


def test_rows_are_halved_where_memory_runs_out(
    lm: LanguageModel, library: Library, asked: list[AskedFact], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Ranker(lm, library).rank(asked[:3])
    run_layer = Suffix.run_layer
    failed: list[int] = []

    def small_only(self: Suffix, layer: int, hidden: torch.Tensor, *rest: Any) -> Any:
        if len(hidden) > 50:
            failed.append(len(hidden))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run_layer(self, layer, hidden, *rest)

    monkeypatch.setattr(Suffix, "run_layer", small_only)
    assert_alike(Ranker(lm, library).rank(asked[:3]), expected)
    assert failed


def test_a_fact_that_memory_does_not_hold_at_all_is_an_error(
    lm: LanguageModel, library: Library, asked: list[AskedFact], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ranking, "record", full)
    with pytest.raises(DeviceError, match="The device ran out of memory"):
        Ranker(lm, library).rank(asked)


def test_other_errors_are_not_taken_for_full_memory(
    lm: LanguageModel, library: Library, asked: list[AskedFact], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object, **_options: object) -> None:
        raise ValueError("something else")

    monkeypatch.setattr(ranking, "record", broken)
    with pytest.raises(ValueError, match="something else"):
        Ranker(lm, library).rank(asked)


# --- on the way -----------------------------------------------------------------------------------------------------


def test_what_is_measured_is_told_and_adds_up(lm: LanguageModel, library: Library, asked: list[AskedFact]) -> None:
    told: list[tuple[float, int]] = []
    ranked = Ranker(lm, library, memory=MIB).rank(asked[:4], lambda facts, units: told.append((facts, units)))
    assert len(told) > 2
    facts = [measured for measured, _units in told]
    assert facts == sorted(facts)
    assert facts[-1] == pytest.approx(4)
    assert sum(units for _facts, units in told) == sum(len(ranks.units) for ranks in ranked)


def test_a_ranking_can_be_stopped_between_layers(lm: LanguageModel, library: Library, asked: list[AskedFact]) -> None:
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks == 4:
            raise Cancelled

    with pytest.raises(Cancelled):
        Ranker(lm, library).rank(asked, check=check)
    assert checks == 4
