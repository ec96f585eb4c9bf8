"""Themes as TOML files: those that come with the program, and a person's own.

A file has `name` and `primary`, and any of textual's theme fields (`secondary`, `accent`, `dark`, …); `ansi = true`
makes it a theme of a terminal's own sixteen colours, written `ansi_blue`. A `[variables]` table sets textual's colour
variables. A broken file is a `ConfigError`, and every other theme still loads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli
from textual.color import Color, ColorParseError
from textual.theme import Theme

from knowscope_tui.errors import ConfigError
from knowscope_tui.paths import themes_folder

DEFAULT_THEME = "knowscope-dark"
SIXTEEN_COLOURS_THEME = "ansi-16"

_SIGNALS = ("primary", "secondary", "accent", "warning", "error", "success")
_COLOURS = (*_SIGNALS, "foreground", "background", "surface", "panel", "boost")
_ANSI_VARIABLES = {"ansi-background": "ansi_default", "ansi-foreground": "ansi_default"}
"""Variables that textual's widgets use in themes of sixteen colours, and that such themes must define."""

_KEYS = {*_COLOURS, "name", "dark", "ansi", "variables", "luminosity_spread", "text_alpha"}


@dataclass(frozen=True)
class LoadedThemes:
    """The themes that could be read, and what was wrong with those that could not."""

    themes: tuple[Theme, ...]
    errors: tuple[ConfigError, ...]


def bundled_folder() -> Path:
    """Where the program's own themes lie: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "themes"
    return inside if inside.is_dir() else package.parent / "themes"


def load_themes() -> LoadedThemes:
    """Every theme of both folders; a person's theme replaces a bundled one of the same name."""
    themes: dict[str, Theme] = {}
    errors: list[ConfigError] = []
    for folder in (bundled_folder(), themes_folder()):
        for path in sorted(folder.glob("*.toml")):
            try:
                theme = read_theme(path)
            except ConfigError as error:
                errors.append(error)
            else:
                themes[theme.name] = theme
    return LoadedThemes(tuple(themes.values()), tuple(errors))


def read_theme(path: Path) -> Theme:
    """The theme in the file `path`. Raises `ConfigError`."""
    try:
        table = tomli.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _broken(path, error.strerror or "it cannot be read") from None
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _broken(path, f"it is no TOML ({error})") from None
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise _broken(path, f"there is no setting called {unknown[0]!r}")
    for key in ("name", "primary"):
        if not isinstance(table.get(key), str) or not table[key].strip():
            raise _broken(path, f"{key!r} is missing")
    _check_colours(path, table)
    if table.get("ansi"):
        table["variables"] = {**_ANSI_VARIABLES, **table.get("variables", {})}
    return Theme(**table)


def _check_colours(path: Path, table: dict[str, Any]) -> None:
    for key in _COLOURS:
        value = table.get(key)
        if value is None:
            continue
        try:
            Color.parse(value)
        except (ColorParseError, TypeError, AttributeError):
            raise _broken(path, f"{key} = {value!r} is no colour") from None
    for key in ("dark", "ansi"):
        if not isinstance(table.get(key, False), bool):
            raise _broken(path, f"{key!r} must be true or false")
    for key in ("luminosity_spread", "text_alpha"):
        if not isinstance(table.get(key, 0.0), (int, float)):
            raise _broken(path, f"{key!r} must be a number")
    variables = table.get("variables", {})
    if not isinstance(variables, dict) or not all(isinstance(value, str) for value in variables.values()):
        raise _broken(path, "[variables] must hold texts")
    try:
        Theme(**table).to_color_system().generate()
    except Exception as error:  # Textual raises many kinds of error for a combination of colours it cannot mix.
        raise _broken(path, f"its colours do not work together ({type(error).__name__})") from None


def _broken(path: Path, reason: str) -> ConfigError:
    return ConfigError(f"Cannot use the theme file {str(path)!r}: {reason}.", "Correct it or move it away.")
