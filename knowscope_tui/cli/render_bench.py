"""A measurement for a person: what was timed, seconds and ratios, and what they are to be held against."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from knowscope_tui.bench.result import Result, Seconds, Setting
from knowscope_tui.cli.render import QUIET, STRONG, table
from knowscope_tui.text import count, figure, file_size, visible

AGREEING = 1e-4
"""Ways that differ by no more than this share of a probability computed the same thing, in float32."""


def show_bench(console: Console, result: Result) -> None:
    """What was timed on what, a row a task, and the notes without which the numbers cannot be read."""
    for line in _setting(result.setting):
        console.print(Text(line, style=QUIET))
    console.print()
    console.print(_tasks(result))
    console.print()
    for note in _notes(result):
        console.print(note)


def _setting(setting: Setting) -> list[str]:
    shape, machine = setting.shape, setting.machine
    device = visible(machine["gpu"] or machine["cpu"])
    threads = f", {count(machine['threads'], 'thread')}" if machine["gpu"] is None else ""
    return [
        f"{setting.shape_name}: {count(shape.layers, 'layer')} of {shape.hidden:,}, vocabulary {shape.vocabulary:,}, "
        f"{shape.parameters / 1e6:,.0f} M parameters, {setting.dtype}",
        f"{count(setting.dictionaries, 'dictionary', 'dictionaries')} of {shape.width:,} features at "
        f"{', '.join(setting.kinds)}; {count(setting.tokens, 'token')}",
        f"on {device}{threads}; torch {setting.versions['torch']}, sae-lens {setting.versions['sae-lens']}",
    ]


def _tasks(result: Result) -> Table:
    """A column a task: seconds by each way, seconds that cannot be gone below, and the ratios of the two."""
    ranking, toggles, reading = result.ranking, result.toggles, result.reading
    columns = (f"rank {ranking.units:,} exactly", "toggle one live", "first reading")
    made = table(("", "left"), *((title, "right") for title in columns))
    ours, hooks, saelens = zip(*(_by_way(task.seconds) for task in (ranking, toggles)), strict=True)
    made.add_row("knowscope", *ours, time(reading.seconds), style=STRONG)
    made.add_row("plain hooks", *hooks, "")
    made.add_row("sae-lens", *saelens, "")
    made.add_row("plain forward", "", "", time(reading.forward))
    made.add_row("floor", time(ranking.floor), time(toggles.floor), "", style=QUIET)
    made.add_section()
    made.add_row("faster than hooks", _ratio(ranking.seconds.vs_hooks), _ratio(toggles.vs_hooks), "")
    made.add_row("faster than sae-lens", _ratio(ranking.seconds.vs_saelens), _ratio(toggles.vs_saelens), "")
    made.add_row("over the floor", _ratio(ranking.over_floor), _ratio(toggles.over_floor), "", style=QUIET)
    made.add_row("over a plain forward", "", "", _ratio(reading.over_forward), style=QUIET)
    return made


def _by_way(seconds: Seconds) -> tuple[str, str, str]:
    return time(seconds.knowscope), time(seconds.hooks), time(seconds.saelens)


def _notes(result: Result) -> list[Text]:
    ranking, rates = result.ranking, result.rates
    lines = [
        f"Peers were timed on {ranking.sampled:,} of the {ranking.units:,} units, a whole forward each, and scaled up.",
        f"The {ranking.units:,} units by layer: {' '.join(map(str, ranking.per_layer))}.",
        f"The first time that a unit was toggled took {time(result.toggles.first)} (median).",
    ]
    if ranking.peak_extra_bytes is not None:
        lines.append(f"Ranking took {file_size(ranking.peak_extra_bytes)} of memory beside model and dictionaries.")
    lines.append(
        f"The floor is the weights above a unit, read at {rates.bytes_per_second / 1e9:,.1f} GB/s or multiplied at "
        f"{rates.operations_per_second / 1e12:,.2f} TFLOP/s, as measured here."
    )
    return [Text(line, style=QUIET) for line in lines] + [_agreement(result.disagreement, result.setting.dtype)]


def _agreement(disagreement: float, dtype: str) -> Text:
    said = f"the ways' probabilities differ by at most {disagreement:.1e} of their size"
    if dtype == "float32":
        fine = disagreement <= AGREEING
        return Text(f"{'✓' if fine else '✗'} {said}", style="green" if fine else "red")
    return Text(f"In {dtype} {said}.", style=QUIET)


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{figure(value)}×"


def time(seconds: float | None) -> str:
    """Seconds as a reader says them."""
    if seconds is None:
        return "–"
    if seconds >= 1:
        return f"{figure(seconds)} s"
    return f"{figure(seconds * 1e3)} ms" if seconds >= 1e-3 else f"{figure(seconds * 1e6)} µs"
