"""`knowscope-tui doctor`: what this machine has for the program, and whether a model behaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from knowscope_tui.cli.options import Shared, shared

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

EPILOG = """\b
Examples:
  knowscope-tui doctor
  knowscope-tui doctor --model demo --json

\b
With --model the model is opened, and its logits with empty hooks are
compared, bit for bit, with a plain forward's."""

MOST_CACHED = 12


@click.command(epilog=EPILOG, short_help="Versions, device, memory, what is cached, what is missing.")
@shared
def doctor(options: Shared) -> int:
    """Say what this machine has for the program: versions, devices, memory, what is cached and what is missing."""
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress

    with progress(as_json=options.json) as tell:
        tell("Looking around", None)
        from knowscope_tui.cli.diagnosis import diagnose

        found = diagnose()
        model = _try_model(options, tell) if options.model is not None else None
    if options.json:
        output.write_json(found | {"model": model})
    else:
        _show(output.console(), found, model)
    return 0 if model is None or model["exact"] else 1


def _try_model(options: Shared, tell: Any) -> dict[str, Any]:
    """Opens the model; the largest difference between its logits with empty hooks and a plain forward's."""
    scope = options.open(tell)
    tell("Comparing logits", None)
    difference = scope.parity()
    info = scope.info
    return {
        "name": info.name,
        "device": info.device,
        "dtype": info.dtype,
        "layers": info.n_layers,
        "parameters": info.parameters,
        "dictionaries": info.dictionaries,
        "largest_logit_difference": difference,
        "exact": difference == 0.0,
    }


def _show(console: Console, found: dict[str, Any], model: dict[str, Any] | None) -> None:
    from rich.text import Text

    from knowscope_tui.cli.render import QUIET, table

    made = table(("", "left"), ("", "left"))
    made.show_header = False
    for title, line in _lines(found, model):
        made.add_row(Text(title, style=QUIET), line)
    made.columns[1].no_wrap = False
    made.columns[1].overflow = "fold"
    console.print(made)


def _lines(found: dict[str, Any], model: dict[str, Any] | None) -> list[tuple[str, Text]]:
    from rich.text import Text

    from knowscope_tui.text import file_size, visible

    lines = [("python", Text(f"{found['python']} on {visible(found['platform'])}"))]
    for name, version in found["versions"].items():
        lines.append((name, Text(version) if version else Text("missing", style="yellow")))
    for device in found["devices"]:
        lines.append((device["device"], Text(_device(device))))
    total, available = found["memory"]["total_bytes"], found["memory"]["available_bytes"]
    room = f"{file_size(total)}" if total else "unknown"
    lines.append(("memory", Text(room + (f", {file_size(available)} available" if available else ""))))
    demo, config = found["demo"], found["config"]
    lines.append(
        (
            "demo",
            _ok(f"installed, {file_size(demo['bytes'])}")
            if demo["installed"]
            else _bad(f"not installed. {demo['hint']}"),
        )
    )
    state = f"{visible(config['file'])}: {visible(config.get('what', config['state']))}"
    lines.append(("config", _bad(state) if config["state"] == "broken" else Text(state)))
    for entry in found["cached"][:MOST_CACHED]:
        lines.append(("cached", Text(f"{visible(entry['name'])}, {file_size(entry['bytes'])}")))
    if len(found["cached"]) > MOST_CACHED:
        lines.append(("", Text(f"and {len(found['cached']) - MOST_CACHED} more")))
    if found["missing"]:
        lines.append(("not cached", Text(", ".join(found["missing"]))))
    if model is not None:
        lines.append(("model", Text(f"{visible(model['name'])}, {model['device']} {model['dtype']}")))
        exact = _ok("empty hooks change no bit of the logits")
        difference = f"empty hooks change the logits by up to {model['largest_logit_difference']:g}"
        lines.append(("parity", exact if model["exact"] else _bad(difference)))
    return lines


def _device(device: dict[str, Any]) -> str:
    from knowscope_tui.text import count, file_size, visible

    if "threads" in device:
        return f"{visible(device['name'])}, {count(device['threads'], 'thread')}"
    free, total = file_size(device["free_bytes"]), file_size(device["total_bytes"])
    return f"{visible(device['name'])}, {free} of {total} free, bfloat16 {'yes' if device['bfloat16'] else 'no'}"


def _ok(text: str) -> Text:
    from rich.text import Text

    return Text(f"✓ {text}", style="green")


def _bad(text: str) -> Text:
    from rich.text import Text

    return Text(f"✗ {text}", style="yellow")
