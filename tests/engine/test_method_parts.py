"""The parts of the methods that solve and optimise: each held to what it is for, where dropping it would show."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from knowscope_tui.core.edits import EditSpec, FrontierPoint, Limits, Method
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.readings import Ablation
from knowscope_tui.core.rings import RINGS, rings_of
from knowscope_tui.core.units import Site, SiteKind, Unit
from knowscope_tui.engine import model as model_module
from knowscope_tui.engine.ablate import ablation_changes
from knowscope_tui.engine.deltas.change import LowRankChange, added, make
from knowscope_tui.engine.hooks import intervene
from knowscope_tui.engine.journal import Journal
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.methods import moments as moments_module
from knowscope_tui.engine.methods import plan as plan_module
from knowscope_tui.engine.methods import task as task_module
from knowscope_tui.engine.methods import zeroing
from knowscope_tui.engine.methods.evidence import gathered, phrasings, questions_about
from knowscope_tui.engine.methods.factors import dense, factored
from knowscope_tui.engine.methods.frontier import frontier_of
from knowscope_tui.engine.methods.keeping import Pool, drift, of_questions
from knowscope_tui.engine.methods.material import Material
from knowscope_tui.engine.methods.moments import Moment, moments
from knowscope_tui.engine.methods.plan import outline, plan_edit
from knowscope_tui.engine.methods.positions import budgeted, chosen_by_features
from knowscope_tui.engine.methods.precise import Solved, closed_form, solve
from knowscope_tui.engine.methods.precise import _unnormed as unnormed
from knowscope_tui.engine.methods.states import add_moments, at, at_last
from knowscope_tui.engine.methods.stopping import Watch
from knowscope_tui.engine.methods.targets import find_targets
from knowscope_tui.engine.methods.task import Task
from knowscope_tui.engine.methods.yardstick import Seen, Yardstick
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.proof.evaluate import know
from knowscope_tui.engine.sites import down_proj, post_feedforward_gain
from knowscope_tui.errors import EditError
from knowscope_tui.text import file_size
from tests.engine.test_methods import TEXTS, material
from tests.tiny import D_MLP, D_MODEL, LAYERS, active_features, sparse

TOP = Site(LAYERS - 1, SiteKind.RESID_POST)


def silent(_what: str, _share: float | None) -> None:
    pass


def drifted(lm: LanguageModel, facts: Sequence[Fact], spec: EditSpec, seen: Material, library: Library) -> float:
    """KL(base ‖ edited) on the prompts of `facts` once `spec` was worked out with what it is shown."""
    pool = Pool(lm, of_questions(questions_about(lm, facts)), 0)
    planned = plan_edit(lm, library, spec, seen)
    journal = Journal(lm)
    journal.apply(planned.changes)
    found = float(sum(float(part) for part in drift(lm, pool.draw(len(pool), random.Random(0)))))
    journal.undo()
    return found


# --- which units, and what they ask for ------------------------------------------------------------------------------


def test_features_of_the_last_layers_stream_ask_for_exactly_minus_what_they_write(
    lm: LanguageModel, library: Library, facts: list[Fact]
) -> None:
    targets = find_targets(lm, library, EditSpec((facts[0],), Method.PRECISE, top=4))
    units = targets.units[facts[0]]
    assert {unit.site for unit in units} == {TOP}
    z = library.at(TOP).encode(targets.reached)  # (rows, d_sae)
    indices = torch.tensor([unit.index for unit in units])
    assert torch.allclose(targets.delta, -z[:, indices] @ library.at(TOP).rows(indices), atol=1e-4)


@pytest.mark.parametrize(
    "sites",
    [
        (Site(1, SiteKind.RESID_POST),),
        (Site(1, SiteKind.MLP_OUT),),
        (Site(1, SiteKind.RESID_MID), Site(0, SiteKind.RESID_POST), TOP),
    ],
    ids=lambda sites: "+".join(map(str, sites)),
)
def test_named_units_at_any_sites_ask_for_what_switching_all_of_them_off_does(
    lm: LanguageModel, library: Library, facts: list[Fact], sites: tuple[Site, ...]
) -> None:
    fact = replace(facts[0], edit_prompts=(facts[1].prompt,))
    questions = [lm.ask(prompt, fact.answer) for prompt in phrasings(fact)]
    units = tuple(active_features(lm, library.at(site), questions[0])[0] for site in sites)
    targets = find_targets(lm, library, EditSpec((fact,), Method.PRECISE, units=units))
    assert targets.units[fact] == units
    for row, question in enumerate(questions):
        with intervene(lm.model, ablation_changes(lm, library, Ablation(units), question.last)):
            off = at_last(lm, [question], [TOP])[TOP]
        assert torch.allclose(targets.reached[row] + targets.delta[row], off[0], atol=1e-4)
    assert targets.delta[0].abs().max() > 0.01


@pytest.mark.parametrize("method", list(Method), ids=lambda method: method.value)
@pytest.mark.parametrize("kind", [SiteKind.RESID_POST, SiteKind.MLP_OUT], ids=str)
def test_the_outline_names_the_units_that_are_then_used(
    lm: LanguageModel, library: Library, facts: list[Fact], method: Method, kind: SiteKind
) -> None:
    spec = EditSpec(tuple(facts[:2]), method, kind, top=3, budget=0.3)
    seen, done = outline(lm, library, spec), plan_edit(lm, library, spec, Material(tuple(facts[3:5]), TEXTS[:1])).plan
    assert seen.units == done.units
    assert bool(done.units) == (method not in (Method.GRADIENT, Method.REFINED_RANDOM))
    assert {unit.site.kind for unit in done.units} <= {SiteKind.MLP_ACT if method is Method.NEURONS else kind}
    assert {part.layer: part.shape for part in done.parameters}.items() <= {
        part.layer: part.shape for part in seen.parameters
    }.items()
    counts = {part.layer: part.positions for part in done.parameters}
    for change in done.reach:
        assert all(0 < count <= counts[layer] for layer, count in change.positions.items())


def test_units_that_are_silent_on_a_fact_are_refused(lm: LanguageModel, library: Library, facts: list[Fact]) -> None:
    question = lm.ask(facts[0].prompt, facts[0].answer)
    active = set(active_features(lm, library.at(TOP), question))
    quiet = next(unit for index in range(40) if (unit := Unit.feature(TOP.layer, TOP.kind, index)) not in active)
    with pytest.raises(EditError, match="Nothing changes on 'fact-"):
        plan_edit(lm, library, EditSpec((facts[0],), Method.PRECISE, units=(quiet,)))


# --- positions and rows ----------------------------------------------------------------------------------------------


def test_what_units_have_zeroed_adds_up_to_the_union_over_all_facts(
    lm: LanguageModel, library: Library, facts: list[Fact]
) -> None:
    together = EditSpec(tuple(facts[:3]), top=5, tau2=0.1)
    evidence = gathered(lm, library, together)
    masks, reach = zeroing.marked(zeroing.ratios(lm, library, together, evidence), 0.1)
    assert len({change.unit for change in reach}) == len(reach) > 5
    union: dict[int, Tensor] = {}
    for change in reach:
        own: dict[int, Tensor] = {}
        for one in evidence:
            if change.unit in one.units(together):
                alone = replace(together, facts=(one.fact,), units=(change.unit,))
                for layer, mask in zeroing.marked(zeroing.ratios(lm, library, alone, [one]), 0.1)[0].items():
                    own[layer] = own[layer] | mask if layer in own else mask
        assert change.positions == {layer: int(mask.sum()) for layer, mask in own.items() if mask.any()}
        for layer, mask in own.items():
            union[layer] = union[layer] | mask if layer in union else mask
    assert all(torch.equal(masks[layer], mask) for layer, mask in union.items())


# --- precise ---------------------------------------------------------------------------------------------------------


def test_the_closed_form_through_woodburys_identity_is_the_one_through_the_whole_inverse() -> None:
    generator = torch.Generator().manual_seed(0)
    keys, wanted = torch.randn(5, 12, generator=generator), torch.randn(5, 7, generator=generator)
    kept = torch.randn(30, 12, generator=generator)
    moment = kept.T @ kept / 30
    left, right = closed_form(keys, wanted, Moment.of(moment.clone(), 0.01))
    whole = keys.T @ keys / 5 + moment + 0.01 * torch.eye(12)
    expected = torch.linalg.solve(whole, keys.T @ wanted / 5).T
    assert torch.allclose(left @ right, expected, atol=1e-4)
    assert torch.allclose(right @ right.T, torch.eye(5), atol=1e-5)


def test_what_is_written_stands_behind_the_norm_as_it_was_wanted(
    lm: LanguageModel, library: Library, facts: list[Fact]
) -> None:
    """g / r · ΔW a is what was missing, for a key of its own and nothing to keep."""
    layer, question = 1, lm.ask(facts[0].prompt, facts[0].answer)
    a = at_last(lm, [question], [Site(layer, SiteKind.MLP_ACT)])[Site(layer, SiteKind.MLP_ACT)]
    gain = post_feedforward_gain(lm.model, layer)
    assert gain is not None
    W = down_proj(lm.model, layer)
    r = (a @ W.T).square().mean().add(lm.model.config.rms_norm_eps).sqrt()
    assert abs(float(r) - 1) > 0.2, "else r / g and g / r are nearly one another"
    missing = torch.randn(1, D_MODEL, generator=torch.Generator().manual_seed(3))
    left, right = closed_form(a, missing * unnormed(lm, layer, a), Moment.of(torch.zeros(D_MLP, D_MLP), 1e-9))
    written = (left @ right @ a[0]) * gain / r
    clear = gain.abs() > 0.5  # Where g is small, less is asked for than would bring it through.
    assert torch.allclose(written[clear], missing[0][clear], rtol=0.01)


def test_second_moments_are_those_of_the_activations_in_whatever_portions(
    lm: LanguageModel, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, spec = Site(1, SiteKind.MLP_ACT), EditSpec((facts[0],), Method.PRECISE)
    questions = questions_about(lm, facts)
    a = at_last(lm, questions, [site])[site]
    places = [(question.input_ids, (question.last,)) for question in questions]
    for logits in (model_module.LOGITS_BYTES, 1):
        monkeypatch.setattr(model_module, "LOGITS_BYTES", logits)
        sums = {site: torch.zeros(D_MLP, D_MLP)}
        add_moments(lm, places, 0.5, sums)
        assert torch.allclose(sums[site], 0.5 * a.T @ a / len(a), atol=1e-4)
        assert torch.allclose(at(lm, questions, [q.last for q in questions], [site])[site], a, atol=1e-4)
    asked = [lm.ask(facts[0].prompt, facts[0].answer)]
    found = moments(lm, [0, 1], spec, Material(), asked, [asked[0].last])
    own = at_last(lm, asked, [site])[site]
    ridge = 1e-4 * float(own.square().mean())
    assert torch.allclose(found[1].lower @ found[1].lower.T, ridge * torch.eye(D_MLP), rtol=1e-3, atol=1e-9)


def test_a_machine_with_too_little_memory_is_told_before_anything_is_summed_up(
    lm: LanguageModel, library: Library, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 2 * 4 * D_MLP**2
    monkeypatch.setattr(moments_module, "host_memory", lambda: (needed, needed - 1))
    with pytest.raises(EditError, match=f"The closed form needs {file_size(needed)} of this machine's memory"):
        plan_edit(lm, library, EditSpec((facts[0],), Method.PRECISE))


def test_what_is_to_be_kept_is_kept_better_than_what_is_not_shown(
    lm: LanguageModel, library: Library, facts: list[Fact]
) -> None:
    spec = EditSpec((facts[0],), Method.PRECISE)
    shown = drifted(lm, facts[3:], spec, Material(tuple(facts[3:])), library)
    assert shown < 0.8 * drifted(lm, facts[3:], spec, Material(), library)


def test_few_facts_come_as_factors_and_many_as_values_of_the_same_change(
    lm: LanguageModel, library: Library, facts: list[Fact]
) -> None:
    single = plan_edit(lm, library, EditSpec((facts[0],), Method.PRECISE), material(facts))
    assert all(isinstance(change, LowRankChange) and change.rank == 1 for change in single.changes)
    assert [part.rank for part in single.plan.parameters] == [1] * len(single.changes)
    for change, part in zip(single.changes, single.plan.parameters, strict=True):
        weight = lm.model.get_parameter(change.name).detach()
        edited = weight.clone()
        make(edited, change)
        assert int((edited != weight).sum()) == part.positions > 0.9 * weight.numel()
        assert float((edited - weight).norm() / weight.norm()) == pytest.approx(part.relative_norm, rel=1e-4)
    many = replace(facts[0], edit_prompts=tuple(fact.prompt for fact in facts[1:]))
    wide = plan_edit(lm, library, EditSpec((many, *facts[1:]), Method.PRECISE), material(facts))
    assert not any(isinstance(change, LowRankChange) for change in wide.changes)
    left, right = torch.randn(D_MODEL, 2), torch.randn(2, D_MLP)
    as_factors, as_values = factored(lm, 1, left, right), dense(lm, 1, down_proj(lm.model, 1) + left @ right)
    assert isinstance(as_factors, LowRankChange)
    moved = sparse(as_values).values - down_proj(lm.model, 1).flatten()[as_values.indices]
    assert torch.allclose(added(as_factors).flatten()[as_values.indices].float(), moved, atol=1e-3)


# --- refined ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [0.001, 0.01, 0.05, 1.0])
def test_the_budget_is_never_exceeded_and_used_up_where_enough_is_written(
    lm: LanguageModel, library: Library, facts: list[Fact], budget: float
) -> None:
    spec = EditSpec((facts[0],), Method.REFINED, budget=budget)
    solved = solve(lm, library, spec, Material(), silent)
    half = {
        layer: (left, torch.where(torch.arange(D_MLP) % 2 == 0, right, 0))
        for layer, (left, right) in solved.factors.items()
    }
    for factors in (solved.factors, half):
        found = chosen_by_features(lm, spec, factors)
        nonzero = {layer: (left @ right).flatten().nonzero()[:, 0] for layer, (left, right) in factors.items()}
        assert sum(map(len, found.values())) == min(budgeted(lm, budget), sum(map(len, nonzero.values())))
        for layer, places in found.items():
            assert bool(torch.isin(places, nonzero[layer]).all())
            assert bool((places.diff() > 0).all())
    edited = plan_edit(lm, library, spec, material(facts)).plan
    assert edited.positions <= budgeted(lm, budget)


def by_ring(facts: Sequence[Fact]) -> list[Fact]:
    """Ten facts of each ring around the first of `facts`, all known to the model that knows these."""
    made = []
    for number, ring in enumerate(RINGS):
        for place in range(10):
            one = facts[1 + place % (len(facts) - 1)]
            subject = facts[0].subject if number == 0 else f"nobody {place}"
            relation = facts[0].relation if number == 1 else f"nothing {place}"
            made.append(replace(one, id=f"{ring} {place}", subject=subject, relation=relation))
    return made


def test_what_is_put_aside_is_in_every_ring_and_nothing_learns_from_it(
    lm: LanguageModel, library: Library, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Material(tuple(by_ring(facts)), TEXTS)
    spec = EditSpec((facts[0],), Method.REFINED, budget=0.05)
    watch = Watch.of(lm, spec, whole)
    aside = watch.yardstick.retained
    assert {
        ring: len(own) for ring, own in rings_of([(fact, fact) for fact in aside], spec.facts).items()
    } == dict.fromkeys(RINGS, 2)
    assert not set(aside) & set(watch.rest.retained)
    assert set(aside) | set(watch.rest.retained) == set(whole.retained)
    assert len(watch.rest.texts) == len(TEXTS) - 1
    learned: list[Material] = []

    def spied(lm: LanguageModel, library: Library, spec: EditSpec, given: Material, *rest: object) -> Solved:
        learned.append(given)
        return solve(lm, library, spec, given, silent)

    def seen(lm: LanguageModel, spec: EditSpec, watch: Watch) -> Task:
        learned.append(watch.rest)
        return real(lm, spec, watch)

    real = Task.watched
    monkeypatch.setattr(plan_module, "solve", spied)
    monkeypatch.setattr(Task, "watched", seen)
    plan_edit(lm, library, spec, whole)
    assert learned == [watch.rest, watch.rest]


def test_the_loss_comes_in_parts_that_add_up_to_the_whole(
    lm: LanguageModel, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = EditSpec(tuple(facts[:3]), Method.REFINED)
    for task in (
        Task.watched(lm, spec, Watch.of(lm, spec, Material(tuple(by_ring(facts)), TEXTS))),
        Task.baseline(lm, spec, material(facts)),
    ):
        journal = Journal(lm)
        journal.apply(plan_edit(lm, Library(), replace(spec, method=Method.NEURONS, top=1)).changes)
        with torch.no_grad():
            whole = [float(part) for part in task.parts(random.Random(3))]
            monkeypatch.setattr(model_module, "LOGITS_BYTES", 1)
            parts = [float(part) for part in task.parts(random.Random(3))]
        monkeypatch.undo()
        journal.undo()
        assert len(whole) == 3
        assert len(parts) > 10
        assert sum(parts) == pytest.approx(sum(whole), rel=1e-4)
        assert min(whole) > 0


def test_the_keeping_terms_keep(
    lm: LanguageModel, library: Library, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, seen = EditSpec((facts[0],), Method.REFINED_RANDOM, budget=0.1), Material(tuple(facts[3:]))
    kept = drifted(lm, facts[3:], spec, seen, library)
    monkeypatch.setattr(task_module, "KEEP", 0.0)
    assert kept < 0.8 * drifted(lm, facts[3:], spec, seen, library)


# --- limits ----------------------------------------------------------------------------------------------------------


def a_point(tau2: float, p_answer: float, rings: dict[str, float]) -> FrontierPoint:
    return FrontierPoint(tau2, 10, 1.0, p_answer, locality=0.99, delta_ppl=0.0, rings=rings)


def test_the_choice_moves_when_a_single_ring_suffers() -> None:
    whole = dict.fromkeys(RINGS, 1.0)
    limits = Limits(0.9, 0.01, 0.9)
    high, low = a_point(0.2, 0.4, whole), a_point(0.1, 0.0, whole)
    assert frontier_of(limits, [high, low], 1.0).chosen == 1
    for ring in RINGS:
        hurt = replace(low, rings={**whole, ring: 0.5})
        found = frontier_of(limits, [high, hurt], 1.0)
        assert (found.chosen, [point.meets for point in found.points]) == (0, [True, False])
        within = replace(low, p_answer=0.35, rings={**whole, ring: 0.92})
        assert frontier_of(limits, [high, within], 1.0).chosen == 0, "damage counts in the knee too"


def test_a_watch_is_content_after_two_looks_in_a_row_within_every_limit(
    lm: LanguageModel, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = dict.fromkeys(RINGS, 1.0)
    good = Seen(reliability=1.0, p_answer=0.0, locality=0.99, rings=whole, delta_ppl=0.0)
    hurt = [replace(good, rings={**whole, ring: 0.5}) for ring in RINGS]
    watch = Watch.of(lm, EditSpec((facts[0],)), material(facts))
    for bad in (*hurt, replace(good, reliability=0.5), replace(good, delta_ppl=0.5), replace(good, reliability=None)):
        content = []
        for seen in (good, bad, good, good):
            monkeypatch.setattr(watch.yardstick, "look", lambda seen=seen: seen)
            watch.look()
            content.append(watch.content)
        assert content == [False, False, False, True]
        watch = Watch.of(lm, EditSpec((facts[0],)), material(facts))


def test_what_was_not_measured_is_none_and_meets_no_limit_by_itself(
    lm: LanguageModel, library: Library, facts: list[Fact]
) -> None:
    none = Yardstick(lm, facts[:1], (), ()).look()
    assert (none.locality, none.worst, none.delta_ppl, none.rings) == (None, None, None, {})
    unknown = replace(facts[0], answer=facts[-1].answer)
    assert Yardstick(lm, [unknown], facts[3:], TEXTS).look().reliability is None
    limits = Limits(0.5, 0.01, 0.9)
    assert not limits.met_by(1.0, None, None)
    assert not limits.met_by(None, 1.0, 0.0)
    assert limits.met_by(1.0, None, 0.0)
    assert limits.met_by(1.0, 1.0, None)
    auto = EditSpec((facts[0],), auto=True, limits=Limits(0.0, 10.0, 0.0))
    with pytest.raises(EditError, match="neither a fact that the model is to keep nor any text"):
        plan_edit(lm, library, auto, Material())
    noted = plan_edit(lm, library, auto, Material((), TEXTS)).plan
    assert noted.frontier is not None
    assert {point.locality for point in noted.frontier.points} == {None}
    assert any(note.startswith("Loc was not measured") for note in noted.notes)


def test_rel_counts_the_phrasings_that_were_known_before_and_no_others(
    lm: LanguageModel, library: Library, facts: list[Fact]
) -> None:
    fact = replace(facts[0], edit_prompts=(facts[-1].prompt, facts[0].paraphrases[0]))
    known = [answer.top for answer in know(lm, questions_about(lm, [fact]))]
    assert known == [True, False, True]
    yardstick = Yardstick(lm, [fact], facts[3:], TEXTS)
    watch = Watch.of(lm, EditSpec((fact,)), Material(tuple(facts[3:]), TEXTS))
    assert yardstick.look().reliability == watch.yardstick.look().reliability == 0.0
    assert (yardstick.look().locality, yardstick.look().delta_ppl) == (1.0, 0.0)
    written = Yardstick(lm, [replace(fact, answer=facts[-1].answer, target_new=fact.answer)], (), ()).look()
    assert written.reliability == 0.0
    journal = Journal(lm)
    journal.apply(plan_edit(lm, library, EditSpec((fact,), Method.PRECISE), Material()).changes)
    asked = know(lm, questions_about(lm, [fact]))
    assert yardstick.look().reliability == sum(not asked[row].top for row in (0, 2)) / 2
    journal.undo()
