"""What was put into a model, and what that cost, for a person."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from knowscope_tui.cli.render import STRONG, table
from knowscope_tui.core.injection import InjectionReport
from knowscope_tui.core.proof import Figure
from knowscope_tui.text import count, duration, signed_percent, visible


def show_injection(console: Console, report: InjectionReport) -> None:
    """Facts learned, other facts kept, ΔPPL, steps and time."""
    how = f"a LoRA of rank {report.lora_rank}" if report.lora_rank else "all weights"
    head = f"{count(report.steps, 'step')} on {how}, learning rate {report.learning_rate:.2g}, "
    console.print(Text(head + duration(report.seconds), style=STRONG))
    made = table(("what", "left"), ("share", "right"), ("items", "right"))
    known, asked = report.held_out
    made.add_row("facts known in every taught phrasing", *_of(report.known, len(report.learned)))
    made.add_row("held-out phrasings known", *_of(known, asked))
    made.add_row("other facts kept", *_figure(report.kept))
    made.add_row("replayed facts kept", *_figure(report.replayed))
    ppl = report.delta_ppl
    made.add_row("ΔPPL on other text", "–" if ppl.value is None else signed_percent(ppl.value), f"{ppl.items:,}")
    console.print(made)
    if report.folder is not None:
        console.print(Text(f"Saved to {visible(report.folder)}.", style="green"))


def _of(known: int, asked: int) -> tuple[str, str]:
    return (f"{known / asked:.3f}" if asked else "–", f"{asked:,}")


def _figure(figure: Figure) -> tuple[str, str]:
    return ("–" if figure.value is None else f"{figure.value:.3f}", f"{figure.items:,}")
