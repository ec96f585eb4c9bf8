"""From what was typed and what is configured to what is opened. A typed word wins over a configured one.

What a configuration file says about dictionaries and about chat belongs to the model that it names: beside another
model it is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from knowscope_tui.cli.options import Shared
from knowscope_tui.cli.words import NO_DICTIONARIES
from knowscope_tui.config import Settings, load_settings
from knowscope_tui.core.dictionaries import (
    Choice,
    DictionarySource,
    parse_bytes,
    parse_l0,
    parse_layers,
    parse_width,
)
from knowscope_tui.errors import ConfigError, UsageError
from knowscope_tui.paths import config_file
from knowscope_tui.session.protocol import SourceSpec

DEMO = "demo"


def source_of(typed: Shared) -> SourceSpec:
    """What to open. Raises `ConfigError` or `UsageError`."""
    base = configured(load_settings())
    if typed.model is not None or base.model is None:
        base = replace(base, model=_model(typed.model), dictionaries=None, choice=Choice(), chat=False)
    return replace(
        base,
        dictionaries=named(typed.sae) if typed.sae else base.dictionaries,
        choice=choice(typed.width, typed.l0, typed.layers, base.choice),
        device=typed.device or base.device,
        dtype=typed.dtype or base.dtype,
        sae_dtype=typed.sae_dtype or base.sae_dtype,
        sae_memory=base.sae_memory if typed.sae_memory is None else parse_bytes(typed.sae_memory),
        chat=base.chat if typed.chat is None else typed.chat,
        offline=typed.offline or base.offline,
    )


def configured(settings: Settings) -> SourceSpec:
    """What `settings` name by themselves. Raises `ConfigError` for a word that means nothing."""
    standard = SourceSpec()
    try:
        return SourceSpec(
            model=_model(settings.model),
            dictionaries=None if settings.sae is None else named(settings.sae),
            choice=choice(settings.width, settings.l0, settings.layers),
            device=settings.device or standard.device,
            dtype=settings.dtype or standard.dtype,
            sae_dtype=settings.sae_dtype or standard.sae_dtype,
            sae_memory=None if settings.sae_memory is None else parse_bytes(settings.sae_memory),
            chat=settings.chat,
            offline=settings.offline,
        )
    except UsageError as error:
        raise ConfigError(
            f"Cannot use the configuration file {str(config_file())!r}: {error.what}", error.hint
        ) from None


def choice(width: str | None, l0: str | None, layers: str | None, otherwise: Choice = Choice()) -> Choice:
    """Which dictionaries of a release these words mean; what they leave open is as in `otherwise`."""
    return Choice(
        width=otherwise.width if width is None else parse_width(width),
        l0=otherwise.l0 if l0 is None else parse_l0(l0),
        layers=otherwise.layers if layers is None else parse_layers(layers),
    )


def named(words: Sequence[str]) -> tuple[DictionarySource, ...]:
    """The dictionaries that `words` name, () for `none`. Raises `UsageError`."""
    if NO_DICTIONARIES not in words:
        return tuple(dict.fromkeys(DictionarySource.parse(word) for word in words))
    if set(words) != {NO_DICTIONARIES}:
        raise UsageError("No dictionaries and some were asked for at once.", "Leave out `none`, or the others.")
    return ()


def _model(name: str | None) -> str | None:
    return None if name == DEMO else name
