"""The command that makes a study's run again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

from knowscope_tui.core.studies import ALL, StudyName, StudyOptions
from knowscope_tui.session.protocol import SourceSpec


def study_command(word: str, source: SourceSpec, options: StudyOptions, facts: str | None, out: str) -> str:
    """The words to type: study `word` (a name, or all) on `source` with the fact file `facts`, written to `out`."""
    words = ["knowscope-tui", "study", word, "--out", out]
    if facts is not None:
        words += ["--facts", facts]
    words += ["--limit", "all" if options.limit is None else str(options.limit), "--seed", str(options.seed)]
    if options.llm_url and options.llm_model and word in (StudyName.INTERPRETABILITY.value, ALL):
        words += ["--llm-url", without_secrets(options.llm_url), "--llm-model", options.llm_model]
    return shlex.join([*words, *_layers(options), *_opened(source)])


def without_secrets(url: str) -> str:
    """`url` without a user's name and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _layers(options: StudyOptions) -> tuple[str, ...]:
    if options.layers is None:
        return ()
    return ("--layers", f"{min(options.layers)}-{max(options.layers)}")


def _opened(source: SourceSpec) -> Iterator[str]:
    """What opens the same model with the same dictionaries; what is as it would be without a word is left out."""
    standard = SourceSpec()
    if source.model is not None:
        yield from ("--model", source.model)
    for one in source.dictionaries or ():
        yield from ("--sae", str(one))
    if source.dictionaries == ():
        yield from ("--sae", "none")
    if source.choice.width is not None:
        yield from ("--width", str(source.choice.width))
    if source.choice.l0 is not None:
        yield from ("--l0", f"{source.choice.l0:g}")
    for name in ("device", "dtype", "sae_dtype"):
        if getattr(source, name) != getattr(standard, name):
            yield from (f"--{name.replace('_', '-')}", getattr(source, name))
    if source.chat:
        yield "--chat"
