"""Encoders on a device: which lie there, in what order they leave, and that it changes no number.

There is no second device in these tests. Book-keeping is tried on PyTorch's `meta` device, which counts bytes and holds
none; values are tried with a pool that copies to `meta` what it counts, and hands out the same numbers from the CPU.
"""

from __future__ import annotations

import random
from collections.abc import Hashable

import pytest
import torch
from torch import Tensor

from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine import dictionary as dictionary_module
from knowscope_tui.engine.dictionary import Dictionary, Spec, make_dictionary
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.residency import EncoderPool

META = torch.device("meta")
CPU = torch.device("cpu")
KILO = 1000


def encoder(size: int = KILO) -> Tensor:
    return torch.zeros(size, dtype=torch.uint8)


def filled(budget: int | None, *names: str) -> EncoderPool:
    pool = EncoderPool(budget)
    for name in names:
        pool.on(name, encoder(), META)
    return pool


# --- book-keeping ---------------------------------------------------------------------------------------------------


def test_what_was_used_least_recently_leaves_first() -> None:
    pool = filled(3 * KILO, "a", "b", "c")
    assert pool.keys == ["a", "b", "c"]
    pool.on("a", encoder(), META)
    assert pool.keys == ["b", "c", "a"]
    pool.on("d", encoder(), META)
    assert pool.keys == ["c", "a", "d"]
    pool.on("e", encoder(2 * KILO), META)
    assert pool.keys == ["d", "e"]


def test_a_copy_is_made_once_and_found_again() -> None:
    pool = EncoderPool()
    mapped = encoder()
    copy = pool.on("a", mapped, META)
    assert copy.device == META
    assert (copy.shape, copy.dtype) == (mapped.shape, mapped.dtype)
    assert pool.on("a", mapped, META) is copy
    assert pool.bytes == KILO


def test_what_lies_on_the_device_already_is_not_copied() -> None:
    pool = EncoderPool(budget=10 * KILO)
    mapped = encoder()
    assert pool.on("a", mapped, CPU) is mapped
    assert (pool.bytes, pool.keys) == (0, [])


@pytest.mark.parametrize("budget", [0, 1, KILO - 1])
def test_what_the_budget_has_no_room_for_is_handed_out_as_it_is_and_drives_nothing_out(budget: int) -> None:
    pool = EncoderPool(budget)
    small, large = encoder(budget), encoder()
    pool.on("small", small, META)
    before = pool.keys
    assert pool.on("large", large, META) is large
    assert pool.keys == before


def test_without_a_budget_nothing_leaves() -> None:
    pool = filled(None, *"abcdefgh")
    assert pool.keys == list("abcdefgh")
    assert pool.bytes == 8 * KILO


def test_an_exact_fit_fits() -> None:
    pool = filled(2 * KILO, "a", "b")
    assert (pool.bytes, pool.keys) == (2 * KILO, ["a", "b"])


def test_whatever_is_asked_for_the_budget_is_never_exceeded_and_the_last_one_asked_for_stays() -> None:
    drawn = random.Random(1)
    sizes = {name: drawn.randint(1, 1500) for name in range(12)}
    pool = EncoderPool(4 * KILO)
    asked: list[int] = []
    for _ in range(400):
        name = drawn.choice(list(sizes))
        asked.append(name)
        assert pool.on(name, encoder(sizes[name]), META).device == META
        assert pool.bytes == sum(sizes[key] for key in pool.keys if isinstance(key, int)) <= 4 * KILO
        # What is left is exactly the most recently asked for, in their order.
        recent = list(dict.fromkeys(reversed(asked)))[: len(pool.keys)]
        assert pool.keys == recent[::-1]


def test_copies_on_two_devices_are_told_apart_and_each_has_the_budget() -> None:
    pool = EncoderPool(budget=2 * KILO)
    mapped = torch.zeros(KILO, dtype=torch.uint8, device=META)
    pool.on("a", encoder(), META)
    copy = torch.zeros(KILO, dtype=torch.uint8)
    pool._copies["a", CPU] = copy
    assert pool.on("a", mapped, CPU) is copy
    assert pool.keys == ["a", "a"]
    pool.on("b", encoder(), META)
    assert (pool.bytes_on(META), pool.bytes_on(CPU)) == (2 * KILO, KILO)
    pool.on("c", encoder(), META)
    assert pool.keys == ["a", "b", "c"], "that on `meta` was used least recently there"
    assert pool.on("a", mapped, CPU) is copy


# --- values ---------------------------------------------------------------------------------------------------------


class SecondDevice(EncoderPool):
    """Counts as if every reader were on another device, and gives it the numbers here. `streamed`: not resident."""

    def __init__(self, budget: int | None = None) -> None:
        super().__init__(budget)
        self.streamed: list[Hashable] = []

    def on(self, key: Hashable, mapped: Tensor, device: torch.device) -> Tensor:
        there = super().on(key, mapped, META)
        assert self.budget is None or self.bytes <= self.budget
        if there is mapped:
            self.streamed.append(key)
            return mapped
        return mapped.clone()


D_IN, D_SAE = 24, 300


def parts(layer: int, dtype: torch.dtype, architecture: str = "jumprelu") -> tuple[Spec, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(layer)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    spec = Spec(Site(layer, SiteKind.RESID_POST), architecture, D_IN, D_SAE, f"random {layer}", k=9)
    tensors = {"encoder": normal(D_SAE, D_IN).to(dtype), "decoder": normal(D_SAE, D_IN).to(dtype)}
    tensors |= {"b_enc": normal(D_SAE), "b_dec": normal(D_IN), "threshold": normal(D_SAE).abs()}
    return spec, tensors


@pytest.fixture(scope="module")
def h() -> Tensor:
    return torch.randn(4, 11, D_IN, generator=torch.Generator().manual_seed(77))


SIZE = D_SAE * D_IN * 2


@pytest.mark.parametrize("budget", [None, 0, SIZE - 1, SIZE, 2 * SIZE + 5, 100 * SIZE])
def test_features_are_the_same_to_the_bit_whatever_the_budget(
    h: Tensor, budget: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dictionary_module, "ROWS_AT_ONCE", 64)
    pool = SecondDevice(budget)
    library = Library([make_dictionary(*parts(layer, torch.bfloat16), pool) for layer in range(5)], pool)
    alone = [make_dictionary(*parts(layer, torch.bfloat16)).encode(h) for layer in range(5)]
    for layer in (0, 1, 2, 0, 3, 4, 1, 0, 0, 2):
        assert torch.equal(library.at(Site(layer, SiteKind.RESID_POST)).encode(h), alone[layer])
    fits = 5 if budget is None else min(5, budget // SIZE)
    assert len(pool.keys) == fits
    assert bool(pool.streamed) == (fits == 0)
    assert (alone[0] > 0).any()


@pytest.mark.parametrize("rows", [1, 7, 299, 300, 2048])
def test_an_encoder_read_in_pieces_has_the_features_of_a_whole_one(
    h: Tensor, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one is that lies elsewhere or in another dtype: a few rows at a time become float32 where they are read."""
    spec, tensors = parts(3, torch.bfloat16)
    upcast = tensors | {name: tensors[name].to(torch.float32) for name in ("encoder", "decoder")}
    whole = make_dictionary(spec, upcast).encode(h)
    monkeypatch.setattr(dictionary_module, "ROWS_AT_ONCE", rows)
    torch.testing.assert_close(make_dictionary(spec, tensors).encode(h), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "topk", "abstopk"])
def test_a_bfloat16_encoder_encodes_exactly_as_its_float32_upcast(h: Tensor, architecture: str) -> None:
    """Nothing is lost but what storing it lost: the products are float32 ones."""
    spec, tensors = parts(2, torch.bfloat16, architecture)
    upcast = tensors | {name: tensors[name].to(torch.float32) for name in ("encoder", "decoder")}
    half, whole = make_dictionary(spec, tensors), make_dictionary(spec, upcast)
    indices = torch.tensor([0, 17, D_SAE - 1])
    f = whole.encode(h)
    p = h @ upcast["encoder"].T + tensors["b_enc"]
    if architecture in ("standard", "jumprelu"):
        assert torch.equal(
            f, torch.where(p > (tensors["threshold"] if architecture == "jumprelu" else 0), p.relu(), 0.0)
        )
    assert f.dtype is torch.float32
    assert torch.equal(half.encode(h), f)
    assert torch.equal(half.encode_some(h, indices), whole.encode_some(h, indices))
    assert torch.equal(half.decode(f, h), whole.decode(f, h))
    ours, theirs = (one.select(indices, h.device) for one in (half, whole))
    assert torch.equal(ours.write(h, f[..., indices]), theirs.write(h, f[..., indices]))
    assert 0 < int((f != 0).sum()) < f.numel()


def test_a_few_features_and_the_decoder_are_read_by_their_rows_and_bring_no_encoder_to_the_device(h: Tensor) -> None:
    pool = SecondDevice()
    dictionary = Dictionary(*parts(1, torch.float32), pool)
    indices = torch.tensor([4, 2])
    z = dictionary.encode_some(h, indices)
    dictionary.select(indices, h.device).write(h, z)
    dictionary.decode(torch.eye(D_SAE), torch.zeros(D_SAE, D_IN))
    assert pool.keys == []
    dictionary.encode(h)
    assert pool.keys == [dictionary.site]
