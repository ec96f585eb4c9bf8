"""The demo's tokenizer: any text goes in and comes out again."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from knowscope_tui.demo.corpus import taught_facts


@pytest.fixture(scope="module")
def tokenizer(tiny_folder: Path) -> PreTrainedTokenizerBase:
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tiny_folder)
    return loaded


def test_special_tokens_have_gemmas_ids(tokenizer: PreTrainedTokenizerBase) -> None:
    assert [tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id] == [
        0,
        1,
        2,
        3,
    ]


@pytest.mark.parametrize("text", ["The capital of France is", "7", "東京", "a\tb\nc", "\x00", "▁", "  two  spaces "])
def test_any_text_is_spelled_and_read_back(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text.replace("▁", " ")


def test_a_subject_is_the_same_tokens_at_the_start_of_a_sentence_as_inside_one(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    inside = tokenizer("In France")["input_ids"]
    at_start = tokenizer("France")["input_ids"]
    assert inside[-len(at_start) + 1 :] == at_start[1:]


def test_no_token_holds_two_digits(tokenizer: PreTrainedTokenizerBase) -> None:
    pieces = [token for token in tokenizer.get_vocab() if not token.startswith("<0x")]
    assert [piece for piece in pieces if sum(map(str.isdigit, piece)) > 1] == []
    assert tokenizer.decode(tokenizer("4652", add_special_tokens=False)["input_ids"]) == "4652"


def test_the_answer_never_merges_with_its_prompt(tokenizer: PreTrainedTokenizerBase) -> None:
    for taught in taught_facts()[::11]:
        for prompt in (*taught.seen[:2], *taught.unseen[:1]):
            alone = tokenizer(prompt)["input_ids"]
            whole = tokenizer(f"{prompt} {taught.fact.answer}.")["input_ids"]
            assert whole[: len(alone)] == alone
