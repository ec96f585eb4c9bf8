"""Every architecture against sae-lens's own class: encoding, decoding, and what a feature writes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.dictionary import Dictionary, PeerDictionary, make_dictionary
from knowscope_tui.engine.library import load_library
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.shelf import converted, folders
from knowscope_tui.engine.shelf.interpret import interpret
from knowscope_tui.errors import DictionaryError
from tests.tiny import D_MODEL, D_SAE, random_sae, write_sae_lens

SITE = Site(1, SiteKind.RESID_POST)
D_Z = 48
"""The tiny model's heads × head_dim."""
K = 6

BIASES = {
    "standard": ("b_enc",),
    "jumprelu": ("b_enc",),
    "gated": ("b_gate", "b_mag", "r_mag"),
    "topk": ("b_enc",),
    "abstopk": ("b_enc",),
    "batchtopk": ("b_enc",),
    "matryoshka_batchtopk": ("b_enc",),
    "matching_pursuit": (),
}
"""Architecture → the per-feature vectors that are drawn at random."""

RESCALED = ("topk", "abstopk", "batchtopk", "matryoshka_batchtopk")
"""Those that can be scaled by their decoder's norms."""

TRAINED = ("batchtopk", "matryoshka_batchtopk")
"""Those that exist as training checkpoints alone; sae-lens saves them for use as jumprelu."""

LAST = torch.tensor([D_SAE - 1, 0, 3, 3])


@dataclass(frozen=True)
class Pair:
    """One dictionary, opened by sae-lens and by this package."""

    theirs: Any
    ours: Dictionary

    @torch.no_grad()
    def encode(self, h: Tensor) -> Tensor:
        """sae-lens's features: (..., d_in) → (..., d_sae)."""
        features: Tensor = self.theirs.encode(h)
        return features

    @torch.no_grad()
    def decode(self, features: Tensor, h: Tensor) -> Tensor:
        """sae-lens's reconstruction; its normalisation remembers the input it has seen last."""
        self.theirs.encode(h)
        rebuilt: Tensor = self.theirs.decode(features)
        return rebuilt


@dataclass(frozen=True)
class Case:
    architecture: str
    centred: bool
    normalize: str
    rescale: bool = False

    def __str__(self) -> str:
        words = [self.architecture, self.normalize]
        return "-".join(
            [*words, *(["b_dec from input"] if self.centred else []), *(["rescaled"] if self.rescale else [])]
        )


CASES = [
    Case(architecture, centred, normalize, rescale)
    for architecture, centred, normalize, rescale in product(
        BIASES, (True, False), ("none", "layer_norm", "constant_norm_rescale"), (False, True)
    )
    if not rescale or architecture in RESCALED
]


@torch.no_grad()
def sae_of(case: Case, site: Site = SITE, seed: int = 5, **config: Any) -> Any:
    """An object of sae-lens's own class with random weights, none of which is what it is initialised to."""
    from sae_lens.registry import get_sae_class, get_sae_training_class
    from sae_lens.saes.sae import SAEMetadata

    d_in = D_Z if site.kind is SiteKind.ATTN_Z else D_MODEL
    find = get_sae_training_class if case.architecture in TRAINED else get_sae_class
    made, configuration = find(case.architecture)
    options: dict[str, Any] = {"k": K} if case.architecture in RESCALED else {}
    options |= {"rescale_acts_by_decoder_norm": case.rescale} if case.architecture in RESCALED else {}
    if case.architecture == "matryoshka_batchtopk":
        options["matryoshka_widths"] = [D_SAE // 2, D_SAE]
    if case.architecture == "matching_pursuit":
        options |= {"max_iterations": 5}
    sae = made(
        configuration(
            d_in=d_in,
            d_sae=D_SAE,
            apply_b_dec_to_input=case.centred,
            normalize_activations=case.normalize,
            metadata=SAEMetadata(hook_name=site.transformer_lens_name, model_name="tiny"),
            **options,
            **config,
        )
    )
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    # Rows of very different norms, so that scaling by them changes which are the k largest.
    sae.W_dec.data = normal(D_SAE, d_in) * torch.linspace(0.3, 2.0, D_SAE)[:, None] / d_in**0.5
    if case.architecture == "matching_pursuit":
        sae.W_dec.data /= sae.W_dec.data.norm(dim=-1, keepdim=True)  # as it is trained
    else:
        sae.W_enc.data = normal(d_in, D_SAE) / d_in**0.5
    sae.b_dec.data = 0.3 * normal(d_in)
    for name in BIASES[case.architecture]:
        getattr(sae, name).data = 0.3 * normal(D_SAE)
    if case.architecture == "jumprelu":
        sae.threshold.data = 0.4 * torch.rand(D_SAE, generator=generator)
    if case.architecture in TRAINED:
        sae.topk_threshold.fill_(0.37)
    return sae


def opened(lm: LanguageModel, sae: Any, folder: Path, kind: SiteKind = SITE.kind) -> Pair:
    """`sae` saved by itself, and opened again by sae-lens and by this package."""
    from sae_lens import SAE

    sae.save_model(folder / "ours" / "layer_1")
    if sae.cfg.architecture() in TRAINED:
        # What sae-lens itself would use the checkpoint as.
        sae.save_inference_model(folder / "theirs")
    else:
        sae.save_model(folder / "theirs")
    theirs = SAE.load_from_disk(folder / "theirs", device="cpu", dtype="float32")
    (ours,) = load_library(lm, [(kind, folder / "ours")])._by_site.values()
    return Pair(theirs, ours)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """sae-lens warns of a model's options whenever it opens a dictionary that names some."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def h() -> Tensor:
    """Activations with a mean and a scale of their own at every token: (batch, pos, d_model)."""
    generator = torch.Generator().manual_seed(2)
    scale = 0.5 + 3 * torch.rand(5, 12, 1, generator=generator)
    return scale * torch.randn(5, 12, D_MODEL, generator=generator) + torch.randn(5, 12, 1, generator=generator)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_encoding_and_decoding_are_sae_lenss_own(lm: LanguageModel, tmp_path: Path, h: Tensor, case: Case) -> None:
    pair = opened(lm, sae_of(case), tmp_path)
    features = pair.encode(h)
    assert isinstance(pair.ours, PeerDictionary) == (case.architecture == "matching_pursuit")
    torch.testing.assert_close(pair.ours.encode(h), features, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pair.ours.decode(features, h), pair.decode(features, h), rtol=1e-5, atol=1e-5)
    share = float((features != 0).float().mean())
    assert 0.05 < share < 0.9, "features that fire and features that do not"
    if case.architecture in ("topk", "abstopk"):
        assert int((features != 0).sum(dim=-1).max()) <= K
    assert bool((features < 0).any()) == (case.architecture == "abstopk")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_some_features_are_encoded_as_all_of_them_are_and_one_token_as_many(
    lm: LanguageModel, tmp_path: Path, h: Tensor, case: Case
) -> None:
    ours = opened(lm, sae_of(case), tmp_path).ours
    whole = ours.encode(h)
    torch.testing.assert_close(ours.encode_some(h, LAST), whole[..., LAST], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.encode(h[2, 7]), whole[2, 7], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.encode_some(h[2, 7], LAST), whole[2, 7, LAST], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_switching_features_off_changes_the_reconstruction_by_what_they_write(
    lm: LanguageModel, tmp_path: Path, h: Tensor, case: Case
) -> None:
    """decode(f with f_i = 0) = decode(f) + write(−f_i), with sae-lens's own decoding, for every feature that fires."""
    pair = opened(lm, sae_of(case), tmp_path)
    features = pair.encode(h)
    whole = pair.decode(features, h)
    firing = features.flatten(0, 1).any(dim=0).nonzero()[:, 0].tolist()
    assert len(firing) > K
    for index in firing[::3]:
        indices = torch.tensor([index])
        without = features.clone()
        without[..., indices] = 0
        written = pair.ours.select(indices, h.device).write(h, -features[..., indices])
        assert written.abs().max() > 1e-3
        torch.testing.assert_close(pair.decode(without, h) - whole, written, rtol=1e-4, atol=1e-5)
    indices = torch.tensor(firing[:4])
    none = features.clone()
    none[..., indices] = 0
    together = pair.ours.select(indices, h.device).write(h, -features[..., indices])
    torch.testing.assert_close(pair.decode(none, h) - whole, together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "gated", "topk", "abstopk", "batchtopk"])
@pytest.mark.parametrize("centred", [True, False])
def test_a_dictionary_of_centred_activations_is_given_them(
    lm: LanguageModel, tmp_path: Path, h: Tensor, architecture: str, centred: bool
) -> None:
    """TransformerLens takes the mean over d_model out of whatever is written; plain weights leave it in."""
    sae = sae_of(Case(architecture, centred, "none", architecture in RESCALED))
    sae.cfg.metadata.model_from_pretrained_kwargs = {"center_writing_weights": True}
    pair = opened(lm, sae, tmp_path)
    without_mean = h - h.mean(dim=-1, keepdim=True)
    features = pair.encode(without_mean)
    torch.testing.assert_close(pair.ours.encode(h), features, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pair.ours.encode(without_mean), features, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(pair.encode(h), features, atol=1e-2)
    torch.testing.assert_close(pair.ours.decode(features, h), pair.decode(features, without_mean), rtol=1e-5, atol=1e-5)


def test_the_options_of_a_model_may_stand_at_the_top_of_an_older_configuration(
    lm: LanguageModel, tmp_path: Path, h: Tensor
) -> None:
    tensors = random_sae(h.flatten(0, 1), seed=3)
    config = {"metadata": None, "hook_name": SITE.transformer_lens_name}
    options = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    write_sae_lens(tmp_path / "plain" / "layer_1", tensors, SITE, **config)
    write_sae_lens(tmp_path / "centred" / "layer_1", tensors, SITE, **config, **options)
    plain, centred = (load_library(lm, [(SITE.kind, tmp_path / name)]).at(SITE) for name in ("plain", "centred"))
    expected = plain.encode(h - h.mean(dim=-1, keepdim=True))
    torch.testing.assert_close(centred.encode(h), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ["jumprelu", "matching_pursuit"])
def test_what_enters_the_output_projection_is_no_residual_stream_and_never_centred(
    lm: LanguageModel, tmp_path: Path, architecture: str
) -> None:
    """Also where sae-lens takes it as heads × head_dim: here it is flat."""
    site = Site(1, SiteKind.ATTN_Z)
    sae = sae_of(Case(architecture, True, "none"), site, reshape_activations="hook_z")
    sae.cfg.metadata.model_from_pretrained_kwargs = {"center_writing_weights": True}
    pair = opened(lm, sae, tmp_path, site.kind)
    z = torch.randn(3, 9, D_Z, generator=torch.Generator().manual_seed(4)) + 1
    heads = z.reshape(3, 9, 4, 12)
    features = pair.encode(heads)
    torch.testing.assert_close(pair.ours.encode(z), features, rtol=1e-5, atol=1e-5)
    rebuilt = pair.decode(features, heads).reshape(z.shape)
    torch.testing.assert_close(pair.ours.decode(features, z), rebuilt, rtol=1e-5, atol=1e-5)


def test_scaling_by_the_decoders_norms_is_for_those_that_choose_by_rank_alone(
    lm: LanguageModel, tmp_path: Path, h: Tensor
) -> None:
    """sae-lens reads the key for no other architecture, and a published configuration may still hold it."""
    from sae_lens import SAE

    tensors = random_sae(h.flatten(0, 1), seed=3)
    write_sae_lens(tmp_path / "layer_1", tensors, SITE, rescale_acts_by_decoder_norm=True)
    theirs = SAE.load_from_disk(tmp_path / "layer_1", device="cpu")
    with torch.no_grad():
        expected = theirs.encode(h)
    torch.testing.assert_close(
        load_library(lm, [(SITE.kind, tmp_path)]).at(SITE).encode(h), expected, rtol=1e-5, atol=1e-5
    )


def test_an_older_training_checkpoint_keeps_the_logarithm_of_its_thresholds(
    lm: LanguageModel, tmp_path: Path, h: Tensor
) -> None:
    tensors = random_sae(h.flatten(0, 1), seed=3)
    older = {name: tensor for name, tensor in tensors.items() if name != "threshold"}
    write_sae_lens(tmp_path / "now" / "layer_1", tensors, SITE)
    write_sae_lens(tmp_path / "then" / "layer_1", older | {"log_threshold": tensors["threshold"].log()}, SITE)
    now, then = (load_library(lm, [(SITE.kind, tmp_path / name)]).at(SITE) for name in ("now", "then"))
    torch.testing.assert_close(then.encode(h), now.encode(h), rtol=1e-5, atol=1e-5)
    assert not torch.equal(now.encode(h), now.encode(h - 1))


# --- what is refused ------------------------------------------------------------------------------------------------


def refused(lm: LanguageModel, folder: Path) -> DictionaryError:
    with pytest.raises(DictionaryError) as failed:
        load_library(lm, [(SITE.kind, folder)])
    assert failed.value.hint
    assert "\n" not in str(failed.value)
    return failed.value


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("transcoder", "it reads one site and writes another"),
        ("skip_transcoder", "it reads one site and writes another"),
        ("jumprelu_transcoder", "it reads one site and writes another"),
        ("jumprelu_skip_transcoder", "it reads one site and writes another"),
        ("temporal", "its features depend on earlier tokens too"),
    ],
)
def test_what_cannot_be_switched_off_at_one_site_and_token_is_refused_with_the_reason(
    lm: LanguageModel, tmp_path: Path, h: Tensor, architecture: str, reason: str
) -> None:
    write_sae_lens(tmp_path / "layer_1", random_sae(h.flatten(0, 1), seed=3), SITE, architecture=architecture)
    error = refused(lm, tmp_path)
    assert error.what.endswith(f"is of architecture {architecture!r}: {reason}.")
    assert "jumprelu" in error.hint


def test_every_architecture_of_sae_lens_is_read_or_refused_on_purpose() -> None:
    """A new version of sae-lens that brings another one makes this fail."""
    from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY

    from knowscope_tui.engine.architectures import ARCHITECTURES, REFUSED

    known = {*ARCHITECTURES, *REFUSED, "matching_pursuit", *TRAINED}
    assert {*SAE_CLASS_REGISTRY, *SAE_TRAINING_CLASS_REGISTRY} <= known


def test_a_matching_pursuit_of_centred_activations_is_refused(lm: LanguageModel, tmp_path: Path) -> None:
    """Its encoder is its decoder: the mean cannot be folded into the one without the other."""
    sae = sae_of(Case("matching_pursuit", True, "none"))
    sae.cfg.metadata.model_from_pretrained_kwargs = {"center_writing_weights": True}
    sae.save_model(tmp_path / "layer_1")
    assert "reads a centred residual stream" in refused(lm, tmp_path).what


@pytest.mark.parametrize("name", ["W_dec", "b_dec"])
def test_a_matching_pursuit_that_lacks_a_tensor_or_holds_nan_is_refused(
    lm: LanguageModel, tmp_path: Path, h: Tensor, name: str
) -> None:
    tensors = {key: tensor for key, tensor in random_sae(h.flatten(0, 1), 3).items() if key in ("W_dec", "b_dec")}
    config = {"architecture": "matching_pursuit", "max_iterations": 3}
    write_sae_lens(tmp_path / "lacks" / "layer_1", {k: v for k, v in tensors.items() if k != name}, SITE, **config)
    assert refused(lm, tmp_path / "lacks").what.endswith(f"has no {name}.")
    broken = {**tensors, name: tensors[name].clone()}
    broken[name].view(-1)[5] = float("nan")
    write_sae_lens(tmp_path / "broken" / "layer_1", broken, SITE, **config)
    with pytest.raises(DictionaryError, match="not finite"):
        load_library(lm, [(SITE.kind, tmp_path / "broken")]).at(SITE).encode(h)


# --- through the cache ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", BIASES)
@pytest.mark.parametrize("normalize", ["none", "layer_norm"])
def test_a_converted_copy_has_the_same_features(
    lm: LanguageModel, tmp_path: Path, h: Tensor, architecture: str, normalize: str
) -> None:
    """Whatever the architecture needs is in the file: `k`, its vectors, sae-lens's configuration."""
    ours = opened(lm, sae_of(Case(architecture, True, normalize)), tmp_path).ours
    (folder,) = folders.find(tmp_path / "ours")
    parts = interpret(folders.read(folder, SITE.kind), SITE.kind)
    converted.write(tmp_path / "copy.safetensors", parts, "float32", {"sae_dtype": "float32"})
    found = converted.open_(tmp_path / "copy.safetensors")
    copy = make_dictionary(found.spec, found.tensors)
    assert type(copy) is type(ours)
    f = ours.encode(h)
    torch.testing.assert_close(copy.encode(h), f, rtol=1e-5, atol=1e-6)
    assert torch.equal(copy.decode(f, h), ours.decode(f, h))
