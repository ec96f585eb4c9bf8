"""Questions as tokens, and what a model cannot take."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path

import pytest
import torch

from knowscope_tui.engine.host import cores, use_cores
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


# --- the chat template ----------------------------------------------------------------------------------------------

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[model] {% endif %}"
)
ASKED = "What is the capital of France?"


@pytest.fixture
def chat(lm: LanguageModel) -> LanguageModel:
    """The tiny model with a tokenizer that has a chat template and, as Gemma's own, no space before the first word."""
    from tokenizers.normalizers import Replace

    tokenizer = copy.deepcopy(lm.tokenizer)
    tokenizer.backend_tokenizer.normalizer = Replace(" ", "▁")
    tokenizer.chat_template = TEMPLATE
    return LanguageModel(lm.model, tokenizer, "tiny-it", chat=True)


@pytest.fixture
def not_chatting(chat: LanguageModel) -> LanguageModel:
    """The same model and tokenizer, for running text."""
    return LanguageModel(chat.model, chat.tokenizer, "tiny-it")


def plain_ids(lm: LanguageModel, text: str) -> tuple[int, ...]:
    return tuple(lm.tokenizer(text, add_special_tokens=False)["input_ids"])


def test_in_a_chat_a_prompt_goes_through_the_template_up_to_the_models_turn(chat: LanguageModel) -> None:
    bos = chat.tokenizer.bos_token_id
    assert chat.encode(ASKED) == (bos, *plain_ids(chat, f"[user] {ASKED}\n[model] "))
    assert chat.encode(ASKED).count(bos) == 1
    assert chat.encode(f"{ASKED} \n ") == chat.encode(ASKED)


def test_in_a_chat_the_answer_follows_the_template_without_a_space(chat: LanguageModel) -> None:
    question = chat.ask(ASKED, "  Ouagadougou ")
    assert question.prompt_ids == chat.encode(ASKED)
    assert question.answer_ids == plain_ids(chat, "Ouagadougou")
    assert (question.prompt, question.answer) == (ASKED, "Ouagadougou")
    assert chat.tokenizer.decode(question.prompt_ids + question.answer_ids).endswith("[model] Ouagadougou")
    assert question.answer_ids != chat.ask(ASKED, "x").answer_ids
    logits = chat.model(input_ids=chat.tensor([question.input_ids])).logits
    assert logits.shape[1] == len(question.prompt_ids) + len(question.answer_ids) - 1


def test_in_a_chat_lengths_are_those_with_the_template(chat: LanguageModel) -> None:
    fits = "7" * (CONTEXT - len(chat.encode("7")) + 1)
    assert len(chat.encode(fits)) == CONTEXT
    with pytest.raises(PromptError, match="The prompt has"):
        chat.encode(f"{fits}7")
    with pytest.raises(PromptError, match="The prompt with its answer has"):
        chat.ask(fits, "5")


@pytest.mark.parametrize(("prompt", "answer"), [("", "Paris"), (" ", "Paris"), (ASKED, " ")])
def test_a_chat_with_nothing_said_is_refused(chat: LanguageModel, prompt: str, answer: str) -> None:
    with pytest.raises(PromptError, match="is empty"):
        chat.ask(prompt, answer)


def test_running_text_never_goes_through_the_template(chat: LanguageModel, not_chatting: LanguageModel) -> None:
    whole = (chat.tokenizer.bos_token_id, *plain_ids(chat, ASKED))
    assert chat.encode_text(ASKED) == not_chatting.encode_text(ASKED) == whole
    assert chat.encode_text(ASKED) != chat.encode(ASKED)


def test_a_template_is_used_in_a_chat_alone(not_chatting: LanguageModel) -> None:
    question = not_chatting.ask(ASKED, "Paris")
    assert question.prompt_ids == not_chatting.encode_text(ASKED)
    assert question.answer_ids == plain_ids(not_chatting, " Paris"), "with the space that belongs to the answer"


def test_a_tokenizer_without_a_template_is_refused_in_a_sentence(lm: LanguageModel, tiny_folder: Path) -> None:
    assert lm.tokenizer.chat_template is None
    with pytest.raises(PromptError) as refused:
        LanguageModel(lm.model, lm.tokenizer, "some/model", chat=True)
    assert str(refused.value) == "some/model has no chat template. Open it without --chat."
    with pytest.raises(PromptError, match="has no chat template"):
        load_model(str(tiny_folder), device="cpu", chat=True)


# --- where a text begins --------------------------------------------------------------------------------------------


@pytest.fixture
def gpt2_like(lm: LanguageModel) -> LanguageModel:
    """The tiny model with a tokenizer that has a `<bos>` and, as GPT-2's, does not put it there."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = copy.deepcopy(lm.tokenizer)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    assert tuple(tokenizer("The capital")["input_ids"]) == plain_ids(lm, "The capital")
    return LanguageModel(lm.model, tokenizer, "gpt2-like")


def test_a_tokenizer_that_does_not_begin_with_bos_gets_it_once(gpt2_like: LanguageModel, lm: LanguageModel) -> None:
    for text in ("The capital of France is", "7"):
        assert gpt2_like.encode(text) == lm.encode(text)
        assert gpt2_like.encode_text(text) == lm.encode_text(text)
    assert gpt2_like.ask("The capital of France is", "Ouagadougou") == lm.ask("The capital of France is", "Ouagadougou")


def test_bos_that_a_person_typed_is_not_doubled(gpt2_like: LanguageModel, lm: LanguageModel) -> None:
    bos = gpt2_like.tokenizer.bos_token
    assert gpt2_like.encode(f"{bos}The capital") == gpt2_like.encode("The capital") == lm.encode("The capital")


def test_a_tokenizer_without_bos_gets_none(gpt2_like: LanguageModel) -> None:
    gpt2_like.tokenizer.bos_token = None
    assert gpt2_like.encode("The capital") == plain_ids(gpt2_like, "The capital")


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


@pytest.mark.parametrize("amx", [False, True])
def test_auto_is_bfloat16_where_that_is_fast_and_on_the_cpu_only_for_weights_that_are_stored_so(
    monkeypatch: pytest.MonkeyPatch, amx: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert pick_dtype("auto", gpu) is torch.bfloat16
    assert pick_dtype("auto", cpu, torch.float32) is torch.float32
    assert pick_dtype("auto", cpu, torch.bfloat16) is (torch.bfloat16 if amx else torch.float32)
    assert pick_dtype("bfloat16", cpu) is torch.bfloat16


def test_torch_computes_on_the_cores_there_are_a_small_model_on_one_unless_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    use_cores(10**9)
    assert asked == []
    monkeypatch.delenv("OMP_NUM_THREADS")
    use_cores(10**9)
    use_cores(10**6)
    assert asked == [cores(), 1]
    assert 1 <= cores() <= (os.cpu_count() or 1)


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
