"""The commands that make, check and undo a saved edit again."""

from __future__ import annotations

import shlex
from typing import Any

from knowscope_tui.core.record import Row, public_name

DEMO = "demo"


def reproduce(record: Row) -> str:
    """A line for each edit; the facts' text is in a file that only their owner has."""
    edits = record.get("edits") or ()
    return "\n".join(_edit(record, edit, last=number == len(edits)) for number, edit in enumerate(edits, start=1))


def _edit(record: Row, edit: Row, *, last: bool) -> str:
    settings: Row = record.get("settings") or {}
    words: list[Any] = ["knowscope-tui", "edit", "facts.jsonl"]
    base = public_name(record)
    if base != DEMO:
        words += ["--model", base]
    words += ["--method", edit.get("method", "positions")]
    if edit.get("top") is not None:
        words += [word for site in edit.get("sites") or () for word in ("--site", site)] + ["--top", edit["top"]]
    else:
        words += [word for unit in edit.get("units") or () for word in ("--unit", unit)]
    if edit.get("tau2") is not None:
        words += ["--tau2", edit["tau2"]]
    if str(edit.get("method", "")).startswith("refined"):
        words += ["--budget", edit.get("budget")]
    if edit.get("seed"):
        words += ["--seed", edit["seed"]]
    for name in ("neighbors", "retain"):
        if settings.get(name, "default") != "default":
            words += [f"--{name}", f"{name}.jsonl"]
    if record.get("chat"):
        words += ["--chat"]
    return shlex.join(str(word) for word in [*words, *(("--out", "edited") if last else ())])


def verify(record: Row, folder: str) -> str:
    """Measures every figure again from the files, and compares."""
    settings: Row = record.get("settings") or {}
    words = ["knowscope-tui", "verify", folder]
    if not record.get("facts"):
        words += ["--facts", "facts.jsonl"]
    for name in ("neighbors", "retain"):
        if settings.get(name, "default") != "default":
            words += [f"--{name}", f"{name}.jsonl"]
    return shlex.join(words)


def revert(folder: str) -> str:
    """Gives the base's weights back, bit for bit."""
    return shlex.join(["knowscope-tui", "revert", folder, "--out", "base"])
