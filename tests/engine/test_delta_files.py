"""Delta files: written and read part by part, of one base, and told from what else is called safetensors."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from knowscope_tui.engine.deltas.change import SparseChange, bits, low_rank
from knowscope_tui.engine.deltas.compare import merge
from knowscope_tui.engine.deltas.files import as_bytes, for_model, read, write
from knowscope_tui.engine.deltas.parts import Delta, DeltaPart, applied, part_of, reverted
from knowscope_tui.engine.loading import load_model
from knowscope_tui.engine.saving.identity import FINGERPRINT
from knowscope_tui.errors import SaveError

SHAPE = (24, 41)


def tensor(seed: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)).to(dtype)


def sparse_part(name: str, seed: int, count: int = 7, dtype: torch.dtype = torch.bfloat16) -> DeltaPart:
    places = torch.randperm(SHAPE[0] * SHAPE[1], generator=torch.Generator().manual_seed(seed))[:count].sort().values
    return part_of(tensor(0, dtype), SparseChange(name, SHAPE, places, torch.full((count,), float(seed))))[0]


def dense_part(name: str, seed: int, dtype: torch.dtype = torch.bfloat16) -> DeltaPart:
    generator = torch.Generator().manual_seed(seed)
    left, right = torch.randn(SHAPE[0], 2, generator=generator), torch.randn(2, SHAPE[1], generator=generator)
    return part_of(tensor(0, dtype), low_rank(name, left, right))[0]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "x.delta.safetensors"


# --- part by part ---------------------------------------------------------------------------------------------------


def test_one_part_is_in_memory_at_a_time(file: Path) -> None:
    names = [f"layers.{number}.weight" for number in range(6)]
    alive: list[weakref.ref[Tensor]] = []

    def parts() -> Iterator[DeltaPart]:
        for number, name in enumerate(names):
            assert not any(own() is not None for own in alive)
            part = (sparse_part if number % 2 else dense_part)(name, number)
            alive.extend(weakref.ref(own) for own in vars(part.overwritten).values())
            yield part
            del part

    write(file, names, parts(), {"base": "b"})
    assert len(alive) == 2 * len(names)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("count", [0, 1, 7, 8])
def test_what_is_written_is_read_by_us_and_by_safetensors(file: Path, dtype: torch.dtype, count: int) -> None:
    """Whatever the sizes: the format asks for no alignment, and readers cope with none."""
    parts = [sparse_part("a", 1, count, dtype), dense_part("b", 2, dtype), sparse_part("c", 3, count + 1, dtype)]
    write(file, [part.name for part in parts], parts, {"base": "ä", "facts": ["x"] * 50})
    back = read(file)
    assert [(part.name, part.shape, part.dtype) for part in back.parts] == [
        (name, SHAPE, str(dtype).removeprefix("torch.")) for name in "abc"
    ]
    assert back.about == {"base": "ä", "facts": ["x"] * 50}
    plain = load_file(file)
    for ours, theirs in zip(parts, back.parts, strict=True):
        edited = applied(theirs, tensor(0, dtype))
        assert torch.equal(bits(edited), bits(applied(ours, tensor(0, dtype))))
        assert torch.equal(bits(reverted(theirs, edited)), bits(tensor(0, dtype)))
        last = "before" if isinstance(theirs.change, SparseChange) else "kept_values"
        assert torch.equal(bits(plain[f"{ours.name}.{last}"]), bits(ours.overwritten.values))
    with safe_open(file, framework="pt") as opened:
        assert opened.metadata()["format"] == "pt"
    assert file.read_bytes() == as_bytes(back)


def test_a_part_that_was_not_announced_leaves_no_file(file: Path) -> None:
    with pytest.raises(ValueError, match="not announced"):
        write(file, [], [sparse_part("a", 1)], {})
    assert list(file.parent.iterdir()) == []


def test_a_file_that_goes_away_after_it_was_read_is_one_sentence(file: Path) -> None:
    write(file, ["a"], [sparse_part("a", 1)], {})
    back = read(file)
    file.unlink()
    with pytest.raises(SaveError, match="no delta file, or a broken one"):
        _ = back.parts[0].change


# --- what is no delta -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["W_enc", "W_dec", "b_enc"], "a dictionary"),
        (["w_enc", "w_dec"], "a dictionary"),
        (["model.layers.0.mlp.down_proj.weight"], "a model's weights"),
        (["base.layers.0.q_proj.lora_A.weight"], "a LoRA adapter"),
        (["x"], "other tensors"),
    ],
)
def test_another_safetensors_file_is_said_to_be_what_it_is(file: Path, names: list[str], kind: str) -> None:
    save_file({name: torch.zeros(2) for name in names}, file)
    with pytest.raises(SaveError) as failed:
        read(file)
    assert failed.value.what == f"{str(file)!r} holds {kind}, not an edit."
    assert failed.value.hint == "Name a file that ends in .delta.safetensors."


def test_a_delta_is_not_written_under_the_name_of_weights(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="no name of an edit by itself"):
        write(tmp_path / "model.safetensors", ["a"], [sparse_part("a", 1)], {})
    assert list(tmp_path.iterdir()) == []


# --- another base ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [sparse_part, dense_part])
def test_a_base_in_another_dtype_is_said_to_be_one(make: Callable[[str, int], DeltaPart]) -> None:
    with pytest.raises(SaveError) as failed:
        applied(make("w", 1), tensor(0, torch.float32))
    assert failed.value.what == "w is float32, and the edit was made for bfloat16."
    assert "--base" in failed.value.hint


def test_a_model_opened_in_another_dtype_is_told_how_to_open_it(tiny_folder: Path, file: Path) -> None:
    name = "model.layers.0.mlp.down_proj.weight"
    models = {dtype: load_model(str(tiny_folder), device="cpu", dtype=dtype).model for dtype in ("float32", "bfloat16")}
    weight = models["bfloat16"].get_parameter(name).detach()
    change = SparseChange(name, tuple(weight.shape), torch.tensor([3]), torch.tensor([0.5]))
    write(file, [name], [part_of(weight, change)[0]], {})
    with pytest.raises(SaveError) as failed:
        for_model(models["float32"], read(file))
    assert failed.value.what == f"{name} is float32, and the edit was made for bfloat16."
    assert failed.value.hint == "Open the model with --dtype bfloat16."
    assert [change.name for change in for_model(models["bfloat16"], read(file))] == [name]


# --- merged ---------------------------------------------------------------------------------------------------------


def delta_of(name: str, seed: int, base: str, fingerprint: str | None) -> Delta:
    return Delta((sparse_part(name, seed),), {"base": base} | ({FINGERPRINT: fingerprint} if fingerprint else {}))


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (("a", "1"), ("a", "1"), None),
        (("a", "1"), ("b", "1"), None),
        (("a", None), ("a", "1"), None),
        (("a", "1"), ("a", "2"), "The edits were made for different bases: other weights under the name 'a'."),
        (("a", "1"), ("b", "2"), "The edits were made for different bases: 'a' and 'b'."),
        (("a", None), ("b", None), "The edits were made for different bases: 'a' and 'b'."),
        (("a", None), ("b", "1"), "The edits were made for different bases: 'a' and 'b'."),
    ],
)
def test_edits_of_different_bases_are_not_merged_even_where_they_touch_nothing_in_common(
    one: tuple[str, str | None], other: tuple[str, str | None], said: str | None
) -> None:
    deltas = [delta_of("x", 1, *one), delta_of("y", 2, *other)]
    if said is None:
        assert [part.name for part in merge(deltas, later_wins=False).parts] == ["x", "y"]
        return
    with pytest.raises(SaveError) as failed:
        merge(deltas, later_wins=False)
    assert failed.value.what == said


def test_a_merged_part_that_clashes_leaves_no_file(file: Path) -> None:
    merged = merge([delta_of("x", seed, "a", "1") for seed in (1, 1)], later_wins=False)
    assert torch.equal(merged.parts[0].change.indices, sparse_part("x", 1).change.indices)  # type: ignore[union-attr]
    whole = Delta((sparse_part("x", 1, 984),), {"base": "a"}), Delta((sparse_part("x", 2, 984),), {"base": "a"})
    merged = merge(whole, later_wins=False)
    with pytest.raises(SaveError, match=r"set 984 entries of x differently"):
        write(file, ["x"], merged.parts, {})
    assert list(file.parent.iterdir()) == []
    write(file, ["x"], merge(whole, later_wins=True).parts, {})
    assert bool((read(file).parts[0].change.values == 2).all())  # type: ignore[union-attr]
