"""What a scope keeps between questions is of the model and the dictionaries as they stand: after an edit, its undo and
other dictionaries every number is that of a scope that was opened just then, and that of the plain path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import knowscope_tui
from knowscope_tui.core.dictionaries import DictionarySource
from knowscope_tui.core.edits import Method
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.readings import Ablation, Mode, Rank
from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.demo import corpus
from knowscope_tui.engine.ablate import measure_ablation
from knowscope_tui.engine.means import mean_activations
from knowscope_tui.session.scope import Scope
from tests.tiny import LAYERS, bits, hook_count

UNITS = (
    Unit.neuron(LAYERS - 1, 5),
    Unit(Site(LAYERS - 1, SiteKind.MLP_OUT), Family.FEATURE, 3),
    Unit(Site(LAYERS - 1, SiteKind.RESID_MID), Family.FEATURE, 8),
)
MORE = (*UNITS, *(Unit(Site(LAYERS - 1, SiteKind.RESID_MID), Family.FEATURE, index) for index in range(0, 40, 4)))
TOKENS = 5
Numbers = dict[str, object]


@pytest.fixture
def scope(tiny_folder: Path, sources: dict[SiteKind, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Scope]:
    """The tiny model, opened, and checked afterwards to be whole."""
    texts = ("We packed the buns, the soup and a flask of tea.", "The tired baker stayed near the fireplace.")
    monkeypatch.setattr(corpus, "reference_texts", lambda: texts)
    named: dict[str, str | Path] = {kind.value: folder for kind, folder in sources.items()}
    opened = knowscope_tui.open(str(tiny_folder), sae=named, device="cpu")
    before = bits(opened._lm.model)
    yield opened
    while opened.edits:
        opened.undo()
    assert bits(opened._lm.model) == before
    assert hook_count(opened._lm.model) == 0


@pytest.fixture
def others(sources: dict[SiteKind, Path], tmp_path: Path) -> list[DictionarySource]:
    """Other dictionaries for the same sites: each feature's number is another's, and all write twice as much."""
    for kind, folder in sources.items():
        for layer in range(LAYERS):
            there, here = folder / f"layer_{layer}", tmp_path / kind.value / f"layer_{layer}"
            here.mkdir(parents=True)
            (here / "cfg.json").write_bytes((there / "cfg.json").read_bytes())
            tensors = load_file(there / "sae_weights.safetensors")
            rolled = {name: tensors[name].roll(1, dims=-1) for name in ("W_enc", "b_enc", "threshold")}
            rolled["W_dec"] = 2 * tensors["W_dec"].roll(1, dims=0)
            save_file(
                {name: tensor.contiguous() for name, tensor in {**tensors, **rolled}.items()},
                here / "sae_weights.safetensors",
            )
    return [DictionarySource(str(tmp_path / kind.value), kind) for kind in sources]


def anew(scope: Scope) -> Scope:
    """The same model and dictionaries as they stand, with nothing known of them."""
    return Scope(scope._lm, scope._library, (), scope._prepared)


def numbers(scope: Scope, fact: Fact) -> dict[str, Numbers]:
    """What a scope says of a fact by each of its ways, kept or not."""
    means = {str(unit): scope.ablate(fact.prompt, fact.answer, [unit], mode=Mode.MEAN).p_after for unit in UNITS}
    live = scope.ablate(fact.prompt, fact.answer, MORE, continuation=TOKENS)
    reading = scope.probe(fact.prompt, fact.answer, rank=Rank.DELTA_PROB, top=30, neuron_seconds=60)
    swept = {
        str(effect.unit): effect.p_after
        for part in scope.sweep(fact.prompt, fact.answer, given=UNITS, neuron_seconds=60)
        for effect in part.effects
    }
    return {
        "means": dict(means),
        "live": {"p_before": live.p_before, "p_after": live.p_after},
        "probe": {"p": reading.p_answer, **{str(row.unit): row.delta_prob for row in reading.units}},
        "attribution": {str(row.unit): row.attribution for row in reading.units},
        "sweep": dict(swept),
        "said": {"before": live.continuation_before, "after": live.continuation_after},
    }


def assert_plain(scope: Scope, fact: Fact, found: dict[str, Numbers]) -> None:
    """`found` is what hooks on the whole model say as it stands."""
    lm, library = scope._lm, scope._library
    question = lm.ask(fact.prompt, fact.answer)
    for unit in UNITS:
        means = mean_activations(lm, library, [unit], corpus.reference_texts())
        effect = measure_ablation(lm, library, question, Ablation((unit,), Mode.MEAN), means=means)
        assert found["means"][str(unit)] == pytest.approx(effect.p_after, rel=2e-4)
    swept = [Unit.parse(name) for name in found["sweep"]]
    assert len(swept) > 30
    for unit in swept[::9]:
        together = measure_ablation(lm, library, question, Ablation((*UNITS, unit)))
        assert found["sweep"][str(unit)] == pytest.approx(together.p_after, rel=2e-4)
    assert found["live"]["p_after"] == pytest.approx(
        measure_ablation(lm, library, question, Ablation(MORE)).p_after, rel=2e-4
    )
    for name in [name for name in found["probe"] if name != "p"][::6]:
        alone = measure_ablation(lm, library, question, Ablation((Unit.parse(name),)))
        assert found["probe"][name] == pytest.approx(alone.delta_prob, abs=2e-4)


def alike(some: dict[str, Numbers], others: dict[str, Numbers], what: str) -> bool:
    """Whether two scopes say the same, to float32's accuracy."""
    if what == "said":
        return some[what] == others[what]
    return some[what].keys() == others[what].keys() and some[what] == pytest.approx(others[what], rel=1e-5, abs=1e-9)


NUMBERS = ("means", "live", "probe", "attribution", "sweep")


def assert_alike(some: dict[str, Numbers], others: dict[str, Numbers]) -> None:
    assert [what for what in some if not alike(some, others, what)] == []


def mean_of(scope: Scope, unit: Unit) -> float:
    return mean_activations(scope._lm, scope._library, [unit], corpus.reference_texts())[unit]


def test_after_an_edit_and_after_its_undo_nothing_that_was_known_is_said(scope: Scope, facts: list[Fact]) -> None:
    fact = facts[0]
    first, means = numbers(scope, fact), [mean_of(scope, unit) for unit in UNITS]
    assert_plain(scope, fact, first)
    scope.edit([fact], method=Method.POSITIONS, site=SiteKind.RESID_POST, neighbors=[])
    edited = numbers(scope, fact)
    assert_alike(edited, numbers(anew(scope), fact))
    assert_plain(scope, fact, edited)
    # Whatever were kept from before the edit would be seen.
    assert [what for what in NUMBERS if alike(edited, first, what)] == []
    assert edited["said"] != first["said"]
    assert all(abs(mean_of(scope, unit) - mean) > 1e-3 for unit, mean in zip(UNITS, means, strict=True))
    scope.undo()
    assert_alike(numbers(scope, fact), first)
    assert_alike(numbers(anew(scope), fact), first)


def test_a_dry_run_of_an_edit_leaves_every_number(scope: Scope, facts: list[Fact]) -> None:
    fact = facts[0]
    first = numbers(scope, fact)
    scope.edit([fact], neighbors=[], dry_run=True)
    assert_alike(numbers(scope, fact), first)
    assert_alike(numbers(anew(scope), fact), first)


def test_with_other_dictionaries_nothing_that_was_known_of_the_former_is_said(
    scope: Scope, facts: list[Fact], sources: dict[SiteKind, Path], others: list[DictionarySource]
) -> None:
    fact = facts[0]
    first = numbers(scope, fact)
    scope.use(others)
    found = numbers(scope, fact)
    assert_alike(found, numbers(anew(scope), fact))
    assert_plain(scope, fact, found)
    assert [what for what in NUMBERS if alike(found, first, what)] == []
    scope.use([DictionarySource(str(folder), kind) for kind, folder in sources.items()])
    assert_alike(numbers(scope, fact), first)
