"""The help screen: every key, from the bindings themselves, and every word the screen uses."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.dom import DOMNode
from textual.screen import ModalScreen
from textual.widgets import Static

from knowscope_tui.tui.screens.edit import EditScreen
from knowscope_tui.tui.screens.library import LibraryScreen
from knowscope_tui.tui.screens.main import MainScreen
from knowscope_tui.tui.screens.quit import QuitScreen
from knowscope_tui.tui.screens.save import SaveScreen
from knowscope_tui.tui.screens.study import StudyScreen
from knowscope_tui.tui.widgets.common import KeyBar, SafeInput
from knowscope_tui.tui.widgets.edit_form import ThresholdInput
from knowscope_tui.tui.widgets.fact import PromptInput
from knowscope_tui.tui.widgets.frontier import FrontierPlot
from knowscope_tui.tui.widgets.heat import HeatMap
from knowscope_tui.tui.widgets.in_use import InUseTable
from knowscope_tui.tui.widgets.journal import JournalTable
from knowscope_tui.tui.widgets.leaks import LeaksTable
from knowscope_tui.tui.widgets.releases import ReleasesTable
from knowscope_tui.tui.widgets.units import UnitsTable

WORDS: tuple[tuple[str, str], ...] = (
    ("fact", "Something the model may know: after the prompt “The capital of France is” it says “Paris”."),
    ("P, rank", "The probability of the answer as what comes next, and its place among all tokens (1 = said)."),
    ("site", "Where the model is read: a layer and a kind, written 4.resid_post."),
    ("resid_post", "What a layer hands to the next one.  resid_mid: the same, before the layer's MLP."),
    ("mlp_out", "What a layer's MLP adds.  attn_z: what its attention heads gathered."),
    ("feature", "A direction that a sparse autoencoder found at a site, written 4.resid_post.f17."),
    ("dictionary", "A sparse autoencoder (SAE): it writes what stands at one site as a sum of few features."),
    ("release", "Dictionaries published together for one model, as sae-lens lists them."),
    ("width", "How many features a dictionary has: 16k is 16,384."),
    ("L0", "Mean number of a dictionary's features that fire at a token; canonical is the one closest to 100."),
    ("explained", "Fraction of variance explained (FVE): how much of a site its dictionary writes. 1.00 = all of it."),
    ("self-test", "Does looking leave the model's logits exactly as they are, and does each dictionary fit its name?"),
    ("neuron", "One inner unit of a layer's MLP (site mlp_act), written 4.mlp_act.n345."),
    ("activation", "How strongly a unit fires at the reading position. Bold units fire near their kind's maximum."),
    ("attribution", "About how much log P(answer) falls without the unit: gradient × activation. Fast, not exact."),
    ("ΔProb", "The share of P(answer) that is lost when this unit is switched off. 1.00 = all of it."),
    ("exact", "Measured with the unit off, not estimated; … stands until a unit has had its turn."),
    ("alone, beside", "ΔProb when only this unit goes off; or when those switched off are off already."),
    ("smallest set", "Few features that together bring P(answer) to 0.05. A still smaller set may exist."),
    ("zero, mean, half", "What a switched-off unit's activation becomes: nothing, its average, or scale 0.5."),
    ("at", "Where a unit is switched off: at the token units are read at, or at all tokens."),
    ("edit", "A change of the weights themselves, so that the fact is gone without anything switched off."),
    ("τ2", "The edit's threshold: weights whose part in the units exceeds this share of the largest are zeroed."),
    ("Rel, Gen", "Share of the edited facts, and of paraphrases the edit never saw, whose answer is gone."),
    ("Loc", "Share of other known facts whose answer stayed: same subject, same relation, unrelated."),
    ("ΔPPL", "How much worse the model got at text about other things."),
    ("frontier", "What each τ2 takes away and what it damages; the knee is the best one within the limits."),
    ("leak test", "A way to ask that the edit was not made for: it leaks when the answer still comes out."),
    ("journal", "Every edit of the open model. Each can be undone, redone, switched off and on, bit for bit."),
)
GROUPS: tuple[tuple[str, type[DOMNode]], ...] = (
    ("Main screen", MainScreen),
    ("Units", UnitsTable),
    ("Heat map (tab goes there)", HeatMap),
    ("Fact", PromptInput),
    ("Inputs", SafeInput),
    ("Edit screen", EditScreen),
    ("τ2", ThresholdInput),
    ("Frontier", FrontierPlot),
    ("Leak tests", LeaksTable),
    ("Journal", JournalTable),
    ("Save screen", SaveScreen),
    ("Study screen", StudyScreen),
    ("Library screen", LibraryScreen),
    ("Releases", ReleasesTable),
    ("Dictionaries in use", InUseTable),
    ("Quit", QuitScreen),
)


def own_bindings(owner: type[DOMNode]) -> list[Binding]:
    """The bindings that a class declares itself."""
    declared: list[BindingType] = owner.__dict__.get("BINDINGS", [])
    return [binding for binding in declared if isinstance(binding, Binding)]


class HelpScreen(ModalScreen[None]):
    """Scrolls with the arrow keys; escape closes it."""

    CSS_PATH = "dialog.tcss"
    AUTO_FOCUS = "#help-body"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark", "close", "close", id="help.close", tooltip="Close the help."),
    ]

    def __init__(self, keymap: dict[str, str]) -> None:
        super().__init__(id="help")
        self._keymap = keymap

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog", id="help-dialog"), VerticalScroll(id="help-body"):
            yield Static(self._text(), id="help-text")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#help-dialog").border_title = "Help"
        self.query_one("#help-dialog").border_subtitle = "↑ ↓ scroll · escape closes"

    def _text(self) -> Content:
        lines = [
            Content(
                "Type a fact, see where the model keeps it, switch units off and watch the answer, edit it out, save."
            ),
            Content(
                "The mouse works too: click units, tokens, heat map cells, headings and the words above the table."
            ),
        ]
        from knowscope_tui.tui.app import KnowscopeApp

        everywhere: tuple[tuple[str, type[DOMNode]], ...] = (("Everywhere", KnowscopeApp), ("Help", HelpScreen))
        for title, owner in GROUPS + everywhere:
            lines += [Content(""), Content.styled(title, "bold $primary")]
            lines += [self._key_line(binding) for binding in own_bindings(owner)]
        lines += [Content(""), Content.styled("Words", "bold $primary")]
        lines += [Content.assemble((f"  {word:<17}", "bold"), meaning) for word, meaning in WORDS]
        return Content("\n").join(lines)

    def _key_line(self, binding: Binding) -> Content:
        keys = self._keymap.get(binding.id or "", binding.key).split(",")
        shown = " ".join(self.app.get_key_display(binding.with_key(key.strip())) for key in keys)
        return Content.assemble((f"  {shown:<17}", "bold $accent"), binding.tooltip, (f"  {binding.id}", "$muted"))

    def action_close(self) -> None:
        self.dismiss(None)
