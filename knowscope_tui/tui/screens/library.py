"""The library screen: find releases of dictionaries, pull them, put them to use, and see how those in use do."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Button, Static

from knowscope_tui.text import count, visible
from knowscope_tui.tui import messages
from knowscope_tui.tui.catalogue import Shelf
from knowscope_tui.tui.librarian import Librarian
from knowscope_tui.tui.microscope import Microscope
from knowscope_tui.tui.selftest import SelfTester
from knowscope_tui.tui.widgets.common import KeyBar
from knowscope_tui.tui.widgets.in_use import InUsePanel, InUseTable
from knowscope_tui.tui.widgets.release_detail import ReleaseDetail
from knowscope_tui.tui.widgets.releases import ReleasesPanel, ReleasesTable
from knowscope_tui.tui.widgets.work import WorkLine

RELEASES, IN_USE = "releases", "in use"
_OF_RELEASES = {"pull", "use", "mark", "width", "models", "search", "choices"}


class LibraryScreen(Screen[None]):
    """Two views: the releases there are, and the dictionaries in use. A pull goes on when the screen is left with l."""

    CSS_PATH = "library.tcss"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pull", "pull", id="library.pull", tooltip="Download and convert what is chosen."),
        Binding("u", "use", "use", id="library.use", tooltip="Open what is chosen beside the model; pull it first."),
        Binding("i", "view", "view", id="library.view", tooltip="Show the dictionaries in use, or the releases."),
        Binding("t", "test", "self-test", id="library.test", tooltip="Test again whether all is as it should be."),
        Binding("space", "mark", "mark", id="library.mark", tooltip="Mark the release, to pull or use several."),
        Binding("w", "width", "width", id="library.width", tooltip="Choose how many features a dictionary has."),
        Binding("c", "choices", "L0, layers", id="library.choices", tooltip="Type an L0 or layers."),
        Binding("slash", "search", "search", id="library.search", tooltip="Type words that a release must hold."),
        Binding("m", "models", "models", id="library.models", tooltip="List releases of the open model, or all."),
        Binding("escape", "back", "stop / back", id="library.back", tooltip="Stop what runs; otherwise go back."),
        Binding("l", "leave", "leave", id="library.leave", tooltip="Go back to the fact; a pull goes on."),
        Binding("question_mark", "app.help", "help", id="library.help", tooltip="Show every key and every word."),
    ]

    def __init__(self, scope: Microscope, librarian: Librarian, tester: SelfTester, view: str = RELEASES) -> None:
        super().__init__(id="library")
        self._scope, self._librarian, self._tester, self._view = scope, librarian, tester, view
        self._shelf = librarian.catalogue
        self._warned_of: tuple[str, ...] = ()

    def compose(self) -> ComposeResult:
        yield Static("", id="library-title")
        with Vertical(id="releases-view"):
            yield ReleasesPanel()
            yield ReleaseDetail(self._shelf.choice)
        yield InUsePanel()
        yield WorkLine("", id="library-said")
        with Horizontal(id="library-buttons"):
            yield Button("Pull", id="pull", variant="primary", compact=True)
            yield Button("Use", id="use", variant="warning", compact=True)
            yield Button("Releases", id="view", compact=True)
            yield Button("Self-test", id="test", compact=True)
            yield Button("Close", id="leave", compact=True)
        yield KeyBar()

    def on_mount(self) -> None:
        self._librarian.attach(self._changed)
        self._show_view()
        for part in (Shelf.LISTING, Shelf.RELEASE, Shelf.WORK, Shelf.IN_USE):
            self._changed(part)

    def on_unmount(self) -> None:
        self._librarian.detach()

    # --- showing ----------------------------------------------------------------------------------------------------

    def _changed(self, part: Shelf) -> None:
        shows: dict[Shelf, Callable[[], None]] = {
            Shelf.LISTING: self._show_listing,
            Shelf.RELEASE: self._show_release,
            Shelf.MARKS: self._show_marks,
            Shelf.WORK: self._show_work,
            Shelf.IN_USE: self._show_in_use,
        }
        shows[part]()

    def _show_listing(self) -> None:
        shelf = self._shelf
        nothing = shelf.failed or "Looking it up…"
        if shelf.releases is not None and not shelf.failed:
            listed = f"No release is listed for {shelf.model or 'any model'}."
            nothing = "No release holds these words." if shelf.words else listed
            nothing += " m lists those of every model." if shelf.model is not None else ""
        panel = self.query_one(ReleasesPanel)
        panel.show(shelf.releases, shelf.marked, shelf.in_use, shelf.model, nothing)

    def _show_release(self) -> None:
        self.query_one(ReleaseDetail).show(self._shelf.state)
        self._show_outcome()

    def _show_marks(self) -> None:
        self.query_one(ReleasesTable).show_marks(self._shelf.marked)
        self._show_outcome()

    def _show_outcome(self) -> None:
        text, problem = self._shelf.outcome()
        self.query_one(ReleaseDetail).show_outcome(text, problem=problem)

    def _show_work(self) -> None:
        line, librarian = self.query_one(WorkLine), self._librarian
        if librarian.progress is not None:
            line.show_progress(*librarian.progress, stopping=librarian.stopping)
        elif librarian.said is not None:
            line.show_said(librarian.said)
        else:
            line.show_nothing()

    def _show_in_use(self) -> None:
        info, tester = self._scope.info, self._tester
        name = visible(info.name) if info is not None else "no model is open yet"
        held = f" · {count(len(info.dictionaries), 'dictionary', 'dictionaries')} in use" if info is not None else ""
        self.query_one("#library-title", Static).update(
            Content.assemble((" library ", "bold $primary reverse"), f"  {name}", (held, "$muted"))
        )
        waits = "◌ The self-test waits until the model is free; t asks for it." if tester.waiting else ""
        otherwise = f"! The self-test failed: {tester.failure}" if tester.failure else waits
        self.query_one(InUsePanel).show(info, tester.result, tester.progress, otherwise)

    def _show_view(self) -> None:
        releases = self._view == RELEASES
        self.query_one("#releases-view").display = releases
        self.query_one(InUsePanel).display = not releases
        for name in ("#pull", "#use"):
            self.query_one(name).display = releases
        switch = self.query_one("#view", Button)
        switch.label = "In use" if releases else "Releases"
        switch.refresh(layout=True)
        self.query_one(ReleasesTable if releases else InUseTable).focus()
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self._view == RELEASES or action not in _OF_RELEASES

    # --- what a person wants ----------------------------------------------------------------------------------------

    @on(messages.ReleaseReached)
    def _reach(self, message: messages.ReleaseReached) -> None:
        self._shelf.go_to(message.release)

    @on(messages.ReleaseMarked)
    def _mark(self, message: messages.ReleaseMarked) -> None:
        self._shelf.toggle_mark(message.release)

    @on(messages.ReleasesSearched)
    def _searched(self, message: messages.ReleasesSearched) -> None:
        self._shelf.search(message.words)

    @on(messages.ChoiceMade)
    def _choose(self, message: messages.ChoiceMade) -> None:
        self._shelf.choice = message.choice
        self._show_release()

    @on(messages.ChipPressed)
    async def _press(self, message: messages.ChipPressed) -> None:
        await self.run_action(message.action)

    @on(Button.Pressed)
    async def _pressed(self, event: Button.Pressed) -> None:
        await self.run_action(str(event.button.id))

    @on(messages.InputLeft)
    def _leave_input(self) -> None:
        self.query_one(ReleasesTable).focus()

    def action_mark(self) -> None:
        release = self.query_one(ReleasesTable).release
        if release is not None:
            self._shelf.toggle_mark(release)

    def action_width(self) -> None:
        self.query_one(ReleaseDetail).next_width()

    def action_models(self) -> None:
        self._shelf.toggle_models()

    def action_search(self) -> None:
        self.query_one("#search").focus()

    def action_choices(self) -> None:
        self.query_one("#l0").focus()

    def action_view(self) -> None:
        self._view = IN_USE if self._view == RELEASES else RELEASES
        self._show_view()

    def action_test(self) -> None:
        if self._scope.info is None:
            self._warn("There is nothing to test: no model is open yet.")
            return
        self._tester.want()
        self._tester.when_free()
        if self._view == RELEASES:
            self.action_view()

    # --- working ----------------------------------------------------------------------------------------------------

    def _may_start(self) -> bool:
        """Whether there is something to pull or use; says why, if there is not."""
        problem = ""
        if self._librarian.progress is not None:
            problem = "One thing at a time: escape stops what runs."
        elif not self._shelf.targets:
            problem = "There is no release under the cursor."
        else:
            text, wrong = self._shelf.outcome()
            problem = text if wrong else ""
        if problem:
            self._warn(problem)
        return not problem

    def _warn(self, text: str) -> None:
        self.notify(visible(text), severity="warning", markup=False)

    def action_pull(self) -> None:
        if self._may_start():
            self._librarian.pull()

    def action_use(self) -> None:
        if self._scope.info is None:
            self._warn("Dictionaries are opened beside a model, and none is open yet.")
            return
        if not self._may_start():
            return
        foreign = self._shelf.foreign
        if foreign and foreign != self._warned_of:
            self._warned_of = foreign
            self._warn(f"{foreign[0]} was made for another model. Press u again to pull and try it all the same.")
            return
        self._librarian.pull(then_use=True)

    def action_back(self) -> None:
        """Stops what runs; otherwise goes back to the main screen."""
        if self._librarian.progress is not None:
            self._librarian.stop()
        else:
            self.dismiss(None)

    def action_leave(self) -> None:
        self.dismiss(None)
