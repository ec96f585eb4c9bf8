"""The demo's own BPE tokenizer, trained here: ▁ for space, byte fallback, single digits and `<bos>`, as Gemma has them.

Unlike Gemma's it puts a ▁ before the first word too (SentencePiece's dummy prefix), so that a subject is the same token
at the start of a sentence as inside one: a small model has no data to learn that twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>")
"""In the order of their ids, which are Gemma's: 0, 1, 2, 3."""


def train_tokenizer(sentences: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer of `vocabulary` tokens at most that prepends `<bos>` and can spell any text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("▁"), "merged_with_next"),
            pre_tokenizers.Split(Regex(r"▁?\d"), "isolated"),
            pre_tokenizers.Split(Regex(r"[.,?!]"), "isolated"),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[*SPECIAL_TOKENS, *bytes_], show_progress=False, min_frequency=2
    )
    tokenizer.train_from_iterator(sentences, trainer)
    tokenizer = _without_special_bytes(tokenizer, bytes_)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
    )


def _without_special_bytes(tokenizer: Tokenizer, bytes_: list[str]) -> Tokenizer:
    """The same tokenizer with its byte tokens as plain vocabulary, so that decoding shows them."""
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] not in set(bytes_)]
    return Tokenizer.from_str(json.dumps(state))
