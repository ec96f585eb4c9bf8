"""Dictionaries: two layouts, one SAE; and every way a file can be wrong, in one clear sentence each."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.dictionary import Dictionary
from knowscope_tui.engine.library import Library, load_library
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.errors import DictionaryError, UsageError
from tests.tiny import D_MODEL, D_SAE, DICTIONARY_KINDS, LAYERS, random_sae, write_params, write_sae_lens

KIND = SiteKind.RESID_POST
SITE = Site(1, KIND)


@pytest.fixture(scope="module")
def h() -> Tensor:
    """Some activations, (n, d_model)."""
    return 2 * torch.randn(200, D_MODEL, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def tensors(h: Tensor) -> dict[str, Tensor]:
    return random_sae(h, seed=11)


def load(lm: LanguageModel, folder: Path, kind: SiteKind = KIND) -> Library:
    return load_library(lm, [(kind, folder)], sae_dtype="float32")


def refused(lm: LanguageModel, folder: Path, kind: SiteKind = KIND) -> str:
    """The one sentence that `folder` is refused with."""
    with pytest.raises(DictionaryError) as failed:
        load(lm, folder, kind)
    assert failed.value.hint
    assert "\n" not in str(failed.value)
    return failed.value.what


# --- what is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("centred", [False, True])
def test_encoding_and_decoding_are_sae_lenss_own(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], h: Tensor, centred: bool
) -> None:
    """Also where `b_dec` is subtracted from the input first, which is folded into `b_enc` here."""
    from sae_lens import SAE

    write_sae_lens(tmp_path / "layer_1", tensors, SITE, apply_b_dec_to_input=centred)
    ours = load(lm, tmp_path).at(SITE)
    theirs = SAE.load_from_disk(tmp_path / "layer_1", device="cpu")
    f = ours.encode(h)
    with torch.no_grad():
        torch.testing.assert_close(f, theirs.encode(h), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.decode(f, h), theirs.decode(f), rtol=1e-5, atol=1e-5)
    assert 0.1 < float((f > 0).float().mean()) < 0.6


def test_without_the_key_the_input_is_centred_as_sae_lens_does(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], h: Tensor
) -> None:
    from sae_lens import SAE

    write_sae_lens(tmp_path / "layer_1", tensors, SITE, apply_b_dec_to_input=None)
    theirs = SAE.load_from_disk(tmp_path / "layer_1", device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(load(lm, tmp_path).at(SITE).encode(h), theirs.encode(h), rtol=1e-5, atol=1e-5)


def test_a_plain_relu_dictionary_is_one_with_threshold_zero(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], h: Tensor
) -> None:
    from sae_lens import SAE

    plain = {name: tensor for name, tensor in tensors.items() if name != "threshold"}
    write_sae_lens(tmp_path / "layer_1", plain, SITE, architecture="standard")
    theirs = SAE.load_from_disk(tmp_path / "layer_1", device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(load(lm, tmp_path).at(SITE).encode(h), theirs.encode(h), rtol=1e-5, atol=1e-5)


def test_both_layouts_of_one_sae_give_identical_features(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], h: Tensor
) -> None:
    write_sae_lens(tmp_path / "sae_lens" / "layer_1", tensors, SITE)
    write_params(tmp_path / "gemma_scope" / "layer_1" / "width_40" / "average_l0_13", tensors)
    one, other = load(lm, tmp_path / "sae_lens").at(SITE), load(lm, tmp_path / "gemma_scope").at(SITE)
    f = one.encode(h)
    torch.testing.assert_close(f, other.encode(h), rtol=0, atol=1e-6)
    assert torch.equal(f > 0, other.encode(h) > 0)
    assert torch.equal(one.encoder, other.encoder)
    assert torch.equal(one.decode(f, h), other.decode(f, h))


def test_a_feature_fires_exactly_above_its_threshold_and_zero(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], h: Tensor
) -> None:
    lowered = {**tensors, "threshold": tensors["threshold"] - 0.4}  # some thresholds are negative now
    assert (lowered["threshold"] < 0).any()
    write_params(tmp_path / "layer_1", lowered)
    p = h @ tensors["W_enc"] + tensors["b_enc"]
    expected = torch.where((p > lowered["threshold"]) & (p > 0), p, 0.0)
    assert torch.equal(load(lm, tmp_path).at(SITE).encode(h), expected)


def test_encoding_some_features_equals_encoding_all_of_them(library: Library, h: Tensor) -> None:
    dictionary = library.at(SITE)
    indices = torch.tensor([3, 0, D_SAE - 1, 3])
    torch.testing.assert_close(dictionary.encode_some(h, indices), dictionary.encode(h)[:, indices])


def test_bfloat16_weights_stay_so_and_are_counted_with_as_float32(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], h: Tensor
) -> None:
    half = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}
    write_sae_lens(tmp_path / "half" / "layer_1", half, SITE)
    write_sae_lens(tmp_path / "whole" / "layer_1", {name: t.to(torch.float32) for name, t in half.items()}, SITE)
    dictionary, whole = load(lm, tmp_path / "half").at(SITE), load(lm, tmp_path / "whole").at(SITE)
    assert (dictionary.dtype, dictionary.decoder.dtype) == ("bfloat16", torch.bfloat16)
    rows = dictionary.rows(torch.arange(D_SAE))
    assert rows.dtype is torch.float32
    assert torch.equal(rows, half["W_dec"].to(torch.float32))
    assert all(vector.dtype is torch.float32 for vector in dictionary.vectors(h.device).values())
    f = whole.encode(h)
    torch.testing.assert_close(dictionary.encode(h), f, rtol=1e-5, atol=1e-5)
    assert torch.equal(dictionary.decode(f, h), whole.decode(f, h))


def test_any_number_of_sites_load_at_once(library: Library) -> None:
    assert library.sites == sorted(Site(layer, kind) for layer in range(LAYERS) for kind in DICTIONARY_KINDS)
    assert set(library.kinds) == set(DICTIONARY_KINDS)
    assert len(library) == LAYERS * len(DICTIONARY_KINDS)


def test_a_config_of_before_sae_lens_6_says_its_hook_at_the_top(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    write_sae_lens(tmp_path / "any name", tensors, SITE, metadata=None, hook_name=SITE.transformer_lens_name)
    assert load(lm, tmp_path).sites == [SITE]


def test_the_layer_of_an_npz_is_the_last_layer_n_in_its_path(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    write_params(tmp_path / "layer_9" / "layer_2" / "width_40", tensors)
    assert load(lm, tmp_path).sites == [Site(2, KIND)]


def test_a_feature_that_does_not_exist_is_refused(library: Library) -> None:
    library.at(SITE).check_index(D_SAE - 1)
    with pytest.raises(UsageError, match=f"no feature {D_SAE} at {SITE}"):
        library.at(SITE).check_index(D_SAE)


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_folder_that_is_missing_or_empty_is_refused(lm: LanguageModel, tmp_path: Path) -> None:
    assert refused(lm, tmp_path / "none").startswith("There is no dictionary folder")
    assert refused(lm, tmp_path).startswith("No dictionary lies in")


def test_a_dictionary_of_another_width_is_refused_with_both_widths(
    lm: LanguageModel, tmp_path: Path, h: Tensor
) -> None:
    write_params(tmp_path / "layer_1", random_sae(h[:, :20], seed=1))
    assert refused(lm, tmp_path).endswith(f"reads 20 numbers, and resid_post of this model has {D_MODEL}.")


def test_a_dictionary_for_a_layer_beyond_the_model_is_refused(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    write_params(tmp_path / "layer_3", tensors)
    assert refused(lm, tmp_path).endswith("is for layer 3 and the model has 3 layers.")


def test_a_dictionary_that_nowhere_says_its_layer_is_refused(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    write_params(tmp_path / "some" / "folder", tensors)
    assert refused(lm, tmp_path / "some").startswith("The layer of the dictionary ")


def test_a_dictionary_of_another_kind_of_site_is_refused(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    write_sae_lens(tmp_path / "layer_1", tensors, Site(1, SiteKind.MLP_OUT))
    assert refused(lm, tmp_path).endswith("reads mlp_out, not resid_post.")


def test_a_dictionary_of_what_enters_a_layer_is_one_of_what_leaves_the_layer_below(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    """Wherever it lies: `layer_2` in the path is no reason to read layer 2's resid_pre as its resid_post."""
    write_sae_lens(tmp_path / "layer_2", tensors, SITE, metadata={"hook_name": "blocks.2.hook_resid_pre"})
    assert load(lm, tmp_path).sites == [SITE]


@pytest.mark.parametrize("hook", ["blocks.0.hook_resid_pre", "blocks.1.hook_attn_out", "nonsense"])
def test_a_dictionary_of_a_site_that_is_not_ours_is_refused_wherever_it_lies(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], hook: str
) -> None:
    """`layer_1` in the path is no reason to read it at layer 1's resid_post."""
    write_sae_lens(tmp_path / "layer_1", tensors, SITE, metadata={"hook_name": hook})
    assert refused(lm, tmp_path).endswith(f"reads {hook!r}, which is no site here.")


def test_two_dictionaries_for_one_site_are_refused(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    named = [tmp_path / "layer_1" / "width_40" / f"average_l0_{l0}" for l0 in (20, 70)]
    for folder in named:
        write_params(folder, tensors)
    assert refused(lm, tmp_path) == f"Two dictionaries for {SITE} were named: {str(named[0])!r} and {str(named[1])!r}."


@pytest.mark.parametrize("name", ["W_enc", "b_enc", "W_dec", "b_dec"])
def test_a_missing_tensor_is_named(lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], name: str) -> None:
    kept = {key: tensor for key, tensor in tensors.items() if key != name}
    write_params(tmp_path / "layer_1", kept)
    assert refused(lm, tmp_path).endswith(f"has no {name}.")


@pytest.mark.parametrize("name", ["W_enc", "b_enc", "W_dec", "b_dec", "threshold"])
def test_a_tensor_of_the_wrong_shape_is_refused(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], name: str
) -> None:
    write_params(tmp_path / "layer_1", {**tensors, name: tensors[name][:-1]})
    assert "is broken" in refused(lm, tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["W_enc", "threshold", "b_dec"])
def test_numbers_that_are_not_finite_are_refused(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], name: str, value: float
) -> None:
    broken = tensors[name].clone()
    broken.view(-1)[3] = value
    write_params(tmp_path / "layer_1", {**tensors, name: broken})
    assert refused(lm, tmp_path).endswith("holds numbers that are not finite.")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["b_enc", "threshold", "b_dec"])
def test_vectors_that_are_not_finite_are_refused_when_a_mapped_dictionary_is_opened(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], name: str, value: float
) -> None:
    broken = tensors[name].clone()
    broken[3] = value
    write_sae_lens(tmp_path / "layer_1", {**tensors, name: broken}, SITE)
    assert refused(lm, tmp_path).endswith("holds numbers that are not finite.")


USES: dict[str, Callable[[Dictionary, Tensor], object]] = {
    "encode": lambda dictionary, h: dictionary.encode(h),
    "encode_some": lambda dictionary, h: dictionary.encode_some(h, torch.tensor([0, 7])),
    "rows": lambda dictionary, h: dictionary.rows(torch.tensor([0, 7])),
    "write": lambda dictionary, h: dictionary.select(torch.tensor([0, 7]), h.device).write(h, torch.ones(len(h), 2)),
}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("name", "uses"), [("W_enc", ("encode", "encode_some")), ("W_dec", ("encode", "rows", "write"))]
)
def test_matrices_that_are_not_finite_are_refused_when_a_mapped_dictionary_is_first_used(
    lm: LanguageModel,
    tmp_path: Path,
    tensors: dict[str, Tensor],
    h: Tensor,
    name: str,
    uses: tuple[str, ...],
    value: float,
) -> None:
    broken = tensors[name].clone()
    broken[(3, 7) if name == "W_enc" else (7, 3)] = value  # feature 7's
    write_sae_lens(tmp_path / "layer_1", {**tensors, name: broken}, SITE)
    for use in uses:
        dictionary = load(lm, tmp_path).at(SITE)
        assert dictionary.rows(torch.tensor([1, 2])).isfinite().all()
        with pytest.raises(DictionaryError, match=r"holds numbers that are not finite\. Fetch it again\."):
            USES[use](dictionary, h)


@pytest.mark.parametrize("kept", [0, 1, 100, 5000, -30])
def test_a_truncated_npz_is_refused(lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], kept: int) -> None:
    path = write_params(tmp_path / "layer_1", tensors)
    path.write_bytes(path.read_bytes()[:kept])
    assert refused(lm, tmp_path).startswith("Cannot read ")


def test_an_npz_with_flipped_bytes_is_refused(lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    path = write_params(tmp_path / "layer_1", tensors)
    np.savez_compressed(path, **{name: tensor.numpy() for name, tensor in tensors.items()})  # type: ignore[arg-type]
    content = bytearray(path.read_bytes())
    content[200:400] = bytes(200)
    path.write_bytes(content)
    assert refused(lm, tmp_path).startswith("Cannot read ")


def test_a_bare_array_in_place_of_an_npz_is_refused(lm: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "layer_1").mkdir()
    with (tmp_path / "layer_1" / "params.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    assert refused(lm, tmp_path).startswith("Cannot read ")


class CreatesAFile:
    """Unpickling one writes a file: the proof that a pickle was run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, (str(self.path), 0o700)


@pytest.mark.parametrize("layout", ["object array in an npz", "pickle for an npz"])
def test_a_pickled_npz_is_refused_before_any_of_it_runs(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], layout: str
) -> None:
    import pickle

    trace = tmp_path / "executed"
    path = write_params(tmp_path / "layer_1", tensors)
    if layout == "pickle for an npz":
        path.write_bytes(pickle.dumps(CreatesAFile(trace)))
    else:
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        arrays["b_enc"] = np.array([CreatesAFile(trace)], dtype=object)
        np.savez(path, **arrays)  # type: ignore[arg-type]
    assert "pickled objects, which are never loaded" in refused(lm, tmp_path)
    assert not trace.exists()
    np.load(path, allow_pickle=True)["b_enc"] if layout.startswith("object") else pickle.loads(path.read_bytes())
    assert trace.exists(), "the file would have been run by a reader that allows pickle"


@pytest.mark.parametrize("kept", [0, 4, 100, -10])
def test_corrupt_safetensors_are_refused(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], kept: int
) -> None:
    write_sae_lens(tmp_path / "layer_1", tensors, SITE)
    weights = tmp_path / "layer_1" / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    assert refused(lm, tmp_path).startswith("Cannot read the dictionary")


def test_missing_weights_are_refused(lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    write_sae_lens(tmp_path / "layer_1", tensors, SITE)
    (tmp_path / "layer_1" / "sae_weights.safetensors").unlink()
    assert refused(lm, tmp_path).endswith("it has no sae_weights.safetensors.")


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '"text"', "\x00"])
def test_a_config_that_is_no_json_object_is_refused(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], content: str
) -> None:
    write_sae_lens(tmp_path / "layer_1", tensors, SITE)
    (tmp_path / "layer_1" / "cfg.json").write_text(content, encoding="utf-8")
    refused(lm, tmp_path)


PRE_6 = {"metadata": None, "hook_name": SITE.transformer_lens_name}


@pytest.mark.parametrize(
    "config",
    [
        {"architecture": "gated"},
        {"normalize_activations": "layer_norm"},
        {"architecture": "standard", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 6}, **PRE_6},
    ],
    ids=["gated", "layer_norm", "topk before sae-lens 6"],
)
def test_an_architecture_that_was_refused_once_has_sae_lenss_own_features(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], h: Tensor, config: dict[str, Any]
) -> None:
    """See test_architectures for all of them."""
    from sae_lens import SAE

    kept = {name: tensor for name, tensor in tensors.items() if name != "threshold"}
    if config.get("architecture") == "gated":
        b_enc = kept.pop("b_enc")
        kept |= {"b_gate": b_enc, "b_mag": b_enc.flip(0), "r_mag": b_enc.roll(3)}
    elif "normalize_activations" in config:
        kept = tensors
    write_sae_lens(tmp_path / "layer_1", kept, SITE, **config)
    theirs = SAE.load_from_disk(tmp_path / "layer_1", device="cpu")
    with torch.no_grad():
        f = theirs.encode(h)
        torch.testing.assert_close(load(lm, tmp_path).at(SITE).encode(h), f, rtol=1e-5, atol=1e-5)
    assert 0 < int((f != 0).sum()) < f.numel()


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"architecture": "gated"}, "has no b_gate and no r_mag and no b_mag"),
        ({"architecture": "nonsense"}, "is of architecture 'nonsense'"),
        ({"architecture": "standard", "activation_fn_str": "tanh-relu"}, "is of architecture 'tanh-relu'"),
        ({"architecture": "topk"}, "does not say how many features are active"),
        ({"architecture": "topk", "k": 0}, "does not say how many features are active"),
        ({"normalize_activations": "expected_average_only_in"}, "scales its input"),
        ({"normalize_activations": "covariance_whitening"}, "scales its input"),
        ({"normalize_activations": True}, "scales its input"),
    ],
    ids=str,
)
def test_an_architecture_that_would_be_read_wrongly_is_refused(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor], config: dict[str, Any], reason: str
) -> None:
    write_sae_lens(tmp_path / "layer_1", tensors, SITE, **config)
    assert reason in refused(lm, tmp_path)


def test_features_that_are_scaled_afterwards_are_refused(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    scaled = tensors | {"scaling_factor": torch.full_like(tensors["b_enc"], 2.0)}
    write_sae_lens(tmp_path / "layer_1", scaled, SITE)
    assert "scales its input or features" in refused(lm, tmp_path)


def test_a_name_with_markup_and_control_characters_is_told_without_them_acting(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    folder = tmp_path / "layer_1 [bold]\x1b[31m"
    write_params(folder, {"W_enc": tensors["W_enc"]})
    what = refused(lm, folder)
    assert "\x1b" not in what
    assert "[bold]" in what
    json.dumps(what)
