"""Where dictionaries come from, and the set of them in use.

Two layouts on disk are read, both without pickle:

- sae-lens: a folder with `cfg.json` and `sae_weights.safetensors`;
- Gemma Scope: a folder with `params.npz`, usually `layer_N/width_W/average_l0_X/params.npz`.

A *source* folder is one such folder, or holds many below it; the layer is read from `cfg.json`'s hook name or from a
`layer_N` in the path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.engine.dictionary import Dictionary, make_dictionary
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.sites import n_layers, width
from knowscope_tui.errors import DictionaryError, UsageError

_CONFIG, _WEIGHTS, _PARAMS = "cfg.json", "sae_weights.safetensors", "params.npz"
_ARCHITECTURES = ("jumprelu", "standard")


class Library:
    """The dictionaries in use, one a site."""

    def __init__(self, dictionaries: Iterable[Dictionary] = ()) -> None:
        self._by_site = {dictionary.site: dictionary for dictionary in dictionaries}

    @property
    def sites(self) -> list[Site]:
        """In reading order: by layer, then by kind."""
        return sorted(self._by_site)

    @property
    def kinds(self) -> list[SiteKind]:
        return [kind for kind in SiteKind if any(site.kind is kind for site in self._by_site)]

    def __len__(self) -> int:
        return len(self._by_site)

    def at(self, site: Site) -> Dictionary:
        """The dictionary at `site`. Raises `UsageError` that says where there are some."""
        if site not in self._by_site:
            where = ", ".join(kind.value for kind in self.kinds) or "none: pass --sae KIND=FOLDER"
            raise UsageError(f"No dictionary is loaded at {site}.", f"Sites with dictionaries: {where}.")
        return self._by_site[site]


def check_unit(lm: LanguageModel, library: Library, unit: Unit) -> None:
    """Raises `UsageError` for a unit whose layer, dictionary or index does not exist."""
    if not 0 <= unit.site.layer < lm.n_layers:
        raise UsageError(f"There is no layer {unit.site.layer}.", f"This model has layers 0 to {lm.n_layers - 1}.")
    if unit.family is Family.FEATURE:
        library.at(unit.site).check_index(unit.index)
        return
    n_neurons = width(lm.model, SiteKind.MLP_ACT)
    if unit.index >= n_neurons:
        raise UsageError(
            f"There is no neuron {unit.index} in layer {unit.site.layer}.", f"It has neurons 0 to {n_neurons - 1}."
        )


def load_library(lm: LanguageModel, sources: Mapping[SiteKind, Path]) -> Library:
    """Loads every dictionary found in `sources` (site kind → folder) onto the model's device.

    Raises `DictionaryError`: nothing found, broken file, or a width or layer that the model does not have.
    """
    dictionaries: dict[Site, Dictionary] = {}
    for kind, folder in sources.items():
        for path in _find(folder):
            dictionary = _read(path, kind, lm)
            if dictionary.site in dictionaries:
                raise DictionaryError(
                    f"Two dictionaries for {dictionary.site} lie in {str(folder)!r}.",
                    "Name the folder of one width and one L0.",
                )
            dictionaries[dictionary.site] = dictionary
    return Library(dictionaries.values())


def _find(folder: Path) -> list[Path]:
    """The folders at or below `folder` that hold a dictionary."""
    if not folder.is_dir():
        raise DictionaryError(f"There is no dictionary folder {str(folder)!r}.", "Name it as --sae KIND=FOLDER.")
    found = sorted({path.parent for name in (_CONFIG, _PARAMS) for path in folder.rglob(name)})
    if not found:
        raise DictionaryError(
            f"No dictionary lies in {str(folder)!r}.",
            f"A dictionary is a folder with {_CONFIG} and {_WEIGHTS}, or with {_PARAMS}.",
        )
    return found


def _read(path: Path, kind: SiteKind, lm: LanguageModel) -> Dictionary:
    tensors, config = _read_params(path / _PARAMS) if (path / _PARAMS).is_file() else _read_sae_lens(path)
    site = _site_of(path, kind, config)
    if not 0 <= site.layer < n_layers(lm.model):
        raise DictionaryError(
            f"The dictionary {str(path)!r} is for layer {site.layer} and the model has {n_layers(lm.model)} layers.",
            "Pick the dictionaries of this model.",
        )
    dictionary = make_dictionary(
        site,
        {name: tensor.to(lm.device) for name, tensor in tensors.items()},
        str(path),
        subtract_b_dec=bool(config.get("apply_b_dec_to_input", True)),  # sae-lens's default
    )
    expected = width(lm.model, kind)
    if dictionary.d_in != expected:
        raise DictionaryError(
            f"The dictionary {str(path)!r} reads {dictionary.d_in} numbers, and {kind} of this model has {expected}.",
            "Pick the dictionaries of this model and site.",
        )
    return dictionary


def _site_of(path: Path, kind: SiteKind, config: Mapping[str, Any]) -> Site:
    """The site from the config's hook name, else from `layer_N` in the path."""
    metadata = config.get("metadata")
    hook = config.get("hook_name") or (metadata.get("hook_name") if isinstance(metadata, dict) else None)
    if isinstance(hook, str):
        site = Site.from_transformer_lens(hook)
        if site is None:
            raise DictionaryError(
                f"The dictionary {str(path)!r} reads {hook!r}, which is no site here.",
                f"Use one that reads {Site(0, kind).transformer_lens_name.replace('0', 'N', 1)!r}.",
            )
        if site.kind is not kind:
            raise DictionaryError(
                f"The dictionary {str(path)!r} reads {site.kind}, not {kind}.", f"Pass it as --sae {site.kind}=FOLDER."
            )
        return site
    layers = re.findall(r"layer_(\d+)", str(path))
    if not layers:
        raise DictionaryError(
            f"The layer of the dictionary {str(path)!r} is not known.", "Put it in a folder called layer_N."
        )
    return Site(int(layers[-1]), kind)


def _read_params(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Gemma Scope's npz. `allow_pickle` stays off: an object array is refused before any of it runs."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            tensors = {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files}
            return tensors, {"apply_b_dec_to_input": False}
    except Exception as error:  # NumPy, zipfile, zlib and tokenize each raise their own for corrupt bytes.
        pickled = "pickle" in str(error).lower()
        reason = "it holds pickled objects, which are never loaded" if pickled else "it is cut short or no npz file"
        raise DictionaryError(f"Cannot read {str(path)!r}: {reason}.", "Fetch it again.") from None


def _read_sae_lens(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        config = json.loads((path / _CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(path / _WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "it is cut short or not valid"
        if isinstance(error, FileNotFoundError):
            reason = f"it has no {_WEIGHTS}"
        raise DictionaryError(f"Cannot read the dictionary {str(path)!r}: {reason}.", "Fetch it again.") from None
    if not isinstance(config, dict):
        raise DictionaryError(f"{_CONFIG} of {str(path)!r} is no JSON object.", "Fetch it again.")
    architecture = config.get("architecture", "standard")
    activation = config.get("activation_fn", config.get("activation_fn_str", "relu"))
    if architecture not in _ARCHITECTURES or activation != "relu":
        architecture = architecture if architecture not in _ARCHITECTURES else activation
        raise DictionaryError(
            f"The dictionary {str(path)!r} is of architecture {architecture!r}.",
            f"Supported: {', '.join(_ARCHITECTURES)}.",
        )
    scales = (tensors[name] for name in ("scaling_factor", "finetuning_scaling_factor") if name in tensors)
    if config.get("normalize_activations") not in (None, False, "none") or any((s != 1).any() for s in scales):
        raise DictionaryError(
            f"The dictionary {str(path)!r} scales its input or features.", "Save it with the scales folded in."
        )
    return tensors, config
