"""A causal language model with its tokenizer, on a device, as plain Hugging Face loads it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from knowscope_tui.engine.sites import check_family, n_layers
from knowscope_tui.errors import DeviceError, ModelNotLoaded, PromptError
from knowscope_tui.paths import typed_path

JOINED_PUNCTUATION = frozenset(".,;:!?)]}’”…%")
"""Signs that follow a word without a space."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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
    """The model and its tokenizer. `source` is the folder or hub name it came from, `name` what people call it."""

    def __init__(self, model: Any, tokenizer: Any, source: str, name: str | None = None) -> None:
        check_family(model)
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.source = source
        self.name = name or source

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def n_layers(self) -> int:
        return n_layers(self.model)

    @property
    def context(self) -> int:
        return int(self.model.config.max_position_embeddings)

    def encode(self, prompt: str) -> tuple[int, ...]:
        """Token ids of `prompt`, `<bos>` first. Raises `PromptError` for an empty or too long one."""
        text = prompt.rstrip()
        if not text:
            raise PromptError("The prompt is empty.", "Type the beginning of a sentence that ends in the answer.")
        ids = self._ids(text)
        self._check_length(len(ids), "The prompt")
        return ids

    def ask(self, prompt: str, answer: str) -> Question:
        """`prompt` and `answer` as tokens; the space between them belongs to the answer, and punctuation needs none.

        Raises `PromptError` when either is empty or both together do not fit the context.
        """
        prompt_ids = self.encode(prompt)
        if not answer.strip():
            raise PromptError("The answer is empty.", "Name the word or words that should follow the prompt.")
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
        return tuple(self.tokenizer(text, add_special_tokens=special)["input_ids"])

    def _check_length(self, length: int, what: str) -> None:
        if length > self.context:
            raise PromptError(
                f"{what} has {length:,} tokens and the model's context holds {self.context:,}.", "Shorten it."
            )

    def text(self, token_id: int) -> str:
        """A single token as text, its leading space kept."""
        piece = self.tokenizer.convert_ids_to_tokens([token_id])[0]
        if piece in self.tokenizer.all_special_tokens:
            return str(piece)
        return str(self.tokenizer.decode([token_id])) if "▁" not in piece else str(piece).replace("▁", " ")

    def tensor(self, rows: list[tuple[int, ...]]) -> Tensor:
        """Rows of token ids, right-padded to the longest: (batch, pos). Causal attention never sees the padding."""
        pad = self.tokenizer.pad_token_id or 0
        longest = max(map(len, rows))
        return torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows], device=self.device)


def pick_device(device: str) -> torch.device:
    """The device that `device` names; `auto` is the first GPU, else the CPU. Raises `DeviceError`."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise DeviceError(f"There is no device called {device!r}.", "Use cpu, cuda or cuda:N.") from None
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise DeviceError(
            f"{device} was asked for, and this machine has {found or 'no'} CUDA device{'s' if found > 1 else ''}.",
            "Use --device cpu, or check the driver with `nvidia-smi`.",
        )
    return chosen


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The dtype that `dtype` names; `auto` is bfloat16 on a GPU and float32 on the CPU. Raises `DeviceError`."""
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if dtype not in DTYPES:
        raise DeviceError(f"There is no dtype called {dtype!r}.", f"Use auto, {', '.join(DTYPES)}.")
    return DTYPES[dtype]


def load_model(source: str, *, device: str = "auto", dtype: str = "auto", name: str | None = None) -> LanguageModel:
    """Loads `source`, a folder or a hub name, with eager attention (softcapping needs it) and no code of its own.

    Raises `DeviceError`, or `ModelNotLoaded` with the reason.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    chosen_device = pick_device(device)
    chosen_dtype = pick_dtype(dtype, chosen_device)
    folder = typed_path(source)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ModelNotLoaded(f"The folder {source!r} holds no model: it has no config.json.", "Name a model folder.")
    if not folder.is_dir() and (source.startswith(("/", ".", "~")) or source.count("/") > 1):
        raise ModelNotLoaded(f"There is no folder {source!r}.", "Name a model folder, or a hub model as owner/name.")
    # transformers takes a second to import and is needed from here on only.
    from huggingface_hub.utils import logging as hub_logging
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    hub_logging.get_logger().setLevel("ERROR")
    where = str(folder) if folder.is_dir() else source
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
        model, loaded = AutoModelForCausalLM.from_pretrained(
            where,
            dtype=chosen_dtype,
            attn_implementation="eager",
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        model.to(chosen_device)
    except Exception as error:
        raise _not_loaded(source, folder.is_dir(), error) from error
    lacking = sorted(map(str, (*loaded["missing_keys"], *loaded["mismatched_keys"])))
    if lacking:
        raise ModelNotLoaded(
            f"The model {source!r} lacks {len(lacking)} of its tensors, {lacking[0]} first.", "Fetch it again."
        )
    return LanguageModel(model, tokenizer, source, name)


def base_folder(source: str) -> Path:
    """The folder that holds the files of `source`: itself, or the hub's cached snapshot. Raises `ModelNotLoaded`."""
    folder = typed_path(source)
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError, OSError):
        raise ModelNotLoaded(
            f"The files of {source!r} are not on this machine.", "Open it once first, or name its folder with --base."
        ) from None


def _not_loaded(source: str, is_folder: bool, error: Exception) -> ModelNotLoaded:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    if is_folder:
        return ModelNotLoaded(f"The model in {source!r} cannot be loaded: {reason}.", "Check that the folder is whole.")
    return ModelNotLoaded(
        f"The model {source!r} cannot be loaded: {reason}.",
        "Name a folder, or a model that the hub has and that this machine can reach.",
    )
