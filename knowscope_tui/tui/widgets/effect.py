"""The bottom panel: what the ablation does to the answer, and what the model goes on to say."""

from __future__ import annotations

from rich.cells import cell_len
from textual.content import Content
from textual.widget import Widget

from knowscope_tui.core.readings import Effect, UnitSet, relative_drop
from knowscope_tui.core.units import Unit
from knowscope_tui.text import count, cut, probability, share, token_text, visible


class EffectPanel(Widget):
    """Three lines: the figures, what the model generates, and what it generated before."""

    def __init__(self) -> None:
        super().__init__(id="effect")
        self.border_title = "Effect"
        self._effect: Effect | None = None
        self._before: Effect | None = None
        self._off: tuple[Unit, ...] = ()
        self._edits = 0
        self._settings = ""
        self._waiting = False
        self._step: UnitSet | None = None
        self._plan = ""

    def show_plan(self, line: str) -> None:
        """What is being loaded and where it goes; it stands here until the first effect."""
        self._plan = line
        self.refresh()

    def show(self, effect: Effect | None, before: Effect | None, edits: int) -> None:
        """`before` is what the fact showed before the first edit, when there are edits."""
        self._effect, self._before, self._edits = effect, before, edits
        self._waiting, self._plan, self._step = False, "", None
        self.refresh()

    def show_step(self, step: UnitSet) -> None:
        """What a search for the smallest set has switched off so far, and what that does."""
        self._step = step
        self.refresh()

    def show_switches(self, off: tuple[Unit, ...], settings: str) -> None:
        """What is switched off, and how; the effect of it is still to be measured."""
        if self._step is not None and self._step.units != off:
            self._step = None
        self._waiting = self._waiting or off != self._off
        self._off, self._settings = off, settings
        self.refresh()

    def render(self) -> Content:
        width = self.content_size.width
        if self._plan:
            return Content.styled(self._plan, "$muted")
        head = self._head(width)
        while len(head) > 1 and sum(piece.cell_length + 2 for piece in head) - 2 > width:
            head.pop()
        lines = [Content("  ").join(head)]
        if self._step is not None:
            lines.append(Content.styled("still looking; escape puts the switches back", "$muted"))
        elif self._effect is not None:
            prompt = self._effect.prompt
            lines.append(_said("generates", prompt, self._effect.continuation_after, width, "bold"))
            was = (self._before or self._effect).continuation_before
            lines.append(_said("was", prompt, was, width, "$muted"))
        return Content("\n").join(lines)

    def _head(self, width: int) -> list[Content]:
        effect = self._effect
        if not self._off and not self._edits:
            return [
                Content.styled("Nothing is switched off.", "bold"),
                Content.styled("space switches the unit under the cursor off", "$muted"),
            ]
        what = []
        if self._off:
            what.append(f"Switched off: {len(self._off)}")
        if self._edits:
            what.append(count(self._edits, "edit"))
        pieces = [Content.styled(" + ".join(what), "bold $warning")]
        if self._step is not None:
            step = self._step
            return [*pieces, *_figures(step.answer, step.p_before, step.p_after)]
        if effect is None or self._waiting:
            return [*pieces, Content.styled("measuring…", "$muted")]
        p_was = self._before.p_before if self._before is not None else effect.p_before
        rank_was = self._before.rank_before if self._before is not None else effect.rank_before
        pieces += _figures(effect.answer, p_was, effect.p_after)
        pieces.append(Content(f"rank {rank_was:,} → {effect.rank_after:,}"))
        names = " ".join(str(unit) for unit in self._off)
        room = width - sum(piece.cell_length + 2 for piece in pieces)
        if not self._off or cell_len(self._settings) > room:
            return pieces
        return [*pieces, Content.styled(cut(f"{self._settings}  {names}", room), "$muted")]


def _figures(answer: str, p_was: float, p_now: float) -> list[Content]:
    return [
        Content.styled(f"ΔProb {share(relative_drop(p_was, p_now))}", "bold"),
        Content(f"P({cut(token_text(answer), 14)}) {probability(p_was)} → {probability(p_now)}"),
    ]


def _said(label: str, prompt: str, continuation: str, width: int, style: str) -> Content:
    head = f"{label + ':':<11}"
    if not continuation:
        return Content.styled(f"{head}…", "$muted")
    said = visible(" ".join(continuation.split()) or continuation)
    room = width - len(head) - 2
    shown = visible(prompt)
    keep = max(room - len(said) - 1, 12)
    if len(shown) > keep:
        shown = "…" + shown[-(keep - 1) :]
    whole = cut(f"{shown} {said}", room)
    split = min(len(shown) + 1, len(whole))
    return Content.assemble((head, "$muted"), ("“" + whole[:split], "$muted"), (whole[split:], style), ("”", "$muted"))
