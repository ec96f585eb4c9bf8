"""Dictionaries in a person's own folders: Gemma Scope 2's layout, npz files that are converted, several folders."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.library import Library, load_library
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.shelf import converted, folders
from knowscope_tui.errors import DictionaryError
from knowscope_tui.session import shelf
from tests.tiny import D_MODEL, D_SAE, random_sae, write_params, write_sae_lens

RESID, MLP, ATTN = SiteKind.RESID_POST, SiteKind.MLP_OUT, SiteKind.ATTN_Z
SITE = Site(1, RESID)
D_Z = 48


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of each test's own; the folder of converted dictionaries in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "knowscope-tui" / "dictionaries"


@pytest.fixture(scope="module")
def h() -> Tensor:
    return 2 * torch.randn(60, D_MODEL, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def tensors(h: Tensor) -> dict[str, Tensor]:
    return random_sae(h, seed=11)


def write_gemma_scope_2(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None) -> Path:
    """One dictionary as Gemma Scope 2 is published: lower-case names, and its configuration beside it."""
    folder.mkdir(parents=True)
    lower = {name.replace("W_", "w_"): tensor.contiguous() for name, tensor in tensors.items()}
    save_file(lower, folder / "params.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder / "params.safetensors"


def published_config(layer: int, hook: str = "output", **more: Any) -> dict[str, Any]:
    """What stands in the config.json of Gemma Scope 2."""
    return {
        "hf_hook_point_in": f"model.layers.{layer}.{hook}",
        "hf_hook_point_out": f"model.layers.{layer}.{hook}",
        "width": D_SAE,
        "model_name": "gemma-v3-1b-pt",
        "architecture": "jump_relu",
        "l0": 20,
        "type": "sae",
        **more,
    }


def load(lm: LanguageModel, *named: tuple[SiteKind, Path], sae_dtype: str = "float32") -> Library:
    return load_library(lm, named, sae_dtype=sae_dtype)


def refused(lm: LanguageModel, *named: tuple[SiteKind, Path]) -> str:
    with pytest.raises(DictionaryError) as failed:
        load(lm, *named)
    assert failed.value.hint
    assert "\n" not in str(failed.value)
    return failed.value.what


# --- Gemma Scope 2 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [None, published_config(1)], ids=["without config.json", "with config.json"])
def test_gemma_scope_2_is_read_as_sae_lenss_layout_of_the_same_numbers(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], h: Tensor, config: dict[str, Any] | None
) -> None:
    write_gemma_scope_2(tmp_path / "second" / "layer_1_width_40_l0_small", tensors, config)
    write_sae_lens(tmp_path / "lens" / "layer_1", tensors, SITE)
    ours, lens = (load(lm, (RESID, tmp_path / name)).at(SITE) for name in ("second", "lens"))
    f = ours.encode(h)
    assert torch.equal(f, lens.encode(h))
    assert torch.equal(ours.decode(f, h), lens.decode(f, h))
    assert (f > 0).any()


def test_it_is_mapped_as_it_lies_and_never_converted(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], store: Path
) -> None:
    write_gemma_scope_2(tmp_path / "layer_1", tensors, published_config(1))
    load(lm, (RESID, tmp_path))
    assert not store.exists()


@pytest.mark.parametrize(
    ("hook", "kind"),
    [("output", RESID), ("self_attn.o_proj.input", ATTN), ("post_feedforward_layernorm.output", MLP)],
)
def test_its_configuration_says_the_site_whatever_the_folder_is_called(
    lm: LanguageModel, tmp_path: Path, h: Tensor, hook: str, kind: SiteKind
) -> None:
    numbers = random_sae(torch.randn(50, D_Z if kind is ATTN else D_MODEL), seed=4)
    write_gemma_scope_2(tmp_path / "any name", numbers, published_config(2, hook))
    assert load(lm, (kind, tmp_path)).sites == [Site(2, kind)]
    assert load(lm, (kind, tmp_path)).at(Site(2, kind)).spec.model == "gemma-v3-1b-pt"
    other = MLP if kind is RESID else RESID
    assert refused(lm, (other, tmp_path)).endswith(f"reads {kind}, not {other}.")


def test_without_a_configuration_the_folder_says_the_layer(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    write_gemma_scope_2(tmp_path / "resid_post" / "layer_2_width_16k_l0_small", tensors)
    assert load(lm, (RESID, tmp_path)).sites == [Site(2, RESID)]
    write_gemma_scope_2(tmp_path / "other" / "nowhere", tensors)
    assert refused(lm, (RESID, tmp_path / "other")).startswith("The layer of the dictionary ")


@pytest.mark.parametrize("config", [b"", b"{", b"[1]", b"\xff"])
def test_a_configuration_that_is_no_json_object_is_refused(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], config: bytes
) -> None:
    write_gemma_scope_2(tmp_path / "layer_1", tensors)
    (tmp_path / "layer_1" / "config.json").write_bytes(config)
    refused(lm, (RESID, tmp_path))


@pytest.mark.parametrize("hook", [7, None, ["x"], "model.layers.x.output", "model.layers.1.nonsense"])
def test_a_hook_that_means_nothing_leaves_the_layer_to_the_folder(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], hook: Any
) -> None:
    write_gemma_scope_2(tmp_path / "layer_1", tensors, {"hf_hook_point_in": hook, "model_name": 3})
    library = load(lm, (RESID, tmp_path))
    assert library.sites == [SITE]
    assert library.at(SITE).spec.model is None


def test_a_transcoder_is_refused(lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    skip = torch.zeros(D_MODEL, D_MODEL)
    write_gemma_scope_2(tmp_path / "one" / "layer_1", tensors | {"affine_skip_connection": skip})
    write_gemma_scope_2(tmp_path / "transcoder" / "layer_1", tensors)
    for name in ("one", "transcoder"):
        assert refused(lm, (RESID, tmp_path / name)).endswith("is a transcoder: it reads one site and writes another.")


@pytest.mark.parametrize("kept", [0, 5, 100, -10])
def test_a_truncated_file_is_refused(lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], kept: int) -> None:
    file = write_gemma_scope_2(tmp_path / "layer_1", tensors)
    file.write_bytes(file.read_bytes()[:kept])
    assert refused(lm, (RESID, tmp_path)).startswith("Cannot read the dictionary ")


# --- npz ------------------------------------------------------------------------------------------------------------


def test_an_npz_is_converted_once_and_mapped_from_then_on(
    lm: LanguageModel,
    tmp_path: Path,
    tensors: dict[str, Tensor],
    h: Tensor,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = write_params(tmp_path / "layer_1" / "width_40" / "average_l0_13", tensors)
    first = load(lm, (RESID, tmp_path)).at(SITE)
    (copy,) = store.glob("*/*.safetensors")
    told = converted.open_(copy)
    assert told.spec.source == str(file.parent)
    assert told.spec.expected_l0 == 13

    def never(path: Path, kind: SiteKind) -> None:
        raise AssertionError("the npz was read again")

    monkeypatch.setattr(folders, "read", never)
    again = load(lm, (RESID, tmp_path)).at(SITE)
    assert torch.equal(again.encode(h), first.encode(h))
    assert again.spec == first.spec
    assert list(store.glob("*/*.safetensors")) == [copy]


def test_an_npz_that_has_changed_is_converted_again(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], h: Tensor, store: Path
) -> None:
    """Also where its size is the same, as it is for one SAE trained a little longer."""
    file = write_params(tmp_path / "layer_1", tensors)
    before = load(lm, (RESID, tmp_path)).at(SITE).encode(h)
    state = file.stat()
    changed = {**tensors, "W_enc": -tensors["W_enc"]}
    np.savez(file, **{name: tensor.numpy() for name, tensor in changed.items()})  # type: ignore[arg-type]
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert file.stat().st_size == state.st_size
    after = load(lm, (RESID, tmp_path)).at(SITE).encode(h)
    assert not torch.equal(after, before)
    p = h @ changed["W_enc"] + changed["b_enc"]
    torch.testing.assert_close(after, torch.where((p > changed["threshold"]) & (p > 0), p, 0.0), rtol=1e-5, atol=1e-5)
    assert len(list(store.glob("*/*.safetensors"))) == 2


@pytest.mark.parametrize("sae_dtype", ["float32", "bfloat16"])
def test_an_npz_is_kept_in_the_dtype_that_was_asked_for_each_for_itself(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], sae_dtype: str
) -> None:
    write_params(tmp_path / "layer_1", tensors)
    other = "bfloat16" if sae_dtype == "float32" else "float32"
    load(lm, (RESID, tmp_path), sae_dtype=other)
    dictionary = load(lm, (RESID, tmp_path), sae_dtype=sae_dtype).at(SITE)
    assert dictionary.dtype == sae_dtype
    assert torch.equal(dictionary.decoder, tensors["W_dec"].to(converted.DTYPES[sae_dtype]))
    assert {entry.dtype for entry in shelf.cached()} == {"float32", "bfloat16"}


def test_one_npz_may_be_named_for_another_kind_of_site(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    """Nothing in it says what it reads: who names it does, each time."""
    write_params(tmp_path / "layer_1", tensors)
    for kind in (RESID, MLP, SiteKind.RESID_MID, RESID):
        assert load(lm, (kind, tmp_path)).sites == [Site(1, kind)]


def test_a_copy_that_is_broken_is_told_with_what_removes_it_and_made_again(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], store: Path
) -> None:
    write_params(tmp_path / "layer_1", tensors)
    load(lm, (RESID, tmp_path))
    (copy,) = store.glob("*/*.safetensors")
    copy.write_bytes(copy.read_bytes()[:-5])
    assert refused(lm, (RESID, tmp_path)) == f"The converted dictionary {str(copy)!r} is broken."
    shelf.prune_cache(broken=True)
    assert load(lm, (RESID, tmp_path)).sites == [SITE]


def test_a_pickled_npz_is_refused_and_leaves_nothing_in_the_cache(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], store: Path
) -> None:
    """That none of it runs is shown in test_dictionary."""
    file = write_params(tmp_path / "layer_1", tensors)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    arrays["b_enc"] = np.array([{"an": "object"}], dtype=object)
    np.savez(file, **arrays)  # type: ignore[arg-type]
    assert "pickled objects, which are never loaded" in refused(lm, (RESID, tmp_path))
    assert [path for path in store.rglob("*") if path.is_file() and path.parent.name != ".locks"] == []


# --- several folders ------------------------------------------------------------------------------------------------


def test_several_folders_for_one_kind_are_merged_whatever_their_layout(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], h: Tensor
) -> None:
    write_sae_lens(tmp_path / "a" / "layer_0", tensors, Site(0, RESID))
    write_params(tmp_path / "b" / "layer_1", tensors)
    write_gemma_scope_2(tmp_path / "c" / "layer_2", tensors)
    write_sae_lens(tmp_path / "d" / "layer_2", tensors, Site(2, MLP))
    named = [(RESID, tmp_path / name) for name in "abc"]
    library = load(lm, *named, (MLP, tmp_path / "d"))
    assert library.sites == [Site(0, RESID), Site(1, RESID), Site(2, MLP), Site(2, RESID)]
    assert [library.at(site).source for site in library.sites] == [
        str(tmp_path / place) for place in ("a/layer_0", "b/layer_1", "d/layer_2", "c/layer_2")
    ]
    first = library.at(Site(0, RESID)).encode(h)
    for layer in (1, 2):
        torch.testing.assert_close(library.at(Site(layer, RESID)).encode(h), first, rtol=0, atol=1e-6)


def test_two_dictionaries_for_one_site_are_refused_naming_both(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    """In one folder, in two, and whatever their layouts."""
    write_sae_lens(tmp_path / "a" / "layer_1", tensors, SITE)
    write_gemma_scope_2(tmp_path / "b" / "layer_1", tensors)
    one, other = str(tmp_path / "a" / "layer_1"), str(tmp_path / "b" / "layer_1")
    what = f"Two dictionaries for {SITE} were named: {one!r} and {other!r}."
    assert refused(lm, (RESID, tmp_path / "a"), (RESID, tmp_path / "b")) == what
    assert refused(lm, (RESID, tmp_path)) == what


def test_one_of_the_folders_that_is_missing_is_named(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    write_sae_lens(tmp_path / "a" / "layer_1", tensors, SITE)
    what = refused(lm, (RESID, tmp_path / "a"), (RESID, tmp_path / "none"))
    assert what == f"There is no dictionary folder {str(tmp_path / 'none')!r}."


def test_nothing_named_is_a_library_with_nothing_in_it(lm: LanguageModel) -> None:
    library = load(lm)
    assert (len(library), library.sites, library.kinds) == (0, [], [])


def test_a_folder_that_was_moved_is_read_where_it_lies_now(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    write_params(tmp_path / "here" / "layer_1", tensors)
    load(lm, (RESID, tmp_path / "here"))
    shutil.copytree(tmp_path / "here", tmp_path / "there", copy_function=shutil.copy2)
    shutil.rmtree(tmp_path / "here")
    assert load(lm, (RESID, tmp_path / "there")).at(SITE).source == str(tmp_path / "there" / "layer_1")
