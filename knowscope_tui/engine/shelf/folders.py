"""Dictionaries in a person's own folders, in three layouts, all read without pickle:

- sae-lens: `cfg.json` and `sae_weights.safetensors`;
- Gemma Scope: `params.npz`, usually `layer_N/width_W/average_l0_X/params.npz`;
- Gemma Scope 2: `params.safetensors` with lower-case names, usually `resid_post/layer_N_width_W_l0_X/`.

A safetensors file is mapped as it lies. An npz cannot be; it is converted once, as a published dictionary is.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.shelf.interpret import Published
from knowscope_tui.engine.shelf.registry import l0_in, layer_in
from knowscope_tui.errors import DictionaryError

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
NPZ, SAFETENSORS = "params.npz", "params.safetensors"


def find(folder: Path) -> list[Path]:
    """The folders at or below `folder` that hold a dictionary. Raises `DictionaryError` when there is none."""
    if not folder.is_dir():
        raise DictionaryError(f"There is no dictionary folder {str(folder)!r}.", "Name it as --sae KIND=FOLDER.")
    found = sorted({path.parent for name in (CONFIG, NPZ, SAFETENSORS) for path in folder.rglob(name)})
    if not found:
        raise DictionaryError(
            f"No dictionary lies in {str(folder)!r}.",
            f"A dictionary is a folder with {CONFIG} and {WEIGHTS}, or with {NPZ} or {SAFETENSORS}.",
        )
    return found


def read(path: Path, kind: SiteKind) -> Published:
    """The dictionary in the folder `path`. Raises `DictionaryError` for what cannot be read."""
    layer = layer_in(str(path))
    site = None if layer is None else Site(layer, kind)
    if (path / NPZ).is_file():
        tensors, config = read_npz(path / NPZ), {"architecture": "jumprelu", "apply_b_dec_to_input": False}
    elif (path / SAFETENSORS).is_file():
        tensors, config = _read_gemma_scope_2(path)
    else:
        tensors, config = _read_sae_lens(path)
    return Published(config, tensors, str(path), site, l0_in(str(path)))


def read_npz(path: Path) -> dict[str, Tensor]:
    """Gemma Scope's npz. `allow_pickle` stays off: an object array is refused before any of it runs."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {_sae_lens_name(name): torch.from_numpy(np.array(arrays[name])) for name in arrays.files}
    except Exception as error:  # NumPy, zipfile, zlib and tokenize each raise their own for corrupt bytes.
        pickled = "pickle" in str(error).lower()
        reason = "it holds pickled objects, which are never loaded" if pickled else "it is cut short or no npz file"
        raise DictionaryError(f"Cannot read {str(path)!r}: {reason}.", "Fetch it again.") from None


def _read_gemma_scope_2(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = {_sae_lens_name(name): tensor for name, tensor in _mapped(path / SAFETENSORS).items()}
    if "affine_skip_connection" in tensors or "transcoder" in str(path):
        raise DictionaryError(
            f"{str(path)!r} is a transcoder: it reads one site and writes another.", "Use a dictionary."
        )
    config = {"architecture": "jumprelu", "apply_b_dec_to_input": False}
    published = _json(path / "config.json") if (path / "config.json").is_file() else {}
    hook = published.get("hf_hook_point_in")
    match = re.match(r"model\.layers\.(\d+)\.(.*)", hook) if isinstance(hook, str) else None
    if match is not None:
        kind = _GEMMA_SCOPE_2_HOOKS.get(match[2])
        if kind is not None:
            config["hook_name"] = Site(int(match[1]), kind).transformer_lens_name
    if isinstance(published.get("model_name"), str):
        config["model_name"] = published["model_name"]
    return tensors, config


_GEMMA_SCOPE_2_HOOKS = {
    "output": SiteKind.RESID_POST,
    "self_attn.o_proj.input": SiteKind.ATTN_Z,
    "post_feedforward_layernorm.output": SiteKind.MLP_OUT,
}


def _read_sae_lens(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    config = _json(path / CONFIG)
    if not (path / WEIGHTS).is_file():
        raise DictionaryError(f"Cannot read the dictionary {str(path)!r}: it has no {WEIGHTS}.", "Fetch it again.")
    return _mapped(path / WEIGHTS), config


def _mapped(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file, mapped: nothing is read before it is used."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "it is cut short or not valid"
        where = str(path.parent)
        raise DictionaryError(f"Cannot read the dictionary {where!r}: {reason}.", "Fetch it again.") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "it is cut short or not valid"
        raise DictionaryError(
            f"Cannot read the dictionary {str(path.parent)!r}: {reason}.", "Fetch it again."
        ) from None
    if not isinstance(content, dict):
        raise DictionaryError(f"{path.name} of {str(path.parent)!r} is no JSON object.", "Fetch it again.")
    return content


def _sae_lens_name(name: str) -> str:
    """Gemma Scope 2 writes w_enc where sae-lens writes W_enc."""
    return "W_" + name[2:] if name.startswith("w_") else name
