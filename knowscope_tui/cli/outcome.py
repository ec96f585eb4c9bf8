"""How a run ends: exit codes, and errors as one sentence with what to do next.

0: done. 1: failed. 2: wrong usage, which is what click finds wrong with the words typed, and `UsageError` (a unit, a
site or a layer that does not exist). 130: stopped with Ctrl-C. With `--json` an error is one JSON object on stderr,
`{"error": {"kind", "what", "hint", "exit_code"}}`, and stdout stays empty.

A reader that goes away early (`| head`) has what it wanted: that is silent, and 0.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from knowscope_tui.errors import KnowscopeError, UsageError, device_full

DONE, FAILED, WRONG_USAGE, STOPPED = 0, 1, 2, 130

T = TypeVar("T")


def outcome(run: Callable[[], Any], *, as_json: bool) -> int:
    """Carries `run` out and says on stderr what went wrong, if anything did; the exit code."""
    try:
        code = run()
    except click.Abort as stop:
        _say("Stopped", str(stop) or "Stopped; nothing half-written was left behind.", "", STOPPED, as_json)
        return STOPPED
    except click.ClickException as error:
        return _click_error(error, as_json)
    except KnowscopeError as error:
        code = WRONG_USAGE if isinstance(error, UsageError) else FAILED
        _say(type(error).__name__, error.what, error.hint, code, as_json)
        return code
    except Exception as error:  # A fault of the program: a person gets a sentence, and a developer can ask for more.
        if os.environ.get("KNOWSCOPE_DEBUG"):
            raise
        full = device_full(error)
        if full is not None:
            _say(type(full).__name__, full.what, full.hint, FAILED, as_json)
            return FAILED
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        hint = "Please report this; KNOWSCOPE_DEBUG=1 shows where it happened."
        _say(type(error).__name__, f"Unexpected: {reason}", hint, FAILED, as_json)
        return FAILED
    return code if isinstance(code, int) else DONE


def flushed(run: Callable[[], T]) -> T | int:
    """Carries `run` out and writes what stdout still holds; a reader that went away ends it quietly."""
    try:
        result = run()
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout once more when it ends, and would complain: give it somewhere to write to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return result


def _click_error(error: click.ClickException, as_json: bool) -> int:
    hint = ""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"Try: {error.ctx.command_path} --help"
    _say("UsageError", error.format_message(), hint, error.exit_code, as_json)
    return error.exit_code


def _say(kind: str, what: str, hint: str, code: int, as_json: bool) -> None:
    if as_json:
        from knowscope_tui.cli.output import json_line

        click.echo(json_line({"error": {"kind": kind, "what": what, "hint": hint, "exit_code": code}}), err=True)
        return
    from knowscope_tui.text import visible

    plain = bool(os.environ.get("NO_COLOR"))
    sentence = visible(what.strip())
    click.echo(click.style(sentence, fg=None if plain or code == STOPPED else "red"), err=True)
    if hint:
        click.echo(visible(hint.strip()), err=True)
