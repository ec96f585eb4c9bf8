"""Plans and self-tests for a person: what goes where, and whether what was opened does what its name says."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from knowscope_tui.cli.render import QUIET, STRONG, table
from knowscope_tui.core.checks import SelfTest
from knowscope_tui.core.memory import MemoryPlan, Need, Place
from knowscope_tui.text import count, figure, file_size, visible

_PLACES = {Place.HOST: "memory", Place.MAPPED: "mapped from disk", Place.DISK: "disk, once"}


def plan_lines(plan: MemoryPlan) -> list[str]:
    """A plan in a line, and in another one what is to come from the hub first."""
    main = Place.DEVICE if Place.DEVICE in plan.room else Place.HOST
    parts = [_sized(plan, need) for need in plan.needs if need.place is main]
    parts += [f"{need.what} mapped from {file_size(need.bytes)} on disk" for need in _at(plan, Place.MAPPED)]
    lines = [f"{plan.device}: {', '.join(parts)}{_free(plan, main)}."]
    fetched = [_sized(plan, need) for need in _at(plan, Place.DISK)]
    if fetched:
        lines.append(f"To come first: {', '.join(fetched)}{_free(plan, Place.DISK)}.")
    return lines


def _at(plan: MemoryPlan, place: Place) -> list[Need]:
    return [need for need in plan.needs if need.place is place]


def _sized(plan: MemoryPlan, need: Need) -> str:
    """What takes how much; details after a comma are left out."""
    return f"{need.what.partition(',')[0]} {_size(plan, need)}"


def _size(plan: MemoryPlan, need: Need) -> str:
    partly = need.place is Place.DEVICE and need.what == "encoders" and need.bytes < plan.encoder_bytes
    return file_size(need.bytes) + (f" of {file_size(plan.encoder_bytes)}" if partly else "")


def _free(plan: MemoryPlan, place: Place) -> str:
    return f"; {file_size(plan.room[place])} free" if place in plan.room else ""


def show_plan(console: Console, plan: MemoryPlan, *, verdict: bool = True) -> None:
    """What goes where, how much of each place that takes, and with `verdict` whether it fits."""
    made = table(("what", "left"), ("where", "left"), ("takes", "right"), ("free there", "right"))
    for place in Place:
        needs = _at(plan, place)
        for need in needs:
            made.add_row(Text(visible(need.what)), _place(plan, place), _size(plan, need), "")
        if needs and place in plan.room:
            total, free = plan.total(place), plan.room[place]
            style = "red" if total > free else QUIET
            made.add_row(Text("in all", QUIET), _place(plan, place), file_size(total), Text(file_size(free), style))
    console.print(made)
    if verdict:
        sentence = f"✗ {visible(plan.problem)} {visible(plan.hint)}" if plan.problem else "✓ It fits."
        console.print(Text(sentence.strip(), style="red" if plan.problem else "green"))


def _place(plan: MemoryPlan, place: Place) -> Text:
    return Text(_PLACES.get(place) or visible(plan.device))


def show_self_test(console: Console, test: SelfTest) -> None:
    """Parity, a line for every dictionary, and what is wrong in full sentences."""
    console.print(_parity(test))
    console.print(_exact_effects(test))
    if test.dictionaries:
        console.print()
        made = table(
            ("site", "left"), ("features", "right"), ("dtype", "left"), ("L0", "right"), ("in its name", "right"),
            ("explained", "right"), ("", "left"),
        )  # fmt: skip
        for check in test.dictionaries:
            made.add_row(
                str(check.site),
                f"{check.features:,}",
                Text(visible(check.dtype)),
                figure(check.l0),
                "–" if check.expected_l0 is None else figure(check.expected_l0),
                f"{check.explained:.1%}",
                Text("✗ see below", "red") if check.problem else Text("✓", "green"),
            )
        console.print(made)
        on = f"Measured on {count(test.tokens, 'token')}; explained: the share of the variance."
        console.print(Text(on, style=QUIET))
    if test.problems or test.wrong:
        console.print()
    for problem in test.problems:
        console.print(Text(f"✗ {visible(problem)}", style="red"))
    for check in test.wrong:
        said = f"✗ {check.site}: {visible(check.problem)}"
        console.print(Text.assemble((said, "red"), (f" ({visible(check.source)})", QUIET)))
    if test.passed:
        console.print(Text("✓ Everything is as its name says.", style="green"))


def _parity(test: SelfTest) -> Text:
    if test.parity == 0:
        return Text.assemble(("parity  ", STRONG), ("✓ empty hooks change no bit of the logits", "green"))
    return Text.assemble(("parity  ", STRONG), (f"✗ empty hooks change the logits by up to {test.parity:g}", "red"))


def _exact_effects(test: SelfTest) -> Text:
    said = f"within {test.ablation_gap:.1g} of the whole model's, in probability"
    return Text.assemble(("effects ", STRONG), (said, QUIET))
