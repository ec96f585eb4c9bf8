"""The commands that make, check and undo a saved edit again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

from knowscope_tui.core.record import DELTA, Row, public_name

DEMO = "demo"


def reproduce(record: Row) -> str:
    """The command of a single edit; the facts' text is in a file that only their owner has.

    Several edits were made one after the other on one open model, each planned on what those before it had left: their
    commands are told as comments, and what makes the same weights is the delta.
    """
    edits: Sequence[Row] = record.get("edits") or ()
    if len(edits) == 1 and edits[0].get("parameters"):
        return _edit(record, edits[0], "facts.jsonl", out=True)
    told = [f"# {number}. {_made(record, edit, number)}" for number, edit in enumerate(edits, start=1)]
    return "\n".join([*told, shlex.join(["knowscope-tui", "apply", f"edited/{DELTA}", "--out", "again"])])


def _made(record: Row, edit: Row, number: int) -> str:
    """How one of several edits was made."""
    if not edit.get("parameters"):
        return f"a delta file, method {' '.join(str(edit.get('method', 'unknown')).split())}"
    return _edit(record, edit, f"facts-{number}.jsonl", out=False)


def _edit(record: Row, edit: Row, facts: str, *, out: bool) -> str:
    settings: Row = record.get("settings") or {}
    words: list[Any] = ["knowscope-tui", "edit", facts]
    base = public_name(record)
    if base != DEMO:
        words += ["--model", base, *_sae(edit)]
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
    return shlex.join(" ".join(str(word).split()) for word in [*words, *(("--out", "edited") if out else ())])


def _sae(edit: Row) -> list[str]:
    """The releases that its features come from, and which of them; a folder is its owner's affair."""
    used = [one for one in edit.get("dictionaries") or () if one.get("release")]
    words = [word for release in dict.fromkeys(str(one["release"]) for one in used) for word in ("--sae", release)]
    for option, pattern in (("--width", r"width_(\w+?)(?:/|$)"), ("--l0", r"average_l0_(\d+)")):
        told = {found[1] for one in used if (found := re.search(pattern, str(one["source"])))}
        words += [option, told.pop()] if len(told) == 1 else []
    return words


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
