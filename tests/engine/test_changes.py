"""Changes are made and taken back bit for bit, alone, in a journal and in a delta file."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from knowscope_tui.engine import journal as journals
from knowscope_tui.engine.deltas import steps
from knowscope_tui.engine.deltas.change import Change, SparseChange, added, bits, low_rank, make, take_back
from knowscope_tui.engine.deltas.files import read, write
from knowscope_tui.engine.deltas.parts import applied, part_of, reverted
from knowscope_tui.engine.hashes import tensor_sha256
from knowscope_tui.engine.journal import Journal
from knowscope_tui.engine.loading import load_model
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.errors import EditError, SaveError
from tests.tiny import bits as model_bits

NAMES = ("model.layers.0.mlp.down_proj.weight", "model.layers.1.mlp.down_proj.weight")


def sparse(shape: torch.Size, name: str, seed: int) -> SparseChange:
    generator = torch.Generator().manual_seed(seed)
    places = torch.randperm(shape.numel(), generator=generator)[:40].sort().values
    return SparseChange(name, tuple(shape), places, torch.randn(40, generator=generator))


def factors(shape: torch.Size, name: str, seed: int) -> Change:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(shape[0], 3, generator=generator)
    return low_rank(name, left, 0.1 * torch.randn(3, shape[1], generator=generator))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", [sparse, factors])
def test_what_is_made_is_taken_back_bit_for_bit(dtype: torch.dtype, kind: object) -> None:
    base = torch.randn(24, 40, generator=torch.Generator().manual_seed(0)).to(dtype)
    weight = base.clone()
    change = sparse(base.shape, "w", 1) if kind is sparse else factors(base.shape, "w", 1)
    overwritten = make(weight, change)
    assert not torch.equal(weight, base)
    if not isinstance(change, SparseChange):
        assert torch.equal(weight, (base.to(torch.float64) + added(change)).to(dtype))
    take_back(weight, change, overwritten)
    assert torch.equal(bits(weight), bits(base))


@pytest.mark.parametrize("kind", [sparse, factors])
def test_a_delta_file_applies_to_its_base_and_reverts_without_it(tmp_path: Path, kind: object) -> None:
    base = torch.randn(24, 40, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    change = sparse(base.shape, "w", 1) if kind is sparse else factors(base.shape, "w", 1)
    part, edited = part_of(base, change)
    file = tmp_path / "x.delta.safetensors"
    write(file, ["w"], [part], {"base": "b", "method": "positions", "facts": ["f"]})
    back = read(file)
    assert (back.base, back.about["facts"]) == ("b", ["f"])
    assert torch.equal(bits(applied(back.parts[0], base.clone())), bits(edited))
    assert torch.equal(bits(reverted(back.parts[0], edited.clone())), bits(base))
    with pytest.raises(SaveError, match="not the base"):
        applied(back.parts[0], edited.clone())
    with pytest.raises(SaveError, match="not what this edit gave"):
        reverted(back.parts[0], base.clone())
    with pytest.raises(SaveError, match="already exists"):
        write(file, ["w"], [part], {})


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\xff" * 8])
def test_a_broken_delta_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(SaveError, match="no delta file, or a broken one"):
        read(tmp_path / "x")


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_done_to_a_journal_the_weights_are_those_of_the_edits_that_are_on(
    lm: LanguageModel, seed: int
) -> None:
    """Random applying, undoing, redoing and switching, against making what is on over the base, in order."""
    rng = random.Random(seed)
    weights = {name: lm.model.get_parameter(name).detach() for name in NAMES}
    base = {name: weight.clone() for name, weight in weights.items()}
    journal = Journal(lm)
    for step in range(25):
        entries, undone = list(journal), journal.undone
        what = rng.choice(("apply", "undo", "redo", "switch"))
        if what == "apply" or not entries:
            kind = rng.choice((sparse, factors))
            journal.apply([kind(weights[name].shape, name, 100 * seed + step) for name in NAMES])
        elif what == "undo" and len(journal):
            journal.undo()
        elif what == "redo" and undone:
            journal.redo(rng.choice(undone).number)
        else:
            entry = rng.choice(entries)
            journal.switch(entry.number, on=not entry.on)
        expected = {name: weight.clone() for name, weight in base.items()}
        for entry in journal:
            for change in entry.changes if entry.on else ():
                make(expected[change.name], change)
        assert all(same(weights[name], expected[name]) for name in NAMES)
        whole = {name: weight.clone() for name, weight in base.items()}
        for change in journal.total():
            make(whole[change.name], change)
        assert all(same(weights[name], whole[name]) for name in NAMES)
    for entry in journal:
        journal.switch(entry.number, on=False)
    assert all(same(weights[name], base[name]) for name in NAMES)


def same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(bits(one), bits(other))


def test_weights_that_something_else_changed_are_not_edited(lm: LanguageModel) -> None:
    weight = lm.model.get_parameter(NAMES[0]).detach()
    journal = Journal(lm)
    change = sparse(weight.shape, NAMES[0], 0)
    journal.apply([change])
    kept = weight[0, 0].clone()
    weight[0, 0] = 7.0
    with pytest.raises(EditError, match="changed by something else"):
        journal.undo()
    weight[0, 0] = kept
    journal.undo()
    with pytest.raises(EditError, match="no undone edit 9"):
        journal.redo(9)
    with pytest.raises(EditError, match="no edit 5 in the journal"):
        journal.switch(5, on=True)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize("factor", [0, 1])
def test_factors_that_are_not_finite_are_refused(broken: float, factor: int) -> None:
    both = [torch.ones(4, 2), torch.ones(2, 5)]
    both[factor][1, 1] = broken
    with pytest.raises(EditError, match="The edit of w came out as no finite number"):
        low_rank("w", *both)


# --- operations that do not come to their end -----------------------------------------------------------------------

OPERATIONS = {
    "apply": lambda journal, more: journal.apply(more),
    "forget": lambda journal, _more: journal.forget(4),
    "undo": lambda journal, _more: journal.undo(),
    "redo": lambda journal, _more: journal.redo(),
    "switch off": lambda journal, _more: journal.switch(1, on=False),
    "switch on": lambda journal, _more: journal.switch(2, on=True),
}
MOST_CALLS = 60


def busy_journal(lm: LanguageModel) -> Journal:
    """Edits 1 and 4 on, 2 off, 3 undone; sparse and low-rank ones that overlap."""
    journal = Journal(lm)
    for number, kind in enumerate((sparse, factors, factors)):
        journal.apply([kind(lm.model.get_parameter(name).shape, name, 7 * number + 1) for name in NAMES])
    journal.undo()
    journal.switch(2, on=False)
    journal.apply([sparse(lm.model.get_parameter(name).shape, name, 50) for name in NAMES])
    return journal


def breaking(number: int, calls: list[int], whole: Callable[..., Any], *, late: bool) -> Callable[..., Any]:
    """`whole`, interrupted at the call `number` of all that share `calls`: before it, or half done."""

    def broken(weight: Tensor, *words: Any) -> Any:
        calls.append(1)
        if len(calls) != number:
            return whole(weight, *words)
        if late:
            whole(weight, *words)
            weight[::2] = 3.0
        raise KeyboardInterrupt

    return broken


@pytest.mark.parametrize("late", [False, True], ids=["before a step", "in the middle of one"])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_an_operation_that_is_interrupted_leaves_every_bit_and_the_journal(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, operation: Callable[..., Any], late: bool
) -> None:
    journal = busy_journal(lm)
    more = [factors(lm.model.get_parameter(name).shape, name, 99) for name in NAMES]
    before, entries, undone = model_bits(lm.model), list(journal), journal.undone
    for number in range(1, MOST_CALLS):
        calls: list[int] = []
        with monkeypatch.context() as patch:
            # What reverses the steps calls these too, and comes after the interruption.
            patch.setattr(steps, "make", breaking(number, calls, make, late=late))
            patch.setattr(steps, "take_back", breaking(number, calls, take_back, late=late))
            try:
                operation(journal, more)
            except KeyboardInterrupt:
                assert model_bits(lm.model) == before
                assert (list(journal), journal.undone) == (entries, undone)
                continue
        break
    assert 2 <= number - 1 == len(calls) < MOST_CALLS - 1, "every step was interrupted once"
    for entry in journal:
        journal.switch(entry.number, on=False)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_an_operation_that_cannot_hash_what_it_left_leaves_every_bit(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, operation: Callable[..., Any]
) -> None:
    journal = busy_journal(lm)
    more = [factors(lm.model.get_parameter(name).shape, name, 99) for name in NAMES]
    before, entries, undone = model_bits(lm.model), list(journal), journal.undone
    for number in range(1, 2 * len(NAMES) + 1):  # Each parameter is hashed before and after.
        calls: list[int] = []
        with monkeypatch.context() as patch:
            patch.setattr(journals, "tensor_sha256", breaking(number, calls, tensor_sha256, late=False))
            with pytest.raises(KeyboardInterrupt):
                operation(journal, more)
        assert model_bits(lm.model) == before
        assert (list(journal), journal.undone) == (entries, undone)
    for entry in journal:
        journal.switch(entry.number, on=False)


def test_an_edit_that_cannot_be_forgotten_stays_in_the_journal(lm: LanguageModel) -> None:
    weight = lm.model.get_parameter(NAMES[0]).detach()
    journal = Journal(lm)
    number = journal.apply([sparse(weight.shape, NAMES[0], 0)])
    kept = weight[0, 0].clone()
    weight[0, 0] = 7.0
    with pytest.raises(EditError, match="changed by something else"):
        journal.forget(number)
    assert [entry.number for entry in journal] == [number]
    weight[0, 0] = kept
    journal.forget(number)
    assert list(journal) == []


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_that_are_not_those_of_the_files_are_not_edited(tiny_folder: Path, dtype: str) -> None:
    """Also the first time, when the journal has left nothing there."""
    lm = load_model(str(tiny_folder), device="cpu", dtype=dtype)
    weight = lm.model.get_parameter(NAMES[0]).detach()
    kept = weight[1, 2].clone()
    weight[1, 2] = 7.0
    journal = Journal(lm)
    with pytest.raises(EditError, match="changed by something else"):
        journal.apply([sparse(weight.shape, NAMES[0], 0)])
    assert list(journal) == []
    weight[1, 2] = kept
    journal.apply([sparse(weight.shape, NAMES[0], 0)])
