"""The Python API on a model of one's own: every use case, and the model as it was whenever one fails."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

import knowscope_tui
from knowscope_tui.core.edit_json import report_json, verify_json
from knowscope_tui.core.edits import EditPlan, EditSpec, Method
from knowscope_tui.core.fact_names import FactNames
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.readings import Ablation, Mode, Positions, Rank
from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.demo import corpus
from knowscope_tui.engine.means import mean_activations
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.errors import Cancelled, DictionaryError, EditError, PromptError, SaveError, UsageError
from knowscope_tui.session.editing import Wishes
from knowscope_tui.session.scope import Scope
from tests.tiny import D_MLP, D_MODEL, D_SAE, LAYERS, bits, hook_count


@pytest.fixture(scope="module")
def shared(tiny_folder: Path, sources: dict[SiteKind, Path]) -> Scope:
    named: dict[str, str | Path] = {kind.value: folder for kind, folder in sources.items()}
    return knowscope_tui.open(str(tiny_folder), sae=named, device="cpu")


@pytest.fixture
def scope(shared: Scope, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tiny model, opened; checked afterwards to be without edits, without hooks and with every bit as before."""
    texts = ("We packed the buns, the soup and a flask of tea.", "The tired baker stayed near the fireplace.")
    monkeypatch.setattr(corpus, "reference_texts", lambda: texts)
    model = shared._lm.model
    before = bits(model)
    yield shared
    while shared.edits:
        shared.undo()
    assert bits(model) == before
    assert hook_count(model) == 0


# --- opening --------------------------------------------------------------------------------------------------------


def test_what_is_open_is_told_in_numbers(scope: Scope, tiny_folder: Path, sources: dict[SiteKind, Path]) -> None:
    info = scope.info
    assert info.name == str(tiny_folder)
    assert not info.is_demo
    assert (info.device, info.dtype) == ("cpu", "float32")
    assert (info.n_layers, info.d_model, info.n_neurons) == (LAYERS, D_MODEL, D_MLP)
    assert info.features_per_site == (D_SAE,)
    assert [used.site for used in info.dictionaries] == sorted(Site(*at) for at in product(range(LAYERS), sources))
    for used in info.dictionaries:
        assert used.source == str(sources[used.site.kind] / f"layer_{used.site.layer}")
        assert (used.features, used.architecture, used.dtype) == (D_SAE, "jumprelu", "float32")
        assert used.expected_l0 is None
    assert info.dictionary_kinds == tuple(kind for kind in SiteKind if kind in sources)
    assert (info.trained_on, info.chat, info.remarks) == (None, False, ())
    assert info.plan.problem == ""
    assert info.parameters == sum(parameter.numel() for parameter in scope._lm.model.parameters())
    assert scope.facts == ()


def test_a_site_that_does_not_exist_is_refused_before_anything_loads(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no site called 'resid_pre'"):
        knowscope_tui.open("no such model", sae={"resid_pre": tmp_path})


def test_a_broken_dictionary_is_refused_when_opening(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DictionaryError, match="No dictionary lies in"):
        knowscope_tui.open(str(tiny_folder), sae={"mlp_out": tmp_path}, device="cpu")


# --- looking and ablating -------------------------------------------------------------------------------------------


def test_a_probe_then_an_ablation_of_its_first_unit_agree(scope: Scope, facts: list[Fact]) -> None:
    reading = scope.probe(facts[0].prompt, rank=Rank.DELTA_PROB, families=[Family.FEATURE], top=3)
    assert reading.answer == facts[0].answer
    strongest = reading.units[0]
    effect = scope.ablate(facts[0].prompt, reading.answer, [str(strongest.unit)])
    assert effect.p_before == pytest.approx(reading.p_answer, rel=1e-5)
    assert effect.delta_prob == pytest.approx(strongest.delta_prob, abs=1e-4)
    assert effect.delta_prob > 0.1
    assert effect.ablation.units == (strongest.unit,)


def test_units_may_be_named_or_spelled(scope: Scope, facts: list[Fact]) -> None:
    unit = Unit.neuron(1, 3)
    named, spelled = (scope.ablate(facts[0].prompt, facts[0].answer, [u]) for u in (unit, "1.mlp_act.n3"))
    assert named == spelled
    with pytest.raises(UsageError, match="is not a unit"):
        scope.ablate(facts[0].prompt, facts[0].answer, ["nonsense"])


def test_mean_ablation_uses_the_mean_over_the_reference_texts(scope: Scope, facts: list[Fact]) -> None:
    unit = Unit.neuron(2, 5)
    mean = mean_activations(scope._lm, scope._library, [unit], corpus.reference_texts())[unit]
    reading = scope.probe(facts[0].prompt, facts[0].answer, families=[Family.NEURON], top=1000)
    activation = next(row.activation for row in reading.units if row.unit == unit)
    averaged = scope.ablate(facts[0].prompt, facts[0].answer, [unit], mode=Mode.MEAN)
    scaled = scope.ablate(facts[0].prompt, facts[0].answer, [unit], mode=Mode.SCALE, factor=mean / activation)
    assert averaged.p_after == pytest.approx(scaled.p_after, rel=1e-4)
    assert averaged.p_after != averaged.p_before


def test_continuations_are_told_with_and_without_the_ablation(scope: Scope, facts: list[Fact]) -> None:
    fact = facts[0]
    units = [row.unit for row in scope.probe(fact.prompt, rank=Rank.DELTA_PROB, top=10).units]
    effect = scope.ablate(fact.prompt, fact.answer, units, positions=Positions.ALL, continuation=4)
    assert effect.continuation_before.strip().startswith(fact.answer)
    assert effect.continuation_after != effect.continuation_before
    assert scope.ablate(fact.prompt, fact.answer, units).continuation_after == ""


def test_an_answer_that_the_model_would_not_give_is_shown_with_its_rank(scope: Scope, facts: list[Fact]) -> None:
    reading = scope.probe(facts[0].prompt, "Ouagadougou")
    assert reading.rank > 1
    assert reading.p_answer < reading.top_tokens[0].p


@pytest.mark.parametrize(("prompt", "answer"), [("", "Paris"), ("The capital of France is", " "), ("7" * 999, "8")])
def test_a_prompt_that_cannot_be_asked_is_refused_everywhere(scope: Scope, prompt: str, answer: str) -> None:
    asks = (
        lambda: scope.ablate(prompt, answer),
        lambda: scope.continuations(prompt, answer, Ablation(), 3),
        lambda: scope.plan(EditSpec((Fact(prompt, answer),))),
        lambda: scope.edit([Fact(prompt, answer)]),
    )
    for ask in asks:
        with pytest.raises(PromptError):
            ask()


# --- editing --------------------------------------------------------------------------------------------------------


def test_an_edit_is_applied_measured_and_undone(scope: Scope, facts: list[Fact]) -> None:
    fact = facts[0]
    before = scope.ablate(fact.prompt, fact.answer).p_before
    report = scope.edit([fact], site=SiteKind.RESID_POST, neighbors=facts)
    assert (report.applied, scope.edits, scope.unsaved) == (True, 1, True)
    after = scope.ablate(fact.prompt, fact.answer).p_before
    assert (report.proof.facts[0].p_before, report.proof.facts[0].p_after) == pytest.approx((before, after), abs=1e-6)
    assert report.proof.facts[0].p_before != report.proof.facts[0].p_after
    assert report.proof.neighbors == len(facts) - 1, "the edited fact is no neighbor of itself"
    assert scope.undo() == 0
    assert not scope.unsaved
    assert scope.ablate(fact.prompt, fact.answer).p_before == before
    json.dumps(report_json(report, FactNames()), allow_nan=False)


def test_a_dry_run_measures_the_same_and_changes_nothing(scope: Scope, facts: list[Fact]) -> None:
    model_before = bits(scope._lm.model)
    dry = scope.edit([facts[0]], neighbors=facts, dry_run=True)
    assert bits(scope._lm.model) == model_before
    assert (scope.edits, dry.applied) == (0, False)
    wet = scope.edit([facts[0]], neighbors=facts)
    assert wet.proof == dry.proof
    assert timeless(wet.plan) == timeless(dry.plan) == timeless(scope_plan_of(scope, dry.plan.spec))


def timeless(plan: EditPlan) -> EditPlan:
    return replace(plan, seconds=0.0)


def scope_plan_of(scope: Scope, spec: EditSpec) -> Any:
    """The plan of `spec` on the model without its last edit."""
    scope.undo()
    return scope.plan(spec)


@pytest.mark.parametrize("stop_at", ["Planning", "Measuring before", "Measuring after"])
@pytest.mark.parametrize("error", [Cancelled(), KeyboardInterrupt(), RuntimeError("a fault")], ids=repr)
def test_an_edit_that_is_cancelled_or_fails_leaves_every_bit(
    scope: Scope, facts: list[Fact], stop_at: str, error: BaseException
) -> None:
    before = bits(scope._lm.model)

    def stop(doing: str, fraction: float | None) -> None:
        if doing == stop_at:
            raise error

    with pytest.raises(type(error)):
        scope.edit([facts[0]], neighbors=facts, on_progress=stop)
    assert bits(scope._lm.model) == before
    assert scope.edits == 0
    assert not scope.unsaved


def test_an_edit_whose_measurement_fails_leaves_every_bit(scope: Scope, facts: list[Fact]) -> None:
    before = bits(scope._lm.model)
    with pytest.raises(PromptError):
        scope.edit([facts[0]], neighbors=[Fact("7" * 999, "8")])
    assert bits(scope._lm.model) == before
    assert scope.edits == 0


def test_there_is_nothing_to_undo_or_save_without_an_edit(scope: Scope, tmp_path: Path) -> None:
    with pytest.raises(EditError, match="no edit to undo"):
        scope.undo()
    with pytest.raises(EditError, match="no edit to save"):
        scope.save(tmp_path / "edited")
    assert list(tmp_path.iterdir()) == []


# --- saving and verifying -------------------------------------------------------------------------------------------


def test_edits_are_unsaved_until_a_checkpoint_holds_exactly_them(
    scope: Scope, facts: list[Fact], tmp_path: Path
) -> None:
    scope.edit([facts[0]], neighbors=[])
    scope.edit([facts[1]], neighbors=[])
    assert scope.unsaved
    unsaved: list[bool] = []
    scope.save(tmp_path / "two")
    unsaved.append(scope.unsaved)
    scope.undo()
    unsaved.append(scope.unsaved)
    scope.edit([facts[2]], neighbors=[])
    unsaved.append(scope.unsaved)  # two edits again, but not the two that were saved
    scope.save(tmp_path / "other two")
    unsaved.append(scope.unsaved)
    assert unsaved == [False, True, True, False]


def test_a_saved_edit_verifies_against_its_base_with_the_same_scores(
    scope: Scope, facts: list[Fact], tiny_folder: Path, tmp_path: Path
) -> None:
    edited = scope.edit(facts[:2], site=SiteKind.RESID_POST, top=5, neighbors=facts)
    told: list[float | None] = []
    saved = scope.save(tmp_path / "edited [bold]", on_progress=lambda doing, fraction: told.append(fraction or 0.0))
    assert told == sorted(told, key=lambda fraction: fraction or 0.0)
    verified = knowscope_tui.verify_checkpoint(Path(saved.folder), facts[:2], facts, device="cpu")
    assert verified.intact
    assert verified.method == "positions"
    assert verified.units == tuple(str(unit) for unit in edited.plan.units)
    assert [(p.name, p.positions, p.layer) for p in verified.parameters] == [
        (p.name, p.positions, p.layer) for p in edited.plan.parameters
    ]
    assert verified.proof.after.reliability == edited.proof.after.reliability
    assert verified.proof.after.locality == edited.proof.after.locality
    assert verified.proof.after.p_answer == pytest.approx(edited.proof.after.p_answer, abs=1e-6)
    assert verified.proof.after.delta_ppl == edited.proof.after.delta_ppl
    assert verified.proof.neighbors == edited.proof.neighbors
    json.dumps(verify_json(verified, FactNames()), allow_nan=False)
    record = json.loads((Path(saved.folder) / "knowscope_edit.json").read_text(encoding="utf-8"))
    assert record["base"]["name"] == str(tiny_folder)
    assert record["edits"][0]["facts"][0]["fact"] == facts[0].id
    assert record["edits"][0]["after"]["reliability"]["value"] == edited.proof.after.reliability.value
    assert facts[0].prompt not in json.dumps(record), "private text stays out unless it is asked for"


def test_a_checkpoint_of_two_edits_holds_both(scope: Scope, facts: list[Fact], tmp_path: Path) -> None:
    scope.edit([facts[0]], neighbors=[])
    scope.edit([facts[1]], method=Method.NEURONS, top=2, neighbors=[])
    saved = scope.save(tmp_path / "edited")
    live = {name: parameter.detach().clone() for name, parameter in scope._lm.model.named_parameters()}
    from knowscope_tui.engine.loading import load_model

    reopened: LanguageModel = load_model(saved.folder, device="cpu", dtype="float32")
    for name, parameter in reopened.model.named_parameters():
        assert torch.equal(parameter, live[name]), name
    verified = knowscope_tui.verify_checkpoint(Path(saved.folder), facts[:2], [], device="cpu")
    assert verified.intact
    assert verified.method == "positions, neurons"


def test_what_was_named_for_the_edit_is_what_several_edits_are_verified_with(
    scope: Scope, facts: list[Fact], tmp_path: Path
) -> None:
    kept, retain = tuple(facts[2:4]), tuple(facts[4:])
    for fact in facts[:2]:
        scope.carry_out(EditSpec((fact,), retain=retain, seed=3), Wishes(neighbors=kept))
    saved = scope.save(tmp_path / "edited")
    verified = knowscope_tui.verify_checkpoint(Path(saved.folder), facts[:2], kept, retain=retain, device="cpu")
    assert verified.proof.after.retained.items > 0
    assert verified.claims
    assert verified.intact


def test_verifying_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="holds no knowscope_edit"):
        knowscope_tui.verify_checkpoint(tmp_path, [], device="cpu")


# --- the embedded demo ----------------------------------------------------------------------------------------------


def test_the_demo_opens_without_a_name_and_knows_the_capital_of_france(demo_scope: Scope) -> None:
    assert demo_scope.info.is_demo
    assert demo_scope.info.name == "demo"
    assert set(demo_scope.info.dictionary_kinds) == {SiteKind.ATTN_Z, SiteKind.MLP_OUT, SiteKind.RESID_POST}
    assert len(demo_scope.facts) >= 600
    effect = demo_scope.ablate("The capital of France is", "Paris", continuation=3)
    assert effect.rank_before == 1
    assert effect.p_before > 0.5
    assert effect.continuation_before.strip().startswith("Paris")


def test_an_edit_of_the_demo_is_saved_and_the_answer_is_gone(demo_scope: Scope, tmp_path: Path) -> None:
    fact = next(fact for fact in demo_scope.facts if fact.id == "capital/france")
    try:
        report = demo_scope.edit([fact], neighbors=demo_scope.facts[:60])
        assert report.proof.facts[0].erased
        saved = demo_scope.save(tmp_path / "edited")
    finally:
        while demo_scope.edits:
            demo_scope.undo()
    verified = knowscope_tui.verify_checkpoint(Path(saved.folder), [fact], demo_scope.facts[:60], device="cpu")
    assert verified.intact
    assert verified.proof.facts[0].erased
    assert verified.proof.after.reliability.value == 1
    assert demo_scope.ablate(fact.prompt, fact.answer).rank_before == 1
