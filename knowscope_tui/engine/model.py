"""A causal language model with its tokenizer, and prompts as the tokens it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from knowscope_tui.engine.sites import check_family, embedding, n_layers, text_config
from knowscope_tui.errors import PromptError

JOINED_PUNCTUATION = frozenset(".,;:!?)]}’”…%")
"""Signs that follow a word without a space."""

LOGITS_BYTES = 1 << 28
"""What the logits of one forward may take, in float32, where there is a choice of how many rows to run at once."""


@dataclass(frozen=True)
class Question:
    """A prompt and the answer it is asked for, as tokens.

    `input_ids` is the prompt and all but the last token of the answer: the answer's tokens are predicted, teacher
    forced, at positions `len(prompt_ids) - 1` onwards.
    """

    prompt: str
    answer: str
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]

    @property
    def input_ids(self) -> tuple[int, ...]:
        return self.prompt_ids + self.answer_ids[:-1]

    @property
    def last(self) -> int:
        """Position of the prompt's last token, where the answer's first token is predicted."""
        return len(self.prompt_ids) - 1


class LanguageModel:
    """The model and its tokenizer. `source` is the folder or hub name it came from, `name` what people call it.

    With `chat` a prompt is what a user says, and the answer what the model begins its turn with. Raises `PromptError`
    when the tokenizer has no chat template for that.
    """

    def __init__(self, model: Any, tokenizer: Any, source: str, name: str | None = None, *, chat: bool = False) -> None:
        check_family(model)
        if chat and not getattr(tokenizer, "chat_template", None):
            raise PromptError(f"{name or source} has no chat template.", "Open it without --chat.")
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.source = source
        self.name = name or source
        self.chat = chat
        self._texts: dict[int, str] = {}

    @property
    def device(self) -> torch.device:
        """Where tokens go in: that of the embedding, where a model is spread over several."""
        return next(embedding(self.model).parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def n_layers(self) -> int:
        return n_layers(self.model)

    @property
    def context(self) -> int:
        return int(text_config(self.model).max_position_embeddings)

    def rows_at_once(self, positions: int, most: int) -> int:
        """How many rows of so many positions one forward may take: up to `most`, as the vocabulary allows."""
        vocabulary = int(text_config(self.model).vocab_size)
        return max(1, min(most, LOGITS_BYTES // (4 * vocabulary * max(positions, 1))))

    def encode(self, prompt: str) -> tuple[int, ...]:
        """Token ids of `prompt`, `<bos>` first where there is one, through the chat template if it is in use.

        Raises `PromptError` for an empty or too long one.
        """
        text = prompt.rstrip()
        if not text:
            raise PromptError("The prompt is empty.", "Type the beginning of a sentence that ends in the answer.")
        ids = self._ids(self._as_turn(text), special=False) if self.chat else self._ids(text)
        self._check_length(len(ids), "The prompt")
        return ids

    def encode_text(self, text: str, *, cut: bool = False) -> tuple[int, ...]:
        """Token ids of running text, `<bos>` first where the tokenizer has one, never through the chat template.

        What the context does not hold is left off with `cut`, and raises `PromptError` without.
        """
        ids = self._ids(text)[: self.context if cut else None]
        self._check_length(len(ids), "The text")
        return ids

    def _as_turn(self, text: str) -> str:
        """What the chat template makes of a user's words, up to where the model's own turn begins."""
        turn = [{"role": "user", "content": text}]
        return str(self.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))

    def leave_open(self, prompt: str) -> Question:
        """`prompt` with whatever one token follows; that one of the vocabulary stands in. Raises `PromptError`."""
        return Question(prompt.rstrip(), "", self.encode(prompt), (0,))

    def ask(self, prompt: str, answer: str) -> Question:
        """`prompt` and `answer` as tokens; the space between them belongs to the answer, and punctuation needs none.

        Raises `PromptError` when either is empty or both together do not fit the context.
        """
        prompt_ids = self.encode(prompt)
        if not answer.strip():
            raise PromptError("The answer is empty.", "Name the word or words that should follow the prompt.")
        if self.chat:
            answer_ids = self._ids(answer.strip(), special=False)
            self._check_length(len(prompt_ids) + len(answer_ids), "The prompt with its answer")
            return Question(prompt.rstrip(), answer.strip(), prompt_ids, answer_ids)
        space = "" if answer.strip()[0] in JOINED_PUNCTUATION else " "
        whole = self._ids(f"{prompt.rstrip()}{space}{answer.strip()}")
        if whole[: len(prompt_ids)] == prompt_ids:
            answer_ids = whole[len(prompt_ids) :]
        else:
            # A tokenizer that merges across the border: the answer's own tokens are what the model would have to say.
            answer_ids = self._ids(f"{space}{answer.strip()}", special=False)
        self._check_length(len(prompt_ids) + len(answer_ids), "The prompt with its answer")
        return Question(prompt.rstrip(), answer.strip(), prompt_ids, answer_ids)

    def _ids(self, text: str, special: bool = True) -> tuple[int, ...]:
        try:
            text.encode()
        except UnicodeEncodeError:
            # Bytes of a terminal or file that are no UTF-8 reach Python as lone surrogates.
            raise PromptError(f"{text!r} holds bytes that are no text.", "Type it as UTF-8.") from None
        ids = tuple(self.tokenizer(text, add_special_tokens=special)["input_ids"])
        bos = self.tokenizer.bos_token_id
        # GPT-2's tokenizer has a token to start with and does not put it there; its dictionaries are trained with it.
        return (bos, *ids) if special and bos is not None and ids[:1] != (bos,) else ids

    def _check_length(self, length: int, what: str) -> None:
        if length > self.context:
            raise PromptError(
                f"{what} has {length:,} tokens and the model's context holds {self.context:,}.", "Shorten it."
            )

    def text(self, token_id: int) -> str:
        """A single token as text, its leading space kept."""
        if token_id not in self._texts:
            self._texts[token_id] = self._text(token_id)
        return self._texts[token_id]

    def _text(self, token_id: int) -> str:
        piece = self.tokenizer.convert_ids_to_tokens([token_id])[0]
        if piece in self.tokenizer.all_special_tokens:
            return str(piece)
        return str(self.tokenizer.decode([token_id])) if "▁" not in piece else str(piece).replace("▁", " ")

    def tensor(self, rows: list[tuple[int, ...]]) -> Tensor:
        """Rows of token ids, right-padded to the longest: (batch, pos). Causal attention never sees the padding."""
        pad = self.tokenizer.pad_token_id or 0
        longest = max(map(len, rows))
        return torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows], device=self.device)
