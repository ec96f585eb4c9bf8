"""Models from a folder or the hub onto a device, as plain Hugging Face loads them.

A hub name is brought here first and then loaded as a folder. Weights are read from safetensors alone, straight to
their device; no code that comes with a model runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.engine import hub
from knowscope_tui.engine.families import attention_implementation
from knowscope_tui.engine.host import use_cores
from knowscope_tui.engine.hub_errors import OutOfReach
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.errors import DeviceError, HubError, ModelNotLoaded
from knowscope_tui.paths import typed_path

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class ModelFiles:
    """A model that was found: what it was called, its configuration, and its folder (None: yet to be fetched)."""

    source: str
    config: Any
    folder: Path | None

    @property
    def repo(self) -> str:
        return hub.split_revision(self.source)[0]

    @property
    def revision(self) -> str | None:
        return hub.split_revision(self.source)[1]


def find_model(source: str, *, offline: bool = False, on_progress: OnProgress = silent) -> ModelFiles:
    """Finds `source`, a folder or owner/name[@revision], and reads its configuration; no weights are fetched.

    Raises `ModelNotLoaded` for what is no model or of a family that has no site table, and `HubError`.
    """
    hub.quiet()
    folder = _folder_of(source)
    if folder is None:
        repo, revision = hub.split_revision(source)
        place = hub.fetch(repo, ("config.json",), revision=revision, offline=offline, on_progress=on_progress)
    else:
        place = folder
    config = _config(source, place)
    attention_implementation(config.model_type)  # raises for a family that has no row
    return ModelFiles(source, config, folder)


def _folder_of(source: str) -> Path | None:
    """The folder that `source` names; None for a hub name."""
    folder = typed_path(source)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelNotLoaded(
                f"The folder {source!r} holds no model: it has no config.json.", "Name a model folder."
            )
        return folder
    name = hub.split_revision(source)[0]
    if source.startswith(("/", ".", "~")) or name.count("/") != 1:
        raise ModelNotLoaded(f"There is no folder {source!r}.", "Name a model folder, or a hub model as owner/name.")
    return None


def _config(source: str, folder: Path) -> Any:
    # transformers takes a second to import.
    from transformers import AutoConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    if not (folder / "config.json").is_file():
        raise ModelNotLoaded(f"{source!r} holds no model: it has no config.json.", "Name a model.")
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise not_loaded(source, error) from error


@dataclass(frozen=True)
class WeightSizes:
    """Bytes of a model's weights: `stored` in its files, `loaded` in the dtype asked for, `missing` here still."""

    stored: int
    loaded: int
    missing: int


def weight_sizes(files: ModelFiles, dtype: torch.dtype, *, offline: bool = False) -> WeightSizes:
    """How large the weights of `files` are. Raises `HubError` where neither the hub nor the cache can tell."""
    found = _weights_here(files) if files.folder is not None or offline else _weights_on_hub(files)
    stored = sum(file.size or 0 for file in found)
    loaded = stored * dtype.itemsize // stored_dtype(files).itemsize
    return WeightSizes(stored, loaded, sum(file.size or 0 for file in found if not file.cached))


def _weights_here(files: ModelFiles) -> list[hub.HubFile]:
    folder = files.folder or hub.cached(files.repo, hub.MODEL_FILES, revision=files.revision)
    single = folder / "model.safetensors"
    weights = [single] if single.is_file() else list(folder.glob("model*.safetensors"))
    return [hub.HubFile(path.name, path.stat().st_size, True) for path in weights]


def _weights_on_hub(files: ModelFiles) -> list[hub.HubFile]:
    try:
        listed = hub.listing(files.repo, hub.MODEL_FILES, revision=files.revision)
    except OutOfReach as out_of_reach:
        try:
            return _weights_here(files)
        except HubError:
            raise out_of_reach from None
    return [file for file in listed if file.name.endswith(".safetensors")]


def pick_device(device: str) -> torch.device:
    """The device that `device` names; `auto` is the first GPU, else the CPU. Raises `DeviceError`."""
    if device == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise DeviceError(f"There is no device called {device!r}.", "Use cpu, cuda or cuda:N.") from None
    if chosen.type not in ("cpu", "cuda", "mps") or (chosen.type == "cpu" and chosen.index):
        raise DeviceError(f"{device!r} is no device that models run on.", "Use cpu, cuda, cuda:N or mps.")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise DeviceError(
            f"{device} was asked for, and this machine has {found or 'no'} CUDA device{'s' if found > 1 else ''}.",
            "Use --device cpu, or check the driver with `nvidia-smi`.",
        )
    return chosen


def pick_dtype(dtype: str, device: torch.device, stored: torch.dtype = torch.float32) -> torch.dtype:
    """The dtype that `dtype` names. Raises `DeviceError`.

    `auto` is bfloat16 on a GPU. On the CPU it is float32, but for weights that are `stored` in bfloat16 on a processor
    that multiplies matrices of it (AMX): without, bfloat16 takes half the memory and about half as long again.
    """
    if dtype != "auto":
        if dtype not in DTYPES:
            raise DeviceError(f"There is no dtype called {dtype!r}.", f"Use auto, {', '.join(DTYPES)}.")
        return DTYPES[dtype]
    if device.type != "cpu":
        return torch.bfloat16
    return torch.bfloat16 if stored is torch.bfloat16 and multiplies_bfloat16() else torch.float32


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16 matrices."""
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(supported and supported())


def stored_dtype(files: ModelFiles) -> torch.dtype:
    """The dtype that the weights of `files` are kept in, by its configuration."""
    dtype: torch.dtype = getattr(files.config.get_text_config(), "dtype", None) or files.config.dtype or torch.float32
    return dtype


def load_model(
    source: str | ModelFiles,
    *,
    device: str = "auto",
    dtype: str = "auto",
    name: str | None = None,
    chat: bool = False,
    offline: bool = False,
    spread: bool = False,
    on_progress: OnProgress = silent,
) -> LanguageModel:
    """Loads a model; `spread` lays its layers over all GPUs.

    Raises `DeviceError`, `HubError`, or `ModelNotLoaded` with the reason.
    """
    chosen_device = pick_device(device)
    files = find_model(source, offline=offline, on_progress=on_progress) if isinstance(source, str) else source
    chosen_dtype = pick_dtype(dtype, chosen_device, stored_dtype(files))
    folder = files.folder or hub.fetch(
        files.repo, hub.MODEL_FILES, revision=files.revision, offline=offline, on_progress=on_progress
    )
    on_progress("Loading the model", None)
    model, tokenizer = _load(files, folder, chosen_dtype, _device_map(chosen_device, spread))
    use_cores(model.num_parameters())
    return LanguageModel(model, tokenizer, files.source, name, chat=chat)


def _device_map(device: torch.device, spread: bool) -> Any:
    """Where transformers puts weights as it reads them; None leaves them where they are mapped, on the CPU."""
    if spread:
        return "auto"
    return None if device.type == "cpu" else {"": device}


def _load(files: ModelFiles, folder: Path, dtype: torch.dtype, device_map: Any) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    attention = attention_implementation(files.config.model_type)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model, loaded = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            device_map=device_map,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **({"attn_implementation": attention} if attention else {}),
        )
    except torch.OutOfMemoryError:
        raise DeviceError(
            f"{files.source!r} does not fit on the device.", "Use --dtype bfloat16, another --device, or --device cpu."
        ) from None
    except Exception as error:
        raise not_loaded(files.source, error) from error
    if {"cpu", "disk"} & set(map(str, getattr(model, "hf_device_map", {}).values())) and device_map == "auto":
        raise DeviceError(
            f"{files.source!r} does not fit on the GPUs together.",
            "Use --dtype bfloat16, a smaller model, or --device cpu.",
        )
    lacking = sorted(map(str, (*loaded["missing_keys"], *loaded["mismatched_keys"])))
    if lacking:
        raise ModelNotLoaded(
            f"The model {files.source!r} lacks {len(lacking)} of its tensors, {lacking[0]} first.", "Fetch it again."
        )
    return model, tokenizer


def base_folder(source: str) -> Path:
    """The folder that holds the files of `source`: itself, or the hub's cached snapshot. Raises `ModelNotLoaded`."""
    folder = typed_path(source)
    if folder.is_dir():
        return folder
    repo, revision = hub.split_revision(source)
    try:
        return hub.cached(repo, hub.MODEL_FILES, revision=revision)
    except HubError:
        raise ModelNotLoaded(
            f"The files of {source!r} are not on this machine.", "Open it once first, or name its folder with --base."
        ) from None


def not_loaded(source: str, error: Exception) -> ModelNotLoaded:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return ModelNotLoaded(f"The model in {source!r} cannot be loaded: {reason}.", "Check that it is whole.")
