"""What was edited, in what, and how: facts, base, method, plan, where the changes lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from knowscope_tui.core.edits import MEANING
from knowscope_tui.core.record import Row, public_name
from knowscope_tui.session.audit.grids import grid, layer_bars
from knowscope_tui.session.audit.summary import edited_names
from knowscope_tui.session.pages.blocks import Block, Items, Paragraph, Pictures, Section, Table
from knowscope_tui.session.pages.numbers import NONE, count, percent, seconds, share, small
from knowscope_tui.text import count as counted

MOST_UNITS = 40
"""Units that the plan lists one by one."""

BY_NAME = {method.value: meaning for method, meaning in MEANING.items()}


def edited_section(record: Row) -> Section:
    """Which edits of which facts."""
    names = edited_names(record)
    rows = tuple(
        (
            str(number),
            str(edit.get("method", "unknown")),
            "update" if edit.get("updates") else "erase",
            count(len(edit.get("edited") or ())),
            count(edit.get("positions")),
            percent(edit.get("share")),
            seconds(edit.get("seconds")),
        )
        for number, edit in enumerate(record["edits"], start=1)
    )
    head = ("Edit", "Method", "Aim", "Facts", "Positions", "Share of the weights", "Planned in")
    shown = "with their text" if record.get("include_facts") else "by id or salted hash; their text is not in here"
    blocks: list[Block] = [
        Table("The edits, in the order they were applied", head, rows, (3, 4, 5, 6), (1,)),
        Paragraph(f"{counted(len(names), 'fact')}, {shown}:"),
        Items(tuple(names)),
    ]
    return Section("What was edited", tuple(blocks + list(_conflicts(record))))


def _conflicts(record: Row) -> Iterator[Block]:
    rows = tuple(
        (str(one.get("fact")), str(one.get("other")), small(one.get("similarity")), _of(one.get("applied")))
        for edit in record["edits"]
        for one in edit.get("conflicts") or ()
    )
    if rows:
        head = ("Fact", "pulls with", "Cosine of their keys", "Edit of the other")
        yield Table("Facts whose edits pull the same keys to different answers", head, rows, (2,), (0, 1))


def _of(number: object) -> str:
    return "the same" if number is None else str(number)


def base_section(record: Row) -> Section:
    """The base, and the hashes around each changed tensor."""
    before: Row = record["base"].get("tensors") or {}
    after: Row = record.get("tensors") or {}
    rows = tuple((name, str(before.get(name, NONE)), str(after.get(name, NONE))) for name in sorted({*before, *after}))
    return Section(
        "The base",
        (
            Paragraph(
                f"The base is {public_name(record)}. {counted(len(rows), 'tensor')} of it differ in the edited folder; "
                "every other has the base's bits."
            ),
            Table("SHA-256 of each changed tensor's bytes", ("Tensor", "Base", "Edited"), rows, (), (0, 1, 2)),
            Table("The delta file", ("File", "SHA-256"),
                  (("knowscope_delta.safetensors", str(record.get("delta_sha256", NONE))),), (), (0, 1)),
        ),
    )  # fmt: skip


def plan_sections(record: Row) -> Iterator[Section]:
    """How each edit was made."""
    edits = record["edits"]
    for number, edit in enumerate(edits, start=1):
        title = "How it was done" if len(edits) == 1 else f"How edit {number} was done"
        yield Section(title, tuple(_plan(edit)))


def _plan(edit: Row) -> Iterator[Block]:
    method = str(edit.get("method", "unknown"))
    meaning = BY_NAME.get(method)
    yield Paragraph(f"The method {method} {meaning}." if meaning else f"The method is called {method}.")
    yield Table("Settings", ("Setting", "Value"), tuple(_settings(edit)), (), (1,))
    if notes := edit.get("notes"):
        yield Items(tuple(map(str, notes)))
    yield from _reach(edit)
    yield from _parameters(edit.get("parameters") or ())


def _settings(edit: Row) -> Iterator[tuple[str, str]]:
    yield "Site of the features", ", ".join(map(str, edit.get("sites") or ())) or NONE
    yield "Units for each fact", "named one by one" if edit.get("top") is None else str(edit["top"])
    found = " (found on the frontier)" if edit.get("auto") else ""
    yield "τ2, share of the largest value", small(edit.get("tau2")) + (found if edit.get("tau2") is not None else "")
    if str(edit.get("method", "")).startswith("refined"):
        yield "Budget, share of the model's weights", percent(edit.get("budget"))
    yield "Seed", str(edit.get("seed", NONE))
    for one in edit.get("dictionaries") or ():
        features = f"{one['features']:,} features, fingerprint {one['fingerprint']}"
        yield f"Dictionary at {one['site']}", f"{one['source']}: {features}"


def _reach(edit: Row) -> Iterator[Block]:
    """Units → layers → positions, the farthest-reaching first."""
    reach = sorted(edit.get("reach") or (), key=lambda row: -sum(row["positions"].values()))
    units = [str(unit) for unit in edit.get("units") or ()]
    if reach:
        rows = tuple(
            (str(row["unit"]), _by_layer(row["positions"]), count(sum(row["positions"].values())))
            for row in reach[:MOST_UNITS]
        )
        caption = "Units, and the positions through which the edit reaches them"
        yield Table(caption, ("Unit", "Layer: positions", "In all"), rows, (2,), (0,))
        if len(reach) > MOST_UNITS:
            yield Paragraph(f"{counted(len(reach) - MOST_UNITS, 'more unit')} are reached through fewer positions.")
    elif units:
        more = f", and {len(units) - MOST_UNITS:,} more" if len(units) > MOST_UNITS else ""
        yield Paragraph(f"Units: {', '.join(units[:MOST_UNITS])}{more}.")


def _by_layer(positions: Row) -> str:
    return ", ".join(f"{layer}: {int(n):,}" for layer, n in sorted(positions.items(), key=lambda pair: int(pair[0])))


def _parameters(parameters: Sequence[Row]) -> Iterator[Block]:
    if not parameters:
        return
    rows = tuple(
        (
            str(row["name"]),
            " × ".join(map(str, row["shape"])),
            count(row["positions"]),
            percent(_part(row)),
            count(row.get("zeroed")),
            NONE if row.get("rank") is None else str(row["rank"]),
            share(row.get("relative_norm")),
        )
        for row in parameters
    )
    head = ("Parameter", "Shape", "Positions", "Share of it", "Set to zero", "Rank", "‖ΔW‖ / ‖W‖")
    yield Table("Parameters that change", head, rows, (1, 2, 3, 4, 5, 6), (0,))
    layers: Counter[int] = Counter()
    for row in parameters:
        layers[int(row["layer"])] += int(row["positions"])
    yield layer_bars(layers)
    grids = tuple(grid(row) for row in parameters if row.get("picture") and row["picture"][0])
    if grids:
        yield Pictures(grids)


def _part(row: Row) -> float | None:
    size = 1
    for side in row["shape"]:
        size *= int(side)
    return int(row["positions"]) / size if size else None
