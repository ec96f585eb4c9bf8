"""The optional configuration file, `config.toml` in `paths.config_folder()`. Command-line flags override it.

    model = "~/models/gemma-2-2b"    # a folder or a hub name; "demo" or nothing is the embedded demo
    sae = ["gemma-scope-2b-pt-res-canonical", "mlp_out=~/saes/mlp"]    # or ["none"]; without it the usual set
    width = "65k"                    # which dictionaries of a release: features, active ones (or "canonical"), layers
    l0 = 100
    layers = "10-20"
    chat = true                      # prompts go through the model's chat template

    device = "cuda"
    dtype = "bfloat16"
    sae_dtype = "bfloat16"           # or "float32"
    sae_memory = "8GiB"              # of the GPU, for encoders
    offline = true                   # nothing is fetched
    theme = "knowscope-light"

    [keymap]                         # binding id = keys; the help screen lists the ids
    "app.quit" = "ctrl+q,f10"

Words mean what they mean as options. `sae`, `width`, `l0`, `layers` and `chat` belong to `model`: where another model
is named on the command line they are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli

from knowscope_tui.errors import ConfigError
from knowscope_tui.paths import config_file

_TEXTS = ("model", "device", "theme")
_WORDS = ("width", "l0", "layers", "sae_memory")
_CHOICES = {"dtype": ("auto", "float32", "bfloat16", "float16"), "sae_dtype": ("bfloat16", "float32")}
_SWITCHES = ("chat", "offline")
_SETTINGS = ("sae", *_TEXTS, *_WORDS, *_CHOICES, *_SWITCHES, "keymap")


@dataclass(frozen=True)
class Settings:
    """What a person set for every session; None where nothing was set. What the words mean is read where they are
    used, as that of an option is."""

    model: str | None = None
    sae: tuple[str, ...] | None = None
    """Dictionaries of `model`, in the words of --sae."""
    width: str | None = None
    l0: str | None = None
    layers: str | None = None
    chat: bool = False
    device: str | None = None
    dtype: str | None = None
    sae_dtype: str | None = None
    sae_memory: str | None = None
    offline: bool = False
    theme: str | None = None
    keymap: Mapping[str, str] = field(default_factory=dict)
    """Binding id → comma-separated keys."""


def load_settings(path: Path | None = None) -> Settings:
    """The settings in `path` (default: the configuration file); a missing file sets nothing. Raises `ConfigError`."""
    file = config_file() if path is None else path
    try:
        table = tomli.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        raise _broken(file, error.strerror or "it cannot be read") from None
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _broken(file, f"it is no TOML ({error})") from None
    return Settings(**{key: _checked(file, key, value) for key, value in table.items()})


def _checked(file: Path, key: str, value: Any) -> Any:
    """`value` as `Settings` holds it. Raises `ConfigError` for one of another type, or an unknown key."""
    if key not in _SETTINGS:
        raise _broken(file, f"there is no setting called {key!r} (there are: {', '.join(_SETTINGS)})")
    if key in _TEXTS and not (isinstance(value, str) and value.strip()):
        raise _broken(file, f"{key!r} must be a text")
    if key in _CHOICES and value not in _CHOICES[key]:
        raise _broken(file, f"{key!r} must be one of {', '.join(_CHOICES[key])}")
    if key in _SWITCHES and not isinstance(value, bool):
        raise _broken(file, f"{key!r} must be true or false")
    if key in _WORDS:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise _broken(file, f"{key!r} must be a text or a number")
        return str(value)
    if key == "sae":
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise _broken(file, "'sae' must be a list of texts, each a release or KIND=FOLDER")
        return tuple(value)
    if key == "keymap" and not (isinstance(value, dict) and all(isinstance(keys, str) for keys in value.values())):
        raise _broken(file, "[keymap] must hold texts")
    return value


def _broken(file: Path, reason: str) -> ConfigError:
    return ConfigError(f"Cannot use the configuration file {str(file)!r}: {reason}.", "Correct it or move it away.")
