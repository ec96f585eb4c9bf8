"""The optional configuration file, `config.toml` in `paths.config_folder()`. Command-line flags override it.

model = "~/models/gemma-2-2b"    # a folder or a hub name; "demo" or nothing is the embedded demo
device = "cuda"
dtype = "bfloat16"
theme = "knowscope-light"

[sae]                            # dictionaries of that model
resid_post = "~/saes/res"

[keymap]                         # binding id = keys; the help screen lists the ids
"app.quit" = "ctrl+q,f10"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli

from knowscope_tui.errors import ConfigError
from knowscope_tui.paths import config_file

_TEXTS = ("model", "device", "dtype", "theme")
_TABLES = ("sae", "keymap")


@dataclass(frozen=True)
class Settings:
    """What a person set for every session; None where nothing was set."""

    model: str | None = None
    device: str | None = None
    dtype: str | None = None
    theme: str | None = None
    sae: Mapping[str, str] = field(default_factory=dict)
    """Site kind → dictionary folder, for `model`."""
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
    _check(file, table)
    return Settings(**table)


def _check(file: Path, table: dict[str, Any]) -> None:
    for key, value in table.items():
        if key in _TEXTS:
            if not isinstance(value, str) or not value.strip():
                raise _broken(file, f"{key!r} must be a text")
        elif key in _TABLES:
            if not isinstance(value, dict) or not all(isinstance(entry, str) for entry in value.values()):
                raise _broken(file, f"[{key}] must hold texts")
        else:
            known = ", ".join((*_TEXTS, *_TABLES))
            raise _broken(file, f"there is no setting called {key!r} (there are: {known})")


def _broken(file: Path, reason: str) -> ConfigError:
    return ConfigError(f"Cannot use the configuration file {str(file)!r}: {reason}.", "Correct it or move it away.")
