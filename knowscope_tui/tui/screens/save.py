"""The save screen: a folder, progress, and how to load what was saved."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, ProgressBar, Static

from knowscope_tui.core.saved import SavedCheckpoint, SaveOptions
from knowscope_tui.session.protocol import Event, Failed, PlanSave, Progress, Save, Saved, SavePlanned, Stopped
from knowscope_tui.text import count, visible
from knowscope_tui.tui.desk import Desk
from knowscope_tui.tui.messages import InputLeft
from knowscope_tui.tui.microscope import Microscope
from knowscope_tui.tui.widgets.common import KeyBar, SafeInput, Tick
from knowscope_tui.tui.widgets.save_plan import save_plan_lines, saved_lines

DEFAULT_FOLDER = "./knowscope-edited"


class SaveScreen(ModalScreen[bool]):
    """Saves the edited model; dismissed with whether it was saved."""

    CSS_PATH = "dialog.tcss"
    AUTO_FOCUS = "#folder"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "stop / close", id="save.back", tooltip="Stop saving; otherwise close."),
        Binding("c", "copy", "copy command", id="save.copy", tooltip="Copy the command that loads the checkpoint."),
    ]

    def __init__(self, desk: Desk, scope: Microscope) -> None:
        super().__init__(id="save")
        self._desk, self._scope = desk, scope
        self._saved: SavedCheckpoint | None = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(
                Content(f"Saves the model with its {count(self._scope.edits, 'edit')} to a folder of its own.")
            )
            with Horizontal(classes="row"):
                yield Static("folder", classes="label")
                yield SafeInput(DEFAULT_FOLDER, id="folder", compact=True)
            yield Tick("put the facts' text into the record and the model card", id="include-facts", compact=True)
            with Horizontal(classes="row"):
                yield Static("hub", classes="label")
                yield SafeInput(placeholder="owner/name: upload it there too", id="hub", compact=True)
            yield Static("", id="save-plan")
            yield ProgressBar(id="save-progress", show_eta=False, total=1.0)
            yield Static("", id="save-state")
            with Horizontal(classes="buttons"):
                yield Button("Save", id="save-go", variant="primary", compact=True)
                yield Button("Copy command", id="save-copy", compact=True)
                yield Button("Close", id="save-close", compact=True)
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(".dialog").border_title = "Save"
        self.query_one("#save-progress").display = False
        self.query_one("#save-copy").display = False

        self._ask_plan()

    @on(Input.Changed, "#folder")
    def _ask_plan(self) -> None:
        """Says what a save to the folder as typed would write and link."""
        folder = self.query_one("#folder", Input).value.strip()
        if not folder or self._saved is not None:
            return
        self._desk.ask("save-plan", lambda revision: PlanSave(revision, folder), self._hear_plan, "Looking at the disk")

    def _hear_plan(self, event: Event) -> None:
        if isinstance(event, SavePlanned):
            self.query_one("#save-plan", Static).update(save_plan_lines(event.plan))
        elif isinstance(event, Failed):
            self.query_one("#save-plan", Static).update(Content.styled(visible(event.what), "$warning"))

    def _options(self) -> SaveOptions:
        repo = self.query_one("#hub", Input).value.strip()
        return SaveOptions(self.query_one(Tick).value, push_to_hub=repo or None)

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self._save()

    def _save(self) -> None:
        folder = self.query_one("#folder", Input).value.strip()
        if self._desk.asking("save"):
            return
        if not folder:
            self._say("The folder has no name. Type one that does not exist yet.", "$warning")
            return
        self._say("◌ Saving…  escape stops it", "$warning")
        options = self._options()
        bar = self.query_one(ProgressBar)
        bar.display = True
        bar.update(total=None)
        self._desk.ask("save", lambda revision: Save(revision, folder, options), self._hear, "Saving")

    def _hear(self, event: Event) -> None:
        match event:
            case Progress(doing=doing, fraction=fraction):
                self._say(f"◌ {visible(doing)}  escape stops it", "$warning")
                if fraction is not None:
                    self.query_one(ProgressBar).update(total=1.0, progress=fraction)
            case Saved(checkpoint=checkpoint):
                self._done(checkpoint)
            case Stopped():
                self._ended("Stopped; nothing was saved.", "$warning")
            case Failed():
                self.query_one("#save-plan", Static).update("")
                self._ended(visible(f"{event.what} {event.hint}".strip()), "$error")

    def _done(self, checkpoint: SavedCheckpoint) -> None:
        self._saved = checkpoint
        self._scope.saved()
        self.query_one(ProgressBar).display = False
        self.query_one("#save-plan").display = False
        self.query_one("#save-state", Static).update(saved_lines(checkpoint))
        self.query_one("#save-copy").display = True
        self.query_one("#save-close").focus()

    def _ended(self, text: str, style: str) -> None:
        self.query_one(ProgressBar).display = False
        self._say(text, style)
        self.query_one("#folder").focus()

    def _say(self, text: str, style: str) -> None:
        self.query_one("#save-state", Static).update(Content.styled(text, style))

    def action_copy(self) -> None:
        if self._saved is not None:
            self.app.copy_to_clipboard(self._saved.load_command)
            self.notify(
                "Copied, if this terminal lets programs copy. It can also be selected with the mouse.", markup=False
            )

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        match event.button.id:
            case "save-go":
                self._save()
            case "save-copy":
                self.action_copy()
            case _:
                self.action_back()

    @on(InputLeft)
    def action_back(self) -> None:
        if self._desk.asking("save"):
            self._desk.cancel("save")
        else:
            self._desk.drop("save-plan")
            self.dismiss(self._saved is not None)
