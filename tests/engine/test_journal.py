"""Undo restores every bit, in every dtype and order."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from knowscope_tui.core.edits import EditSpec, Method
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.units import SiteKind
from knowscope_tui.engine.deltas.change import SparseChange
from knowscope_tui.engine.journal import Journal
from knowscope_tui.engine.library import Library, load_library
from knowscope_tui.engine.loading import load_model
from knowscope_tui.engine.methods.plan import ZEROING, plan_edit
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.errors import EditError
from tests.tiny import bits, sparse

NAME = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def opened(
    request: pytest.FixtureRequest, tiny_folder: Path, sources: dict[SiteKind, Path]
) -> tuple[LanguageModel, Library]:
    lm = load_model(str(tiny_folder), device="cpu", dtype=request.param)
    return lm, load_library(lm, sources.items())


@pytest.mark.parametrize("method", ZEROING, ids=lambda method: method.value)
def test_undo_restores_every_bit(opened: tuple[LanguageModel, Library], facts: list[Fact], method: Method) -> None:
    lm, library = opened
    before = bits(lm.model)
    journal = Journal(lm)
    plan, deltas = plan_edit(lm, library, EditSpec((facts[0],), method, top=5))
    journal.apply(deltas)
    after = bits(lm.model)
    assert {name for name in before if before[name] != after[name]} == {p.name for p in plan.parameters}
    journal.undo()
    assert bits(lm.model) == before
    assert not journal


def test_two_edits_are_undone_one_by_one(opened: tuple[LanguageModel, Library], facts: list[Fact]) -> None:
    """The second overlaps the first: what the first wrote comes back before what stood there at the beginning."""
    lm, library = opened
    journal = Journal(lm)
    states = [bits(lm.model)]
    specs = (EditSpec((facts[0],), top=4), EditSpec((facts[1],), Method.ROWS, top=6))
    touched = []
    for spec in specs:
        _plan, deltas = plan_edit(lm, library, spec)
        touched.append({(delta.name, index) for delta in deltas for index in sparse(delta).indices.tolist()})
        journal.apply(deltas)
        states.append(bits(lm.model))
    assert touched[0] & touched[1]
    assert states[0] != states[1] != states[2]
    journal.undo()
    assert bits(lm.model) == states[1]
    assert len(journal) == 1
    journal.undo()
    assert bits(lm.model) == states[0]


def test_the_total_of_several_edits_is_what_stands_in_the_model(
    opened: tuple[LanguageModel, Library],
) -> None:
    lm, _library = opened
    journal = Journal(lm)
    pristine = lm.model.get_parameter(NAME).detach().clone()
    first = SparseChange(NAME, tuple(pristine.shape), torch.tensor([1, 5, 9]), torch.tensor([0.5, 0.25, 0.0]))
    second = SparseChange(NAME, tuple(pristine.shape), torch.tensor([5, 700]), torch.tensor([0.0, -1.0]))
    journal.apply([first])
    journal.apply([second])
    (total,) = journal.total()
    assert total.indices.tolist() == [1, 5, 9, 700]
    assert total.values.tolist() == [0.5, 0.0, 0.0, -1.0]
    assert total.values.dtype is lm.dtype
    rebuilt = pristine.clone()
    rebuilt.view(-1)[total.indices] = total.values
    assert torch.equal(rebuilt, lm.model.get_parameter(NAME))
    journal.undo()
    assert journal.total()[0].indices.tolist() == [1, 5, 9]
    journal.undo()
    assert journal.total() == []
    assert torch.equal(lm.model.get_parameter(NAME), pristine)


def test_there_is_nothing_to_undo_at_the_beginning(lm: LanguageModel) -> None:
    with pytest.raises(EditError, match="no edit to undo"):
        Journal(lm).undo()


def test_an_edit_in_memory_leaves_the_files_that_the_model_is_mapped_from_alone(tiny_folder: Path) -> None:
    lm = load_model(str(tiny_folder), device="cpu", dtype="float32")
    files = {path: path.read_bytes() for path in tiny_folder.glob("*.safetensors")}
    assert str(tiny_folder) in Path("/proc/self/maps").read_text(), "the weights are mapped, which is what is tested"
    shape = tuple(lm.model.get_parameter(NAME).shape)
    Journal(lm).apply([SparseChange(NAME, shape, torch.arange(100), torch.full((100,), 7.0))])
    assert bool((lm.model.get_parameter(NAME).flatten()[:100] == 7).all())
    assert {path: path.read_bytes() for path in files} == files
