"""Real clients of the hub of the tests, each in a process and an environment of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.hub.server import HubServer


def client_environment(
    server: HubServer | str, home: Path, *, token: str | None = None, offline: bool = False, **more: str
) -> dict[str, str]:
    """The environment of a process whose hub is `server` (or an address) and whose `HF_HOME` is `home`."""
    dropped = re.compile(r"HF_.*|HUGGING.*|TRANSFORMERS_(OFFLINE|CACHE)|(HTTPS?|ALL|NO)_PROXY|XDG_CACHE_HOME", re.I)
    kept = {name: value for name, value in os.environ.items() if not dropped.fullmatch(name)}
    told = {
        "HF_ENDPOINT": server if isinstance(server, str) else server.endpoint,
        "HF_HOME": str(home),
        "XDG_CACHE_HOME": str(home / "xdg"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1",
        "TOKENIZERS_PARALLELISM": "false",
        "WANDB_MODE": "disabled",
        "OMP_NUM_THREADS": "1",
    }
    optional = {"HF_TOKEN": token, "HF_HUB_OFFLINE": "1" if offline else None}
    return {**kept, **told, **{name: value for name, value in optional.items() if value is not None}, **more}


@dataclass(frozen=True)
class Outcome:
    """What a client's process came to. `error` is the class of what it raised, `bases` the classes it derives from."""

    value: Any
    error: str | None
    bases: tuple[str, ...]
    causes: tuple[str, ...]
    """Classes of the exceptions behind it, nearest first."""
    message: str
    stderr: str


_CLIENT = """
import json, os, sys
def _run(code):
    names = {}
    try:
        exec(compile(code, "<client>", "exec"), names)
        return {"value": names.get("value")}
    except BaseException as error:
        behind, causes = error.__cause__ or error.__context__, []
        while behind is not None and len(causes) < 10:
            causes.append(type(behind).__name__)
            behind = behind.__cause__ or behind.__context__
        bases = [base.__name__ for base in type(error).__mro__]
        return {"error": type(error).__name__, "bases": bases, "causes": causes, "message": str(error)}
_code, _answer = sys.argv[1:]
with open(_answer, "w") as stream:
    json.dump(_run(_code), stream)
"""


def run_client(code: str, env: Mapping[str, str], timeout: float = 120) -> Outcome:
    """Runs `code` in a process of its own with `env`. What it leaves in the variable `value` comes back as JSON does.

    An exception comes back in the outcome; a process that dies raises `subprocess.CalledProcessError`.
    """
    with TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-c", _CLIENT, code, str(answer)]
        done = subprocess.run(command, env=dict(env), timeout=timeout, check=True, capture_output=True, text=True)
        told = json.loads(answer.read_text())
    bases, causes = tuple(told.get("bases", ())), tuple(told.get("causes", ()))
    return Outcome(told.get("value"), told.get("error"), bases, causes, told.get("message", ""), done.stderr)
