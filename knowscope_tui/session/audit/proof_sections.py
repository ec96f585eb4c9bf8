"""What the edit was measured to do: figures, fact by fact, leak by leak, and the frontier it was chosen from."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from knowscope_tui.core.record import Row
from knowscope_tui.session.audit.plots import frontier_picture
from knowscope_tui.session.pages.blocks import Block, Paragraph, Section, Table
from knowscope_tui.session.pages.numbers import NONE, count, interval, seconds, share, signed, small
from knowscope_tui.text import count as counted

FIGURES = (
    ("reliability", "Reliability: the answer is changed"),
    ("generalization", "Generalization: changed in other words too"),
    ("locality", "Locality: other facts keep their answer"),
)
MEANS = (
    ("p_answer", "Mean P(answer) of the edited facts"),
    ("p_paraphrases", "Mean P(answer) in other words"),
    ("p_neighbors", "Mean P(answer) of other facts"),
)
Write = Callable[[object], str]


def figures_section(record: Row) -> Section:
    """The figures before and after, and the control beside."""
    proof: Row | None = record.get("proof")
    if not proof:
        return Section("Figures", (Paragraph("The model was not measured as it was saved."),))
    control: Row | None = proof.get("control")
    rows = tuple(_figure_rows(proof, (control or {}).get("scores") or {}))
    head = ("Figure", "Before", "After", "95 % interval", "Items", "Random control", "its interval")
    blocks: list[Block] = [
        Paragraph(_about_items(proof)),
        Table("Before and after, and the control beside them", head, rows, (1, 2, 3, 4, 5, 6)),
    ]
    if control:
        blocks.append(
            Paragraph(
                f"The control ({control.get('method', 'random')}) changes {count(control.get('positions'))} positions, "
                "as many in each matrix as the edit, drawn at random and treated the same way. What the edit does "
                "better than it is owed to the choice of positions."
            )
        )
    else:
        blocks.append(Paragraph("No random control was measured beside it."))
    return Section("Figures", tuple(blocks + list(_each_edit(record))))


def _about_items(proof: Row) -> str:
    return (
        f"Locality is measured on {counted(int(proof.get('neighbors') or 0), 'fact')} that the base knew and that the "
        "edit was not told to keep, in three rings by how near they are. Intervals are bootstrap intervals over items."
    )


def _figure_rows(proof: Row, control: Row) -> Iterator[tuple[str, ...]]:
    before, after = proof.get("before") or {}, proof["after"]
    for key, title in FIGURES:
        yield _row(title, before.get(key), after.get(key), control.get(key), share)
    for ring, figure in (after.get("rings") or {}).items():
        was, other = (before.get("rings") or {}).get(ring), (control.get("rings") or {}).get(ring)
        yield _row(f"Locality, {ring}", was, figure, other, share)
    yield _row("Retained facts keep their answer", before.get("retained"), after.get("retained"),
               control.get("retained"), share)  # fmt: skip
    yield _row("ΔPPL on text about other things", None, after.get("delta_ppl"), control.get("delta_ppl"), signed)
    for key, title in MEANS:
        yield (title, share(before.get(key)), share(after.get(key)), NONE, NONE, share(control.get(key)), NONE)


def _row(title: str, before: Row | None, after: Row | None, control: Row | None, write: Write) -> tuple[str, ...]:
    was, now, other = before or {}, after or {}, control or {}
    return (
        title,
        write(was.get("value")),
        write(now.get("value")),
        interval(now, write),
        count(now.get("items")),
        write(other.get("value")),
        interval(other, write),
    )


def _each_edit(record: Row) -> Iterator[Block]:
    """What each of several edits was measured to do when it was applied."""
    measured = [(number, edit) for number, edit in enumerate(record["edits"], start=1) if edit.get("after")]
    if len(record["edits"]) < 2 or not measured:
        return
    rows = tuple(
        (
            str(number),
            str(edit.get("method", "unknown")),
            *(share(edit["after"].get(key, {}).get("value")) for key, _title in FIGURES),
            signed(edit["after"].get("delta_ppl", {}).get("value")),
        )
        for number, edit in measured
    )
    head = ("Edit", "Method", "Reliability", "Generalization", "Locality", "ΔPPL")
    yield Table("Each edit when it was applied", head, rows, (2, 3, 4, 5), (1,))


def facts_section(record: Row) -> Section:
    """What became of every fact."""
    facts = (record.get("proof") or {}).get("facts") or ()
    if not facts:
        return Section("Fact by fact", (Paragraph("No fact was measured."),))
    texts = any("prompt" in fact for fact in facts)
    updated = any(fact.get("p_target") is not None for fact in facts)
    head = ["Fact", "Known before", "Changed", "P before", "P after", "In other words"]
    rows = []
    for fact in facts:
        row = [
            str(fact["fact"]),
            _yes(fact.get("known_before")),
            _yes(fact.get("erased")),
            share(fact.get("p_before")),
            share(fact.get("p_after")),
            f"{fact.get('paraphrases_erased', 0)} of {fact.get('paraphrases', 0)}",
        ]
        row += [share(fact.get("p_target"))] if updated else []
        row += [str(fact.get(key) or NONE) for key in ("prompt", "answer", "says")] if texts else []
        rows.append(tuple(row))
    head += ["P of the new answer"] if updated else []
    head += ["Prompt", "Answer", "Says instead"] if texts else []
    numbers = (3, 4, 5, 6) if updated else (3, 4, 5)
    caption = "Every edited fact; P is the probability of its answer"
    return Section("Fact by fact", (Table(caption, tuple(head), tuple(rows), numbers, (0,)),))


def _yes(value: object) -> str:
    return "yes" if value else "no"


def leaks_section(record: Row) -> Section:
    """The leak tests, and what leaks by name."""
    leaks = (record.get("proof") or {}).get("leaks") or ()
    if not leaks:
        return Section("Leak tests", (Paragraph("They were not run."),))
    rows = tuple(
        (
            str(test["test"]),
            count(test.get("tested")),
            count(len(test.get("leaking") or ())),
            ", ".join(map(str, test.get("leaking") or ())) or "none",
            str(test.get("note") or NONE),
            seconds(test.get("seconds")),
        )
        for test in leaks
    )
    head = ("Test", "Facts tested", "Leak", "Which", "How", "Took")
    blocks: list[Block] = [
        Paragraph(
            "Ways in which an answer may still come out. A fact is tested where the base gave its answer that way."
        ),
        Table("The leak tests", head, rows, (1, 2, 5)),
    ]
    found = tuple(
        (
            str(test["test"]),
            str(row["fact"]),
            f"{row.get('leaked', 0)} of {row.get('tried', 0)}",
            str(row.get("detail") or NONE),
        )
        for test in leaks
        for row in test.get("facts") or ()
        if row.get("leaks")
    )  # fmt: skip
    if found:
        blocks.append(Table("What leaks, by name", ("Test", "Fact", "Came out", "Detail"), found, (2,), (1,)))
    return Section("Leak tests", tuple(blocks))


def frontier_sections(record: Row) -> Iterator[Section]:
    """The frontier of every edit whose τ2 was looked for."""
    edits = record["edits"]
    for number, edit in enumerate(edits, start=1):
        frontier = edit.get("frontier")
        if frontier and frontier.get("points"):
            title = "The frontier" if len(edits) == 1 else f"The frontier of edit {number}"
            yield Section(title, tuple(_frontier(frontier)))


def _frontier(frontier: Row) -> Iterator[Block]:
    limits, chosen = frontier["limits"], frontier.get("chosen")
    asked = (
        f"Asked for: reliability of {share(limits['min_reliability'], 2)} or more, locality of "
        f"{share(limits['min_locality'], 2)} or more, ΔPPL of {signed(limits['max_delta_ppl'])} or less."
    )
    if chosen is None:
        yield Paragraph(f"{asked} No τ2 meets all three.")
    else:
        yield Paragraph(f"{asked} τ2 {small(frontier['points'][chosen]['tau2'])} is the knee within these limits.")
    yield frontier_picture(frontier)
    rows = tuple(
        (
            small(point["tau2"]),
            count(point["positions"]),
            share(point.get("reliability")),
            share(point.get("p_answer")),
            share(point.get("locality")),
            share(point.get("worst")),
            signed(point.get("delta_ppl")),
            "chosen" if index == chosen else _yes(point.get("meets")),
        )
        for index, point in enumerate(frontier["points"])
    )
    head = (
        "τ2",
        "Positions",
        "Reliability",
        "Mean P(answer)",
        "Locality",
        "in the worst ring",
        "ΔPPL",
        "Within the limits",
    )
    yield Table("The frontier, on what an edit may see", head, rows, (0, 1, 2, 3, 4, 5, 6))


def measured_with(record: Row) -> str:
    """What it was measured with, in a sentence."""
    settings: Row = record.get("settings") or {}
    leaks: Row = settings.get("leaks") or {}
    told = [f"{key.replace('_', ' ')} {value}" for key, value in leaks.items()]
    place = f"on {settings.get('device', 'an unnamed device')} in {settings.get('dtype', 'an unnamed dtype')}"
    return f"Measured {place}." + (f" Leak tests: {', '.join(told)}." if told else "")
