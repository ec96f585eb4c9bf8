"""The fact panel: the prompt with suggestions, the answer, what the model makes of it, and the tokens."""

from __future__ import annotations

from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.suggester import SuggestFromList
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.readings import Reading
from knowscope_tui.text import cut, probability, token_text, visible
from knowscope_tui.tui.messages import FactAsked
from knowscope_tui.tui.widgets.common import SafeInput
from knowscope_tui.tui.widgets.tokens import TokenStrip

ROOM_FOR_VERDICT = 96
"""Columns from which on the word that the model says instead has room beside the fact."""

SUGGESTIONS = 8


def matching_facts(facts: tuple[Fact, ...], text: str) -> list[Fact]:
    """Up to `SUGGESTIONS` facts whose prompt, subject or answer holds `text`; prompts that start with it come first."""
    wanted = text.strip().lower()
    if not wanted:
        return []
    starting, holding = [], []
    for fact in facts:
        if fact.prompt.lower().startswith(wanted):
            starting.append(fact)
        elif any(wanted in part.lower() for part in (fact.prompt, fact.subject, fact.answer)):
            holding.append(fact)
        if len(starting) == SUGGESTIONS:
            break
    return (starting + holding)[:SUGGESTIONS]


class PromptInput(SafeInput):
    """The prompt; up and down walk through the suggestions below it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "suggestion(1)", "Next", id="fact.next", show=False, tooltip="Go to the next suggested fact."),
        Binding(
            "up", "suggestion(-1)", "Previous", id="fact.previous", show=False, tooltip="Go to the suggestion above."
        ),
        Binding("enter", "submit", "look", id="fact.look", tooltip="Look at this fact, or take the marked suggestion."),
    ]

    def action_suggestion(self, step: int) -> None:
        panel = self.query_ancestor(FactPanel)
        panel.walk(step)

    def action_leave(self) -> None:
        if not self.query_ancestor(FactPanel).close_suggestions():
            super().action_leave()


class Suggestions(OptionList):
    """Facts that match what is typed. It never takes the focus, so that typing goes on."""

    can_focus = False


class FactPanel(Vertical):
    """Posts `FactAsked` when a fact was typed or picked."""

    def __init__(self) -> None:
        super().__init__(id="fact")
        self.border_title = "Fact"
        self._facts: tuple[Fact, ...] = ()
        self._matches: list[Fact] = []
        self._filled = ""
        self.touched = False

    def compose(self) -> ComposeResult:
        with Horizontal(id="fact-line"):
            yield PromptInput(placeholder="Type a fact without its answer, then press enter", id="prompt", compact=True)
            yield Static("answer", id="answer-label")
            yield SafeInput(placeholder="model's own", id="answer-input", compact=True)
            yield Static("", id="verdict")
        yield Suggestions(id="suggestions", compact=True)
        yield TokenStrip()

    def on_mount(self) -> None:
        self.query_one(Suggestions).display = False
        self._prompt.tooltip = "The fact's prompt: everything up to the answer."
        self._answer.tooltip = "The answer to measure. Empty means the model's own top token."

    @property
    def _prompt(self) -> PromptInput:
        return self.query_one("#prompt", PromptInput)

    @property
    def _answer(self) -> SafeInput:
        return self.query_one("#answer-input", SafeInput)

    @property
    def prompt(self) -> str:
        return self._prompt.value

    @property
    def answer(self) -> str | None:
        return self._answer.value.strip() or None

    def set_facts(self, facts: tuple[Fact, ...]) -> None:
        self._facts = facts
        self._prompt.suggester = SuggestFromList([fact.prompt for fact in facts], case_sensitive=False)

    def fill(self, fact: Fact) -> None:
        """Puts a known fact into the inputs."""
        with self.prevent(Input.Changed):
            self._prompt.value = fact.prompt
            self._answer.value = fact.answer
        self._filled = self._answer.value
        self._prompt.cursor_position = len(self._prompt.value)

    def show_reading(self, reading: Reading) -> None:
        self._answer.placeholder = token_text(reading.answer)
        self.query_one(TokenStrip).show(reading.tokens, reading.position)
        figures = f"P {probability(reading.p_answer)}  rank {reading.rank:,}"
        verdict: list[tuple[str, str]] = [(figures, "bold")]
        if not reading.says_answer and reading.top_tokens:
            if self.size.width >= ROOM_FOR_VERDICT:
                says = cut(token_text(reading.top_tokens[0].token), 12)
                verdict.append((f"  says {says}{'…' if reading.rank == 1 else ''}", "$warning"))
            self.query_one("#verdict").tooltip = "The answer is not what the model would say; this is its rank."
        else:
            self.query_one("#verdict").tooltip = "The answer is what the model would say."
        self.query_one("#verdict", Static).update(Content.assemble(*verdict))

    # --- suggestions ------------------------------------------------------------------------------------------------

    @on(Input.Changed, "#prompt")
    def _suggest(self, event: Input.Changed) -> None:
        self.touched = True
        if self._filled and self._answer.value == self._filled:
            self._answer.value = self._filled = ""
        self._matches = [fact for fact in matching_facts(self._facts, event.value) if fact.prompt != event.value]
        shown = self.query_one(Suggestions)
        shown.clear_options()
        shown.add_options([Option(_suggestion(fact)) for fact in self._matches])
        shown.highlighted = None
        shown.display = bool(self._matches) and self._prompt.has_focus

    def walk(self, step: int) -> None:
        """Marks the next or the previous suggestion."""
        shown = self.query_one(Suggestions)
        if not shown.display or not self._matches:
            return
        at = -1 if shown.highlighted is None else shown.highlighted
        at = len(self._matches) - 1 if at < 0 and step < 0 else (at + step) % len(self._matches)
        shown.highlighted = at

    def close_suggestions(self) -> bool:
        """Closes the list; whether it was open."""
        shown = self.query_one(Suggestions)
        was, shown.display = bool(shown.display), False
        return was

    def on_descendant_blur(self, event: events.DescendantBlur) -> None:
        if event.widget is self._prompt:
            self.close_suggestions()

    @on(OptionList.OptionSelected)
    def _picked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._take(event.option_index)

    def _take(self, index: int) -> None:
        self.close_suggestions()
        fact = self._matches[index]
        self.fill(fact)
        self.post_message(FactAsked(fact.prompt, fact.answer))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        shown = self.query_one(Suggestions)
        if event.input is self._prompt and shown.display and shown.highlighted is not None:
            self._take(shown.highlighted)
            return
        self.close_suggestions()
        self.post_message(FactAsked(self.prompt, self.answer))


def _suggestion(fact: Fact) -> Content:
    return Content.assemble(visible(fact.prompt), (" → ", "$muted"), (visible(fact.answer), "bold"))
