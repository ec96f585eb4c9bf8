"""Model families: on a tiny random model of every supported type the sites are what plain Hugging Face computes, and
an edit reaches the right entries of the right parameter, in memory and on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from knowscope_tui.core.edits import EditSpec, Method
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.saved import SaveOptions
from knowscope_tui.core.units import Site, SiteKind, Unit
from knowscope_tui.engine.deltas.change import SparseChange
from knowscope_tui.engine.dictionary import Spec, make_dictionary
from knowscope_tui.engine.families import attention_implementation, family_of, supported_model_types
from knowscope_tui.engine.hooks import capture, intervene
from knowscope_tui.engine.journal import Journal
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.methods.plan import ZEROING, plan_edit
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.saving.save import save
from knowscope_tui.engine.saving.saved import problems, read
from knowscope_tui.engine.saving.stored import stored_name
from knowscope_tui.engine.sites import (
    check_family,
    down_proj,
    down_proj_name,
    layer_device,
    n_layers,
    post_feedforward_gain,
    text_config,
    width,
)
from knowscope_tui.errors import ModelNotLoaded, SaveError, UsageError
from tests.tiny import bits, hook_count, sparse

LAYERS, D_MODEL, D_MLP, CONTEXT = 3, 32, 48, 64
EVERY_SITE = [Site(layer, kind) for layer, kind in product(range(LAYERS), SiteKind)]
FACT = Fact("The capital of France is", "Paris")

GROUPED = {
    "hidden_size": D_MODEL,
    "intermediate_size": D_MLP,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": CONTEXT,
}
GEMMA3 = {
    **GROUPED,
    "sliding_window": 6,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "query_pre_attn_scalar": 12,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "gemma": GROUPED,
    "gemma2": {**GROUPED, "sliding_window": 6, "attn_logit_softcapping": 4.0, "final_logit_softcapping": 12.0},
    "gemma3": {"text_config": GEMMA3, "vision_config": VISION, "mm_tokens_per_image": 1},
    "gemma3_text": GEMMA3,
    "gpt2": {"n_embd": D_MODEL, "n_inner": D_MLP, "n_layer": LAYERS, "n_head": 4, "n_positions": CONTEXT},
    "llama": GROUPED,
    "mistral": {**GROUPED, "sliding_window": 6},
    "qwen2": GROUPED,
    "qwen3": GROUPED,
}
DOWN_PROJ = {
    "gpt2": "transformer.h.{}.mlp.c_proj.weight",
    "gemma3": "model.language_model.layers.{}.mlp.down_proj.weight",
}


@dataclass(frozen=True)
class Case:
    """A tiny model of one type, as a folder and opened."""

    model_type: str
    folder: Path
    lm: LanguageModel
    ids: Tensor
    """(1, pos): a text longer than any sliding window."""

    @torch.no_grad()
    def logits(self) -> Tensor:
        """(pos, vocabulary)."""
        return self.lm.model(input_ids=self.ids, use_cache=False).logits[0]  # type: ignore[no-any-return]

    def activations(self, ids: Tensor | None = None) -> dict[Site, Tensor]:
        """Every site → (pos, width)."""
        with torch.no_grad(), capture(self.lm.model, EVERY_SITE) as cache:
            self.lm.model(input_ids=self.ids if ids is None else ids, use_cache=False)
        return {site: activation[0] for site, activation in cache.items()}

    def parameter(self, layer: int) -> Tensor:
        """The parameter that is W^(2), spelled out and in its own layout."""
        name = DOWN_PROJ.get(self.model_type, "model.layers.{}.mlp.down_proj.weight").format(layer)
        return self.lm.model.get_parameter(name)  # type: ignore[no-any-return]


def plainly(folder: Path, **options: Any) -> Any:
    """What anyone's `from_pretrained` gives."""
    return AutoModelForCausalLM.from_pretrained(folder, **options).eval()


def opened(model_type: str, folder: Path) -> LanguageModel:
    model = plainly(folder, attn_implementation=attention_implementation(model_type))
    return LanguageModel(model, AutoTokenizer.from_pretrained(folder), str(folder))


@torch.no_grad()
def save_tiny(model_type: str, tokenizer: Any, folder: Path) -> None:
    """A random model of `model_type` with weights so large that every part of it matters."""
    torch.manual_seed(7)
    sizes, tokens = dict(CONFIGS[model_type]), {"vocab_size": len(tokenizer), "bos_token_id": 2, "eos_token_id": 1}
    if "text_config" in sizes:
        sizes["text_config"] = {**sizes["text_config"], **tokens}
        tokens = {}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **sizes, **tokens))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.add_(0.3 * torch.randn_like(parameter))
        elif parameter.ndim == 2:
            embeds = any(part in name for part in ("embed", "wte", "wpe"))
            parameter.normal_(0.0, 0.15 if embeds else 1.5 / max(parameter.shape) ** 0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def make(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    made: dict[str, Case] = {}

    def build(model_type: str) -> Case:
        if model_type not in made:
            folder = tmp_path_factory.mktemp(model_type)
            save_tiny(model_type, tokenizer, folder)
            ids = torch.randint(4, len(tokenizer), (1, 13), generator=torch.Generator().manual_seed(1))
            made[model_type] = Case(model_type, folder, opened(model_type, folder), ids)
        return made[model_type]

    return build


@pytest.fixture(scope="module", params=supported_model_types())
def case(request: pytest.FixtureRequest, make: Callable[[str], Case]) -> Case:
    return make(request.param)


@pytest.fixture(autouse=True)
def _left_as_it_was(request: pytest.FixtureRequest) -> Any:
    """No test leaves a hook or a changed bit on the model it was given."""
    if "case" not in request.fixturenames:
        yield
        return
    model = request.getfixturevalue("case").lm.model
    before = bits(model)
    yield
    assert hook_count(model) == 0
    assert bits(model) == before


# --- hooks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradients", [False, True])
def test_with_every_site_captured_the_logits_are_plain_hugging_faces(case: Case, gradients: bool) -> None:
    with torch.no_grad():
        plain = plainly(case.folder)(input_ids=case.ids).logits[0]
    with torch.set_grad_enabled(gradients), capture(case.lm.model, EVERY_SITE, gradients=gradients) as cache:
        logits = case.lm.model(input_ids=case.ids, use_cache=False).logits[0]
    assert torch.equal(logits.detach(), plain)
    assert set(cache) == set(EVERY_SITE)
    assert all(activation.requires_grad is gradients for activation in cache.values())


def test_a_change_that_returns_its_input_changes_no_bit_and_any_other_is_seen(case: Case) -> None:
    plain = case.logits()
    with intervene(case.lm.model, dict.fromkeys(EVERY_SITE, lambda activation: activation)):
        assert torch.equal(case.logits(), plain)
    for site in EVERY_SITE:
        with intervene(case.lm.model, {site: torch.zeros_like}):
            assert (case.logits() - plain).abs().max() > 1e-3, site


def test_sites_have_the_width_they_are_said_to_have(case: Case) -> None:
    for site, activation in case.activations().items():
        assert activation.shape == (case.ids.shape[1], width(case.lm.model, site.kind))
    assert width(case.lm.model, SiteKind.MLP_ACT) == D_MLP
    assert width(case.lm.model, SiteKind.RESID_POST) == text_config(case.lm.model).hidden_size == D_MODEL
    assert n_layers(case.lm.model) == LAYERS
    assert layer_device(case.lm.model, 2) == torch.device("cpu")
    with pytest.raises(UsageError, match="no layer 3"):
        layer_device(case.lm.model, LAYERS)


def test_the_mlp_adds_its_output_to_the_residual_stream_in_its_middle(case: Case) -> None:
    seen = case.activations()
    for layer in range(LAYERS):
        mid, out, post = (
            seen[Site(layer, kind)] for kind in (SiteKind.RESID_MID, SiteKind.MLP_OUT, SiteKind.RESID_POST)
        )
        torch.testing.assert_close(mid + out, post, rtol=0, atol=1e-5)
        assert out.abs().max() > 1e-2


def test_the_residual_stream_is_what_hugging_face_calls_hidden_states(case: Case) -> None:
    seen = case.activations()
    with torch.no_grad():
        hidden = plainly(case.folder)(input_ids=case.ids, output_hidden_states=True).hidden_states
    for layer in range(LAYERS - 1):  # the last hidden state is taken after the final norm
        assert torch.equal(seen[Site(layer, SiteKind.RESID_POST)], hidden[layer + 1][0])


@pytest.mark.parametrize("position", [5, -1])
def test_a_change_of_attn_z_at_a_token_reaches_only_it_and_what_follows(case: Case, position: int) -> None:
    plain = case.logits()
    position %= len(plain)

    def change(activation: Tensor) -> Tensor:
        changed = activation.clone()
        changed[:, position] = 0
        return changed

    with intervene(case.lm.model, {Site(1, SiteKind.ATTN_Z): change}):
        moved = (case.logits() - plain).abs().amax(dim=-1)
    assert (moved[:position] == 0).all()
    assert (moved[position : position + 3] > 0).all()  # a sliding window ends the reach further on


def test_a_change_at_resid_mid_runs_past_the_mlp_as_well_as_into_it(case: Case) -> None:
    plain, kinds = case.activations(), (SiteKind.RESID_MID, SiteKind.MLP_OUT, SiteKind.RESID_POST)
    mid, out, post = (Site(1, kind) for kind in kinds)
    v = torch.linspace(-2, 2, D_MODEL)
    with intervene(case.lm.model, {mid: lambda activation: activation + v}):
        changed = case.activations()
    torch.testing.assert_close(changed[post], plain[mid] + v + changed[out], rtol=0, atol=1e-5)
    assert (changed[out] - plain[out]).abs().max() > 1e-2


# --- weights --------------------------------------------------------------------------------------------------------


def test_down_proj_is_the_parameter_itself_however_it_is_stored(case: Case) -> None:
    W, parameter = down_proj(case.lm.model, 1), case.parameter(1)
    assert case.lm.model.get_parameter(down_proj_name(case.lm.model, 1)) is parameter
    assert W.shape == (D_MODEL, D_MLP)
    assert W.data_ptr() == parameter.data_ptr()
    assert torch.equal(W, parameter.T if case.model_type == "gpt2" else parameter)


@pytest.mark.parametrize("neuron", [0, 7, D_MLP - 1])
def test_zeroing_a_neurons_column_equals_ablating_the_neuron(case: Case, neuron: int) -> None:
    def off(activation: Tensor) -> Tensor:
        changed = activation.clone()
        changed[..., neuron] = 0
        return changed

    plain = case.logits()
    with intervene(case.lm.model, {Site(1, SiteKind.MLP_ACT): off}):
        ablated = case.logits()
    column = down_proj(case.lm.model, 1)[:, neuron]
    pristine = column.clone()
    column.zero_()
    by_hand = case.logits()
    column.copy_(pristine)
    torch.testing.assert_close(by_hand, ablated, rtol=1e-4, atol=1e-4)
    assert (by_hand - plain).abs().max() > 1e-3

    _plan, deltas = plan_edit(case.lm, Library(), EditSpec((FACT,), Method.NEURONS, units=(Unit.neuron(1, neuron),)))
    journal = Journal(case.lm)
    journal.apply(deltas)
    assert torch.equal(case.logits(), by_hand)
    journal.undo()
    assert torch.equal(case.logits(), plain)


def contribution(case: Case, layer: int, d: Tensor) -> Tensor:
    """c_jk, (d_model, d_mlp): d_j · W[j, k] · a_k, times what the model itself makes of W a in row j."""
    question = case.lm.ask(FACT.prompt, FACT.answer)
    seen = case.activations(torch.tensor([question.input_ids]))
    a, out = (seen[Site(layer, kind)][question.last] for kind in (SiteKind.MLP_ACT, SiteKind.MLP_OUT))
    W = case.parameter(layer).T if case.model_type == "gpt2" else case.parameter(layer)
    if case.model_type.startswith("gemma") and case.model_type != "gemma":
        return (d * out / (W @ a))[:, None] * W * a
    assert post_feedforward_gain(case.lm.model, layer) is None
    bias = case.lm.model.get_parameter(f"transformer.h.{layer}.mlp.c_proj.bias") if case.model_type == "gpt2" else 0
    torch.testing.assert_close(W @ a + bias, out, rtol=1e-4, atol=1e-5)
    return d[:, None] * W * a


def a_library(site: Site) -> tuple[Library, Tensor]:
    """A random dictionary at `site`, and its decoder (d_sae, d_in)."""
    generator = torch.Generator().manual_seed(3)
    encoder, decoder = (torch.randn(10, D_MODEL, generator=generator) for _ in range(2))
    vectors = {"b_enc": torch.zeros(10), "b_dec": torch.zeros(D_MODEL), "threshold": torch.zeros(10)}
    spec = Spec(site, "jumprelu", D_MODEL, 10, "random")
    return Library([make_dictionary(spec, {"encoder": encoder, "decoder": decoder, **vectors})]), decoder


def test_positions_zeroes_the_entries_that_write_most_into_the_feature(case: Case) -> None:
    site = Site(1, SiteKind.RESID_POST)
    library, decoder = a_library(site)
    unit = Unit.feature(1, site.kind, 4)
    _plan, deltas = plan_edit(case.lm, library, EditSpec((FACT,), site=SiteKind.MLP_OUT, tau2=0.2, units=(unit,)))
    c = {layer: contribution(case, layer, decoder[4]) for layer in (0, 1)}
    bar = 0.2 * max(float(table.max()) for table in c.values())
    journal = Journal(case.lm)
    journal.apply(deltas)
    zeroed = [(down_proj(case.lm.model, layer) == 0).clone() for layer in range(LAYERS)]
    journal.undo()
    for layer, table in c.items():
        clear = (table - bar).abs() > 1e-3 * bar  # rounding decides about the others
        assert torch.equal(zeroed[layer][clear], (table > bar)[clear])
        assert int(clear.sum()) > 0.99 * clear.numel()
        assert zeroed[layer].any()
    assert not zeroed[2].any()


@pytest.mark.parametrize("method", ZEROING, ids=lambda method: method.value)
def test_an_edit_zeroes_as_many_places_as_it_says_and_undo_restores_every_bit(case: Case, method: Method) -> None:
    library, _decoder = a_library(Site(1, SiteKind.MLP_OUT))
    unit = Unit.neuron(1, 4) if method is Method.NEURONS else Unit.feature(1, SiteKind.MLP_OUT, 4)
    plan, deltas = plan_edit(case.lm, library, EditSpec((FACT,), method, SiteKind.RESID_POST, units=(unit,)))
    before, pristine = bits(case.lm.model), case.parameter(1).detach().clone()
    journal = Journal(case.lm)
    journal.apply(deltas)
    changed = {name for name, digest in bits(case.lm.model).items() if digest != before[name]}
    edited = case.parameter(1).detach().clone()
    journal.undo()
    assert bits(case.lm.model) == before
    assert [delta.name for delta in deltas] == sorted(changed)
    (delta,), (change,) = deltas, plan.parameters
    assert delta.shape == change.shape == tuple(pristine.shape)
    zeroed = edited != pristine
    assert int(zeroed.sum()) == change.positions == len(sparse(delta).indices) > 0
    assert (edited[zeroed] == 0).all()
    zeroed = zeroed.T if case.model_type == "gpt2" else zeroed  # (d_model, d_mlp)
    if method is Method.ROWS:
        assert set(zeroed.sum(dim=1).tolist()) == {0, D_MLP}
    if method is Method.NEURONS:
        assert zeroed.nonzero()[:, 1].unique().tolist() == [4]


# --- on disk --------------------------------------------------------------------------------------------------------


def renamed(folder: Path, target: Path, rename: Callable[[str], str]) -> Path:
    """A copy of the model in `folder` whose tensors have other names."""
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    renamed = {rename(name): tensor for name, tensor in tensors.items()}
    assert renamed.keys() != tensors.keys()
    save_file(renamed, target / "model.safetensors", metadata={"format": "pt"})
    return target


def as_released(name: str) -> str:
    """Gemma 3's names as they are inside the model."""
    return f"model.{name}".replace("model.language_model.model.", "model.language_model.")


@pytest.mark.parametrize(
    ("model_type", "rename"),
    [
        ("gpt2", None),
        ("gpt2", lambda name: name.removeprefix("transformer.")),
        ("llama", None),
        ("gemma3", None),
        ("gemma3", as_released),
    ],
    ids=["gpt2", "gpt2 without prefix", "llama", "gemma3", "gemma3 as in the model"],
)
def test_plain_transformers_loads_a_saved_edit_and_computes_the_same_bits(
    make: Callable[[str], Case], tmp_path: Path, model_type: str, rename: Callable[[str], str] | None
) -> None:
    base = make(model_type).folder
    base = renamed(base, tmp_path / "base", rename) if rename else base
    case = Case(model_type, base, opened(model_type, base), make(model_type).ids)
    assert torch.equal(case.logits(), make(model_type).logits())
    units = (Unit.neuron(0, 3), Unit.neuron(2, 40))
    _plan, deltas = plan_edit(case.lm, Library(), EditSpec((FACT,), Method.NEURONS, units=units))
    plain = case.logits()
    journal = Journal(case.lm)
    journal.apply(deltas)
    saved = save(
        str(base), journal.total(), {"edits": []}, "", tmp_path / "edited", SaveOptions(), lambda doing, fraction: None
    )
    with torch.no_grad():
        again = plainly(tmp_path / "edited")(input_ids=case.ids).logits[0]
    assert torch.equal(again, case.logits())
    assert not torch.equal(again, plain)
    assert saved.parameters == tuple(delta.name for delta in deltas)
    assert load_file(tmp_path / "edited" / "model.safetensors").keys() == load_file(base / "model.safetensors").keys()
    assert problems(read(tmp_path / "edited"), str(base)) == []


def test_a_stored_parameter_is_found_by_its_tail() -> None:
    gpt2 = "transformer.h.1.mlp.c_proj.weight"
    assert stored_name(gpt2, {gpt2, "h.1.mlp.c_proj.weight"}) == gpt2
    assert stored_name(gpt2, {"h.1.mlp.c_proj.weight", "h.11.mlp.c_proj.weight"}) == "h.1.mlp.c_proj.weight"
    assert stored_name("model.layers.1.a.weight", ["x.y.layers.1.a.weight"]) == "x.y.layers.1.a.weight"
    with pytest.raises(SaveError, match=r"no parameter 'transformer\.h\.1"):
        stored_name(gpt2, {"smooth.1.mlp.c_proj.weight", "xh.1.mlp.c_proj.weight", "c_proj.weight"})
    with pytest.raises(SaveError, match=r"2 parameters .* may be: 'a\.h\.1\.mlp\.c_proj\.weight', 'b\."):
        stored_name(gpt2, {"a.h.1.mlp.c_proj.weight", "b.h.1.mlp.c_proj.weight"})
    with pytest.raises(SaveError, match="no parameter 'norm'"):
        stored_name("norm", {"model.norm"})


def test_a_recorded_change_of_what_the_base_does_not_have_is_a_problem(
    make: Callable[[str], Case], tmp_path: Path
) -> None:
    case = make("llama")
    delta = SparseChange("model.layers.0.mlp.down_proj.weight", (32, 48), torch.tensor([0]), torch.zeros(1))
    save(str(case.folder), [delta], {"edits": []}, "", tmp_path / "edited", SaveOptions(), lambda doing, fraction: None)
    found = problems(read(tmp_path / "edited"), str(make("gpt2").folder))
    assert "model.layers.0.mlp.down_proj.weight is in only one of base and checkpoint." in found


# --- what is supported ----------------------------------------------------------------------------------------------


def test_every_row_is_tested_here() -> None:
    assert set(CONFIGS) == set(supported_model_types())


def test_only_softcapping_asks_for_an_attention_implementation() -> None:
    asked = {model_type: attention_implementation(model_type) for model_type in supported_model_types()}
    assert {model_type for model_type, name in asked.items() if name} == {"gemma2"}
    assert asked["gemma2"] == "eager"


def test_a_model_of_another_type_is_refused_with_the_list(make: Callable[[str], Case]) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    alien = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt_neox", vocab_size=50, **sizes))
    for refuse in (check_family, lambda model: LanguageModel(model, make("llama").lm.tokenizer, "alien")):
        with pytest.raises(ModelNotLoaded) as refused:
            refuse(alien)
        assert str(refused.value) == (
            "A model of type 'gpt_neox' has no site table. Use a model of one of these types: "
            "gemma, gemma2, gemma3, gemma3_text, gpt2, llama, mistral, qwen2, qwen3."
        )


@pytest.mark.parametrize("model_type", ["gpt_neox", "mixtral", "qwen3_moe", "qwen3_5_text", "gemma3n_text", ""])
def test_families_whose_layers_differ_have_no_row(model_type: str) -> None:
    for ask in (family_of, attention_implementation):
        with pytest.raises(ModelNotLoaded, match="has no site table"):
            ask(model_type)


def test_what_enters_a_layer_is_what_left_the_one_below() -> None:
    assert Site.from_transformer_lens("blocks.12.hook_resid_pre") == Site(11, SiteKind.RESID_POST)
    assert Site.from_transformer_lens("blocks.0.hook_resid_pre") is None
