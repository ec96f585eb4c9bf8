"""What a save would write and link, as lines of text."""

from __future__ import annotations

from textual.content import Content

from knowscope_tui.core.saved import Placed, PlannedFile, SavedCheckpoint, SavePlan
from knowscope_tui.text import count, file_size, visible

_MEANS = {
    Placed.LINKED: "linked: shares its bytes with the base",
    Placed.REFLINKED: "cloned: shares its bytes until changed",
    Placed.COPIED: "copied whole",
    Placed.EDITED: "rewritten with the edit",
    Placed.WRITTEN: "written beside",
}


def save_plan_lines(plan: SavePlan) -> Content:
    """The files by how they get there, what is written in all, and what stands in the way."""
    lines = [line for placed in Placed for line in _group(placed, plan.files)]
    if plan.files:
        written = f"writes {file_size(plan.written)} of {file_size(plan.total)}"
        lines.append(Content.assemble((written, "bold"), (f", {file_size(plan.free)} free", "$muted")))
    if plan.problem:
        lines.append(Content.styled(visible(f"{plan.problem} {plan.hint}".strip()), "$warning"))
    return Content("\n").join(lines)


def _group(placed: Placed, files: tuple[PlannedFile, ...]) -> list[Content]:
    held = [file for file in files if file.placed is placed]
    if not held:
        return []
    size = file_size(sum(file.bytes for file in held))
    return [Content.assemble((f"{count(len(held), 'file'):>9} {size:>8}  ", "bold"), (_MEANS[placed], "$muted"))]


def saved_lines(checkpoint: SavedCheckpoint) -> Content:
    """What was written, and how to load it."""
    changed = count(len(checkpoint.parameters), "matrix", "matrices")
    written = f", {file_size(checkpoint.written_bytes)} of it written" if checkpoint.files else ""
    pieces: list[str | tuple[str, str]] = [
        ("● Saved ", "bold $success"),
        (visible(checkpoint.folder), "bold"),
        f"  {file_size(checkpoint.size_bytes)}{written}, {changed} changed",
    ]
    if checkpoint.pushed_to:
        pieces += ["\nUploaded to ", (visible(checkpoint.pushed_to), "bold")]
    if checkpoint.not_pushed:
        pieces += ["\n", (visible(f"✗ {checkpoint.not_pushed}"), "$error")]
    return Content.assemble(*pieces, "\n\nLoad it with\n", (visible(checkpoint.load_command), "bold $accent"))
