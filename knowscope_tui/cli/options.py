"""Options that every verb shares, and the words that more than one option understands.

The core's values are imported when a word is read, not before: making their classes would slow down every `--help`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from knowscope_tui.errors import UsageError
from knowscope_tui.paths import typed_path

if TYPE_CHECKING:
    from knowscope_tui.cli.progress import OnProgress
    from knowscope_tui.core.facts import Fact
    from knowscope_tui.core.units import SiteKind, Unit
    from knowscope_tui.session.protocol import SourceSpec
    from knowscope_tui.session.scope import Scope

T = TypeVar("T")


def unit(text: str) -> Unit:
    """A unit as it is written everywhere: 4.resid_post.f17."""
    from knowscope_tui.core.units import Unit

    return Unit.parse(text)


def site_kind(text: str) -> SiteKind:
    """A kind of site: resid_post, mlp_out, …"""
    from knowscope_tui.core.units import SiteKind

    return SiteKind.parse(text)


def dictionaries(text: str) -> tuple[SiteKind, str]:
    """Dictionaries of one kind of site: KIND=FOLDER."""
    kind, equals, folder = text.partition("=")
    if not equals or not folder:
        raise click.BadParameter(f"{text!r} is not KIND=FOLDER, as in resid_post=saes/res.")
    return site_kind(kind), folder


def share(text: str) -> float:
    """A finite number, 0 or more."""
    number = finite(text)
    if number is None or number < 0:
        raise click.BadParameter(f"{text!r} is no number of 0 or more.")
    return number


def finite(text: str) -> float | None:
    """The finite number that `text` spells, if it spells one."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def utf8(text: str) -> str:
    """A prompt or an answer; bytes that are no UTF-8 are refused."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise click.BadParameter("it is not valid UTF-8.")
    return text


class Shared(NamedTuple):
    """What a person chose by the options of every verb; None and () where nothing was said."""

    model: str | None
    sae: tuple[tuple[SiteKind, str], ...]
    device: str | None
    dtype: str | None
    json: bool

    def source(self) -> SourceSpec:
        """What to open: the options, and where they are silent the configuration file."""
        from knowscope_tui.config import load_settings
        from knowscope_tui.core.units import SiteKind
        from knowscope_tui.session.protocol import SourceSpec

        settings = load_settings()
        model, dictionaries = self.model, dict(self.sae)
        if model is None and settings.model is not None:
            model = settings.model
            dictionaries = {SiteKind.parse(kind): folder for kind, folder in settings.sae.items()} | dictionaries
        return SourceSpec(
            model=None if model == "demo" else model,
            dictionaries=tuple(dictionaries.items()),
            device=self.device or settings.device or "auto",
            dtype=self.dtype or settings.dtype or "auto",
        )

    def open(self, on_progress: OnProgress) -> Scope:
        """Opens it. torch is loaded here."""
        source = self.source()
        on_progress("Loading torch", None)
        from knowscope_tui.session.scope import Scope

        return Scope.open(source, on_progress)


_MODEL = click.option(
    "--model", metavar="MODEL", type=str, help="A folder or a hub name; without it (or as `demo`) the embedded demo."
)
_OTHERS = (
    click.option(
        "--sae",
        metavar="KIND=FOLDER",
        type=dictionaries,
        multiple=True,
        help="Dictionaries of one kind of site; may be repeated.",
    ),
    click.option("--device", metavar="DEVICE", type=str, help="auto, cpu, cuda or cuda:N."),
    click.option(
        "--dtype",
        type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
        help="auto is bfloat16 on a GPU and float32 on the CPU.",
    ),
)
as_json = click.option("--json", "json", is_flag=True, help="Write the result as JSON.")


def shared(command: Callable[..., T]) -> Callable[..., T]:
    """Gives a verb the shared options, and hands them to it as one `Shared`, its first argument."""

    @wraps(command)
    def run(model: str | None, **rest: Any) -> T:
        return command(_taken(model, rest), **rest)

    return _with(run, (_MODEL, *_OTHERS, as_json))


def shared_beside_model(command: Callable[..., T]) -> Callable[..., T]:
    """The same for a verb that has an option called `model` itself, which it is given too."""

    @wraps(command)
    def run(model: str | None, **rest: Any) -> T:
        return command(_taken(model, rest), model=model, **rest)

    return _with(run, (*_OTHERS, as_json))


def _taken(model: str | None, rest: dict[str, Any]) -> Shared:
    return Shared(model, rest.pop("sae"), rest.pop("device"), rest.pop("dtype"), rest.pop("json"))


def _with(command: Callable[..., T], options: Sequence[Callable[..., Any]]) -> Callable[..., T]:
    for option in reversed(options):
        command = option(command)
    return command


def facts_in(file: str) -> list[Fact]:
    """The facts of a file that was named on the command line. Raises `FactFileError`."""
    from knowscope_tui.core.facts import read_facts

    return read_facts(typed_path(file))


def own_fact(prompt: str | None, answer: str | None) -> list[Fact]:
    """The fact that --prompt and --answer spell, if any. Raises `UsageError` for half of one."""
    if prompt is None and answer is None:
        return []
    if prompt is None or answer is None:
        raise UsageError("--prompt and --answer belong together.", 'Give both: --prompt "…" --answer "…".')
    from knowscope_tui.core.facts import Fact

    return [Fact(prompt=prompt, answer=answer)]
