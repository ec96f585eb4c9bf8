"""`knowscope-tui doctor`: what this machine has for the program, and whether a model behaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import click

from knowscope_tui.cli.options import Shared, Verb, shared
from knowscope_tui.errors import KnowscopeError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from knowscope_tui.core.checks import SelfTest
    from knowscope_tui.core.memory import MemoryPlan
    from knowscope_tui.session.protocol import ModelInfo

EPILOG = """\b
Examples:
  knowscope-tui doctor
  knowscope-tui doctor --model google/gemma-2-2b --plan
  knowscope-tui doctor --model demo --json

\b
With --model the model is opened and tested: its logits with empty hooks
are compared, bit for bit, with a plain forward's, and every dictionary's
L0 and variance explained with what its name says. With --plan nothing is
loaded: it says what would go where, and whether it fits.

\b
Exits with 1 when the test is not passed, or the plan does not fit."""

MOST_CACHED = 12


class Findings(NamedTuple):
    """What was looked into; None where it was not."""

    machine: dict[str, Any]
    plan: MemoryPlan | None = None
    model: ModelInfo | None = None
    test: SelfTest | None = None

    @property
    def well(self) -> bool:
        if self.test is not None:
            return self.test.passed
        return self.plan is None or not self.plan.problem


@click.command(cls=Verb, epilog=EPILOG, short_help="Versions, device, memory, what is cached, what is missing.")
@click.option("--plan", "only_plan", is_flag=True, help="Only say what would go where; load nothing.")
@shared
def doctor(options: Shared, only_plan: bool) -> int:
    """Say what this machine has for the program: versions, devices, memory, what is cached and what is missing."""
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress

    with progress(as_json=options.json) as tell:
        tell("Looking around", None)
        from knowscope_tui.cli.diagnosis import diagnose

        findings = Findings(diagnose())
    if only_plan or options.model is not None:
        findings = _examined(options, findings, only_plan)
    if options.json:
        output.write_json(_as_json(findings))
    else:
        _show(output.console(), findings)
    return 0 if findings.well else 1


def _examined(options: Shared, findings: Findings, only_plan: bool) -> Findings:
    """The plan, and unless `only_plan` the model and its self-test. What was found before an error is shown first."""
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress

    plans: list[MemoryPlan] = []
    try:
        with progress(as_json=options.json) as tell:
            if only_plan:
                return findings._replace(plan=options.plan(tell))
            scope = options.open(tell, plans.append)
            return findings._replace(plan=scope.info.plan, model=scope.info, test=scope.self_test(tell))
    except KnowscopeError:
        if not options.json:
            _show(output.console(), findings._replace(plan=plans[0] if plans else None), failed=True)
        raise


def _as_json(findings: Findings) -> dict[str, Any]:
    from knowscope_tui.cli.model_json import model_json
    from knowscope_tui.core.as_json import memory_json, self_test_json

    return findings.machine | {
        "plan": memory_json(findings.plan) if findings.plan else None,
        "model": model_json(findings.model) if findings.model else None,
        "self_test": self_test_json(findings.test) if findings.test else None,
    }


def _show(console: Console, findings: Findings, *, failed: bool = False) -> None:
    """`failed`: an error follows, which says what does not fit."""
    from rich.text import Text

    from knowscope_tui.cli.render import QUIET, table
    from knowscope_tui.cli.render_checks import show_plan, show_self_test

    made = table(("", "left"), ("", "left"))
    made.show_header = False
    for title, line in [*_lines(findings.machine), *(_model_lines(findings.model) if findings.model else ())]:
        made.add_row(Text(title, style=QUIET), line)
    made.columns[1].no_wrap = False
    made.columns[1].overflow = "fold"
    console.print(made)
    if findings.plan is not None:
        console.print()
        show_plan(console, findings.plan, verdict=not failed)
    if findings.test is not None:
        console.print()
        show_self_test(console, findings.test)


def _lines(found: dict[str, Any]) -> list[tuple[str, Text]]:
    from rich.text import Text

    from knowscope_tui.text import count, file_size, visible

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
    converted = found["converted"]
    here = f"{count(converted['dictionaries'], 'dictionary', 'dictionaries')}, {file_size(converted['bytes'])}"
    broken = f"{here}; {converted['broken']} broken: see `knowscope-tui cache verify`"
    lines.append(("converted", _bad(broken) if converted["broken"] else Text(here)))
    if found["missing"]:
        lines.append(("not here", Text(", ".join(found["missing"]))))
    return lines


def _model_lines(info: ModelInfo) -> list[tuple[str, Text]]:
    from rich.text import Text

    from knowscope_tui.text import count, visible

    number = count(len(info.dictionaries), "dictionary", "dictionaries")
    words = f"{visible(info.name)}, {visible(info.device)} {info.dtype}, {count(info.n_layers, 'layer')}, {number}"
    lines = [("model", Text(words + (", chat template" if info.chat else "")))]
    if info.trained_on:
        lines.append(("published as", Text(visible(info.trained_on))))
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
