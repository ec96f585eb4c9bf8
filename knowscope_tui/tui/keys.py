"""The keys of the main screen. Each has an id, by which a person's keymap can move it, and a tooltip for the help."""

from __future__ import annotations

from textual.binding import Binding, BindingType

MAIN_KEYS: list[BindingType] = [
    Binding("space", "toggle_unit", "toggle", id="main.toggle", tooltip="Switch the marked unit off or on."),
    Binding("x", "clear", "clear", id="main.clear", tooltip="Switch every unit on again."),
    Binding("e", "edit", "edit…", id="main.edit", tooltip="Turn units into a change of the weights."),
    Binding("s", "save", "save…", id="main.save", tooltip="Save the edited model as a checkpoint folder."),
    Binding("u", "undo", "undo", id="main.undo", tooltip="Take the last edit back, bit for bit."),
    Binding("slash", "filter", "filter", id="main.filter", tooltip="Type words that units' names must hold."),
    Binding("i", "fact", "fact", id="main.fact", tooltip="Type another fact."),
    Binding("l", "library", "library", id="main.library", tooltip="Find, pull and use dictionaries; self-test."),
    Binding(
        "b",
        "find_set",
        "smallest set",
        id="main.smallest",
        tooltip="Find the smallest set of features that brings the answer down.",
    ),
    Binding(
        "g",
        "cycle_beside",
        "beside",
        id="main.beside",
        tooltip="ΔProb of units beside what is switched off, or of each alone.",
    ),
    Binding(
        "r",
        "measure",
        "measure",
        id="main.measure",
        tooltip="Measure exact ΔProb: stops, or goes on where it was.",
    ),
    Binding("d", "study", "studies…", id="main.study", tooltip="Carry out the paper's studies, and see them grow."),
    Binding("f", "cycle_family", "kind", id="main.family", tooltip="Show features, neurons, or both."),
    Binding("o", "cycle_sort", "sort", id="main.sort", tooltip="Sort by ΔProb, attribution or activation."),
    Binding(
        "p", "cycle_positions", "tokens", id="main.positions", tooltip="Switch off at this token, or at every token."
    ),
    Binding("m", "cycle_mode", "mode", id="main.mode", tooltip="Switched off means zero, the unit's mean, or half."),
    Binding("t", "app.next_theme", "theme", id="main.theme", tooltip="Go to the next theme."),
    Binding("question_mark", "app.help", "help", id="main.help", tooltip="Show every key and every word."),
    Binding("q", "app.quit", "quit", id="main.quit", tooltip="Leave; asks first when edits are unsaved."),
    Binding("left", "move(-1)", "token left", id="main.left", show=False, tooltip="Read units one token to the left."),
    Binding(
        "right", "move(1)", "token right", id="main.right", show=False, tooltip="Read units one token to the right."
    ),
    Binding(
        "escape",
        "leave",
        "back",
        id="main.leave",
        show=False,
        tooltip="Back to the units; stops what runs; lifts filters.",
    ),
]
