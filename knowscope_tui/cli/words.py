"""The words that options understand. A word that means nothing is said at once, before anything is loaded.

The core's values are imported when a word is read, not before: making their classes would slow down every `--help`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from knowscope_tui.errors import UsageError
from knowscope_tui.paths import typed_path

if TYPE_CHECKING:
    from knowscope_tui.core.facts import Fact
    from knowscope_tui.core.units import Family, SiteKind, Unit

NO_DICTIONARIES = "none"
"""What --sae says where a model is opened without dictionaries."""


def unit(text: str) -> Unit:
    """A unit as it is written everywhere: 4.resid_post.f17."""
    from knowscope_tui.core.units import Unit

    return Unit.parse(text)


def site_kind(text: str) -> SiteKind:
    """A kind of site: resid_post, mlp_out, …"""
    from knowscope_tui.core.units import SiteKind

    return SiteKind.parse(text)


def families_of(kinds: str) -> tuple[Family, ...]:
    """The families of units in a comma-separated list. Raises `UsageError`."""
    from knowscope_tui.core.units import Family

    known = {family.plural: family for family in Family}
    words = [word.strip() for word in kinds.split(",") if word.strip()]
    for word in words:
        if word not in known:
            raise UsageError(f"There are no units called {word!r}.", f"Use {' or '.join(known)}, or both.")
    if not words:
        raise UsageError("--kinds names no units.", f"Use {' or '.join(known)}, or both.")
    return tuple(dict.fromkeys(known[word] for word in words))


def probability(text: str) -> float:
    """A probability, above 0 and below 1; 5% is understood."""
    number = _of_one(text)
    if number is None or not 0 < number < 1:
        raise click.BadParameter(f"{text!r} is no probability between 0 and 1 (as in 0.05).")
    return number


def share(text: str) -> float:
    """A finite number, 0 or more."""
    number = finite(text)
    if number is None or number < 0:
        raise click.BadParameter(f"{text!r} is no number of 0 or more.")
    return number


def up_to_one(text: str) -> float:
    """A number from 0 to 1; 5% is understood."""
    number = _of_one(text)
    if number is None or not 0 <= number <= 1:
        raise click.BadParameter(f"{text!r} is no number from 0 to 1 (as in 0.5).")
    return number


def portion(text: str) -> float:
    """A share above 0 and up to 1; 1% is understood."""
    number = _of_one(text)
    if number is None or not 0 < number <= 1:
        raise click.BadParameter(f"{text!r} is no share above 0 and up to 1 (as in 0.01).")
    return number


def some_text(text: str) -> str:
    """Words that are not empty; bytes that are no UTF-8 are refused."""
    if not utf8(text).strip():
        raise click.BadParameter("it is empty.")
    return text.strip()


def finite(text: str) -> float | None:
    """The finite number that `text` spells, if it spells one."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _of_one(text: str) -> float | None:
    """The finite number that `text` spells, of a hundred where it is written with %."""
    number = finite(text.removesuffix("%"))
    return number / 100 if number is not None and text.endswith("%") else number


def utf8(text: str) -> str:
    """A prompt or an answer; bytes that are no UTF-8 are refused."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise click.BadParameter("it is not valid UTF-8.")
    return text


# --- words about dictionaries, kept as they were typed: a configuration file says the same ones (see `source`) -------


def dictionaries(text: str) -> str:
    """A release, KIND=FOLDER, or `none`."""
    from knowscope_tui.core.dictionaries import DictionarySource

    if text != NO_DICTIONARIES:
        DictionarySource.parse(text)
    return text


def width(text: str) -> str:
    """A number of features, as 16k."""
    from knowscope_tui.core.dictionaries import parse_width

    parse_width(text)
    return text


def l0(text: str) -> str:
    """`canonical`, or a number of active features."""
    from knowscope_tui.core.dictionaries import parse_l0

    parse_l0(text)
    return text


def layers(text: str) -> str:
    """A first and a last layer, as 10-20."""
    from knowscope_tui.core.dictionaries import parse_layers

    parse_layers(text)
    return text


def memory(text: str) -> str:
    """An amount of memory, as 8GiB."""
    from knowscope_tui.core.dictionaries import parse_bytes

    parse_bytes(text)
    return text


def limit(text: str) -> str:
    """A number of things, or `all`."""
    number_or_all(text)
    return text


def number_or_all(text: str) -> int | None:
    """A whole number above 0; None for `all`."""
    if text == "all":
        return None
    if not text.isascii() or not text.isdigit() or not int(text):
        raise click.BadParameter(f"{text!r} is no number above 0, and not the word all.")
    return int(text)


# --- facts ----------------------------------------------------------------------------------------------------------


def facts_in(file: str) -> list[Fact]:
    """The facts of a file that was named on the command line, of any form. Raises `FactFileError`."""
    from knowscope_tui.cli.output import note
    from knowscope_tui.core.fact_formats import read_fact_set

    found = read_fact_set(typed_path(file))
    for remark in found.remarks:
        note(remark)
    return list(found.facts)


def own_fact(prompt: str | None, answer: str | None) -> list[Fact]:
    """The fact that --prompt and --answer spell, if any. Raises `UsageError` for half of one."""
    if prompt is None and answer is None:
        return []
    if prompt is None or answer is None:
        raise UsageError("--prompt and --answer belong together.", 'Give both: --prompt "…" --answer "…".')
    from knowscope_tui.core.facts import Fact

    return [Fact(prompt=prompt, answer=answer)]


def share_or_auto(text: str) -> float | str:
    """A share of the largest value, or the word auto."""
    return text if text == "auto" else share(text)
