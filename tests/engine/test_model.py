"""Questions as tokens, and what a model cannot take."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from knowscope_tui.engine.loading import base_folder, load_model, pick_device, pick_dtype
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.errors import DeviceError, HubError, ModelNotLoaded, PromptError
from tests.tiny import CONTEXT


def test_a_question_is_the_sentence_as_the_tokenizer_spells_it(lm: LanguageModel) -> None:
    question = lm.ask("The capital of France is", "Ouagadougou")
    whole = tuple(lm.tokenizer("The capital of France is Ouagadougou")["input_ids"])
    assert question.prompt_ids + question.answer_ids == whole
    assert question.prompt_ids[0] == lm.tokenizer.bos_token_id
    assert question.input_ids == whole[:-1]
    assert len(question.answer_ids) > 1


def test_spaces_around_prompt_and_answer_change_nothing(lm: LanguageModel) -> None:
    plain = lm.ask("The capital of France is", "Paris")
    assert lm.ask("The capital of France is \t\n", "  Paris ") == plain


@pytest.mark.parametrize("prompt", ["", "   ", "\n\t"])
def test_an_empty_prompt_is_refused(lm: LanguageModel, prompt: str) -> None:
    with pytest.raises(PromptError, match="prompt is empty"):
        lm.ask(prompt, "Paris")


@pytest.mark.parametrize("answer", ["", "  ", "\n"])
def test_an_empty_answer_is_refused(lm: LanguageModel, answer: str) -> None:
    with pytest.raises(PromptError, match="answer is empty"):
        lm.ask("The capital of France is", answer)


def test_a_prompt_beyond_the_context_is_refused_with_both_lengths(lm: LanguageModel) -> None:
    with pytest.raises(PromptError, match=rf"The prompt has \d+ tokens .* holds {CONTEXT}"):
        lm.encode("7 " * CONTEXT)


def test_an_answer_that_no_longer_fits_the_context_is_refused(lm: LanguageModel) -> None:
    prompt = "7" * (CONTEXT - 2)
    assert len(lm.encode(prompt)) <= CONTEXT
    with pytest.raises(PromptError, match="The prompt with its answer has"):
        lm.ask(prompt, "Ouagadougou")


def test_a_question_that_just_fits_the_context_can_be_asked(lm: LanguageModel) -> None:
    fits = next(n for n in range(CONTEXT, 0, -1) if len(lm.tokenizer("7" * n + " 5")["input_ids"]) == CONTEXT)
    question = lm.ask("7" * fits, "5")
    assert len(question.prompt_ids) + len(question.answer_ids) == CONTEXT
    assert lm.model(input_ids=lm.tensor([question.input_ids])).logits.isfinite().all()


@pytest.mark.parametrize(
    "text",
    ["[bold red]markup[/]", "\x1b[31mescape\x1b[0m", "a\x00b\x07", "tab\tnew\nline", "東京 é \U0001f600", "\u202eleft"],
)
def test_markup_control_characters_and_any_script_pass_through_unharmed(lm: LanguageModel, text: str) -> None:
    question = lm.ask(text, text)
    assert question.prompt == text
    assert question.answer == text
    assert lm.tokenizer.unk_token_id not in question.prompt_ids
    assert lm.tokenizer.decode(question.prompt_ids[1:]) == text


def test_bytes_that_are_no_text_are_refused(lm: LanguageModel) -> None:
    surrogate = b"caf\xe9".decode("utf-8", "surrogateescape")
    with pytest.raises(PromptError, match="no text"):
        lm.ask(surrogate, "Paris")
    with pytest.raises(PromptError, match="no text") as refused:
        lm.ask("The capital of France is", surrogate)
    str(refused.value).encode()


def test_a_token_is_shown_with_its_leading_space(lm: LanguageModel) -> None:
    ids = lm.encode("The capital of")
    assert lm.text(ids[0]) == "<bos>"
    assert "".join(lm.text(token) for token in ids[1:]) == " The capital of"


def test_padding_on_the_right_changes_no_real_token(lm: LanguageModel) -> None:
    short, long = lm.encode("The capital of France is"), lm.encode("In the phone book, the entry for Orla Venn reads")
    padded = lm.tensor([short, long])
    assert padded.shape == (2, len(long))
    together = lm.model(input_ids=padded).logits[0, : len(short)]
    alone = lm.model(input_ids=lm.tensor([short])).logits[0]
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


# --- devices and dtypes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:97"])
def test_a_gpu_that_is_not_there_is_one_clear_sentence(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(DeviceError) as refused:
        pick_device(device)
    assert refused.value.what == f"{device} was asked for, and this machine has no CUDA device."
    assert "--device cpu" in refused.value.hint


def test_a_device_or_dtype_that_does_not_exist_is_refused() -> None:
    with pytest.raises(DeviceError, match="no device called 'toaster'"):
        pick_device("toaster")
    with pytest.raises(DeviceError, match="no dtype called 'int3'"):
        pick_dtype("int3", torch.device("cpu"))


def test_auto_is_float32_on_the_cpu_and_bfloat16_on_a_gpu() -> None:
    assert pick_dtype("auto", torch.device("cpu")) is torch.float32
    assert pick_dtype("auto", torch.device("cuda")) is torch.bfloat16


# --- loading --------------------------------------------------------------------------------------------------------


def test_the_model_is_loaded_with_eager_attention_frozen_and_in_evaluation(lm: LanguageModel) -> None:
    assert lm.model.config._attn_implementation == "eager"
    assert not lm.model.training
    assert not any(parameter.requires_grad for parameter in lm.model.parameters())


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotLoaded, match=r"no config\.json"):
        load_model(str(tmp_path))


def test_a_model_with_truncated_weights_is_refused_in_one_sentence(tmp_path: Path, tiny_folder: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_folder, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelNotLoaded, match="cannot be loaded") as refused:
        load_model(str(broken))
    assert "\n" not in str(refused.value)


def test_a_model_that_lacks_a_tensor_is_refused(tmp_path: Path, tiny_folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(tiny_folder, broken)
    name = "model.layers.1.mlp.down_proj.weight"
    tensors = load_file(broken / "model.safetensors")
    del tensors[name]
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelNotLoaded, match=rf"lacks 1 of its tensors, {name} first"):
        load_model(str(broken))


def test_a_model_of_another_family_is_refused(tmp_path: Path, tiny_folder: Path) -> None:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    other = tmp_path / "neox"
    config = GPTNeoXConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    GPTNeoXForCausalLM(config).save_pretrained(other)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tiny_folder / name, other / name)
    with pytest.raises(ModelNotLoaded, match="'gpt_neox' has no site table"):
        load_model(str(other))


def test_a_name_that_is_neither_folder_nor_in_the_hubs_cache_is_refused() -> None:
    with pytest.raises(HubError, match=r"there-is-no-such-model is not whole in the cache, and nothing may be fetched"):
        load_model("knowscope/there-is-no-such-model")
    with pytest.raises(ModelNotLoaded, match="not on this machine"):
        base_folder("knowscope/there-is-no-such-model")
