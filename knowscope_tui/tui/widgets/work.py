"""One line for what goes on in the library, and for what came of it; without either it takes no room."""

from __future__ import annotations

from rich.cells import cell_len
from textual.content import Content
from textual.widgets import Static

from knowscope_tui.text import bar, cut, cut_middle, visible
from knowscope_tui.tui.said import Said
from knowscope_tui.tui.words import done


class WorkLine(Static):
    """A bar with what is done and how to stop it, or a sentence with a sign."""

    def on_mount(self) -> None:
        self.display = False

    def show_progress(
        self, doing: str, fraction: float | None, *, stopping: bool, stop: str = "escape stops it"
    ) -> None:
        """The figures at the end of `doing` are cut last; `stop` says how to stop it."""
        width = self.app.size.width - 2
        drawn = f"{bar(fraction, width // 8)}{done(fraction):>6}  " if fraction is not None else "◌ "
        stops = "  stopping…" if stopping else f"  {stop}"
        what, colon, figures = visible(doing.rstrip(".… ")).rpartition(": ")
        room = width - cell_len(f"{drawn}{colon}{figures}{stops}")
        words = f"{cut_middle(what, room)}{colon}{figures}" if room >= 4 else figures
        words = cut(words, width - cell_len(f"{drawn}{stops}"))
        self.update(Content.assemble((drawn, "$accent"), words, (stops, "$muted")))
        self.display = True

    def show_said(self, said: Said) -> None:
        self.update(Content.styled(f"{said.sign} {visible(said.text)}", said.style))
        self.display = True

    def show_nothing(self) -> None:
        self.display = False
