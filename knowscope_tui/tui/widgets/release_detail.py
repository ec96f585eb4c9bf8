"""What the release under the cursor holds, and which of it is meant: width, L0, layers."""

from __future__ import annotations

from dataclasses import replace

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input, Static

from knowscope_tui.core.dictionaries import Release, ReleaseState, span, width_label
from knowscope_tui.text import count, file_size, visible
from knowscope_tui.tui.messages import ChoiceMade, InputLeft
from knowscope_tui.tui.wanted import TypedChoice
from knowscope_tui.tui.widgets.common import Chip, NumberInput, RangeInput


def l0_words(release: Release, width: int | None) -> str:
    """The L0s that a release offers at a width: few by name, many by their ends."""
    entries = [entry for entry in release.entries if entry.site and width in (None, entry.width)]
    offered = sorted({entry.l0 for entry in entries if entry.l0 is not None})
    if not offered:
        return "its names do not say"
    few = " ".join(f"{l0:g}" for l0 in offered)
    values = few if len(offered) <= 6 else f"{offered[0]:g} to {offered[-1]:g}"
    return f"{values}, canonical {'by name' if any(entry.canonical for entry in entries) else 'near 100'}"


class ReleaseDetail(Vertical):
    """Posts `ChoiceMade` when another choice was made than `choice`."""

    def __init__(self, choice: TypedChoice) -> None:
        super().__init__(id="release-detail")
        self._release: Release | None = None
        self._choice = choice

    def compose(self) -> ComposeResult:
        yield Static("", id="release-facts")
        with Horizontal(id="choices"):
            yield Chip("width", "width", "How many features: of the widths that the release has.")
            yield Static("L0", classes="choice-label")
            yield NumberInput(self._choice.l0, placeholder="canonical", id="l0", compact=True, restrict=r"[\d.,]{0,8}")
            yield Static("layers", classes="choice-label")
            yield RangeInput(self._choice.layers, placeholder="all", id="layers", compact=True, restrict=r"[\d-]{0,9}")
        yield Static("", id="outcome")

    def on_mount(self) -> None:
        self.query_one("#l0").tooltip = "Mean active features per token: the closest is taken. Empty is canonical."
        self.query_one("#layers").tooltip = "Which layers: 10-20, or 12 alone. Empty is all of them."
        self._show_width()

    # --- what is chosen ---------------------------------------------------------------------------------------------

    def next_width(self) -> None:
        """Goes to the next width that the release has; after the last one, back to the usual one."""
        widths: list[int | None] = [None, *(self._release.widths if self._release is not None else ())]
        at = widths.index(self._choice.width) if self._choice.width in widths else -1
        self._choose(replace(self._choice, width=widths[(at + 1) % len(widths)]))
        self._show_width()

    def _choose(self, choice: TypedChoice) -> None:
        if choice != self._choice:
            self._choice = choice
            self.post_message(ChoiceMade(choice))

    def _show_width(self) -> None:
        width = self._choice.width
        self.query_one("#width", Chip).show("width", "usual" if width is None else width_label(width))

    @on(Input.Changed)
    def _chosen(self, event: Input.Changed) -> None:
        event.stop()
        l0, layers = self.query_one("#l0", Input).value, self.query_one("#layers", Input).value
        self._choose(replace(self._choice, l0=l0, layers=layers))

    @on(Input.Submitted)
    def _done(self, event: Input.Submitted) -> None:
        event.stop()
        self.post_message(InputLeft())

    # --- what it shows ----------------------------------------------------------------------------------------------

    def show(self, state: ReleaseState | None) -> None:
        self._release = state.release if state is not None else None
        self.border_title = visible(state.release.name) if state is not None else "Release"
        self.query_one("#release-facts", Static).update(self._facts(state) if state is not None else Content(""))

    def _facts(self, state: ReleaseState) -> Content:
        release = state.release
        kinds = " ".join(kind.value for kind in release.kinds)
        widths = " ".join(width_label(width) for width in release.widths) or "its names do not say"
        at_width = self._choice.width if self._choice.width in release.widths else None
        whole = count(len(release.entries), "dictionary", "dictionaries")
        held = (
            f"{state.converted} of {whole}, {file_size(state.converted_bytes)}"
            if state.converted
            else f"none of {whole}"
        )
        lines = [
            _line("repo", f"{visible(release.repo)}  for {visible(release.model)}"),
            _line("reads", f"{kinds} in {span(release.layers)}" if kinds else "no site that is known here"),
            _line("widths", widths, "L0", l0_words(release, at_width)),
            _line("here", held),
        ]
        if release.why_not:
            lines[-1] = Content.styled(f"✗ Cannot be used here: {visible(release.why_not)}.", "$warning")
        return Content("\n").join(lines)

    def show_outcome(self, text: str, *, problem: bool = False) -> None:
        """Says what pulling would bring, or why there is nothing to pull."""
        self.query_one("#outcome", Static).update(Content.styled(visible(text), "$warning" if problem else ""))


def _line(*pairs: str) -> Content:
    pieces: list[tuple[str, str]] = []
    for name, value in zip(pairs[::2], pairs[1::2], strict=True):
        pieces += [(f"{name:<8}" if not pieces else f"   {name} ", "$muted"), (value, "")]
    return Content.assemble(*pieces)
