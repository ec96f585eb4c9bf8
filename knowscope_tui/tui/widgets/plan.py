"""The plan of an edit as lines of text: its conflicts, then units, layers and positions."""

from __future__ import annotations

import math

from textual.content import Content

from knowscope_tui.core.edits import Conflict, EditPlan, ParameterChange
from knowscope_tui.text import bar, count, cut, cut_middle, fit, percent, shade, share, visible

_UNIT = 22
_MOST_CONFLICTS = 5


def plan_lines(plan: EditPlan, layers: int) -> Content:
    """What the edit would change in a model of `layers` layers, conflicts with other edits first."""
    blocks = [
        conflict_lines(plan.conflicts),
        [_total(plan), *(Content.styled(visible(note), "$muted") for note in plan.notes)],
        _units(plan, layers),
        _layers(plan),
    ]
    return Content("\n\n").join(Content("\n").join(block) for block in blocks if block)


def _total(plan: EditPlan) -> Content:
    whole = plan.model_weights or sum(math.prod(parameter.shape) for parameter in plan.parameters)
    of = "the model's weights" if plan.model_weights else "their matrices"
    matrices = count(len(plan.parameters), "matrix", "matrices")
    units = f", by {count(len(plan.units), 'unit')}" if plan.units else ""
    return Content.assemble(
        ("would change ", "$muted"),
        (count(plan.positions, "position"), "bold $warning"),
        f" = {percent(plan.positions, whole)} of {of}, in {matrices}{units}",
    )


def _units(plan: EditPlan, layers: int) -> list[Content]:
    """A row a unit: through which layers it is reached, and at how many positions."""
    if not plan.reach:
        return []
    strongest = max((most for change in plan.reach for most in change.positions.values()), default=0)
    head = f"{'unit':<{_UNIT}}{_layer_head(layers)}{'positions':>12}"
    rows = [Content.styled(head, "$muted")]
    for change in sorted(plan.reach, key=lambda change: change.total, reverse=True):
        cells = "".join(shade(change.positions.get(layer, 0) / max(strongest, 1)) for layer in range(layers))
        rows.append(
            Content.assemble(
                fit(str(change.unit), _UNIT),
                (cells.ljust(len(_layer_head(layers))), "$accent"),
                (f"{change.total:>12,}", "bold"),
            )
        )
    return rows


def _layer_head(layers: int) -> str:
    return f"layers 0 to {layers - 1}".ljust(layers)


def _layers(plan: EditPlan) -> list[Content]:
    if not plan.parameters:
        return []
    most = max(*(parameter.positions for parameter in plan.parameters), 1)
    head = Content.styled(f"{'layer':<{_UNIT}}{'':10}{'positions':>12}{'of it':>9}", "$muted")
    return [head, *(_layer(parameter, most) for parameter in sorted(plan.parameters, key=lambda one: one.layer))]


def _layer(parameter: ParameterChange, most: int) -> Content:
    name = visible(parameter.name.removeprefix("model.").removesuffix(".weight"))
    how = f"rank {parameter.rank}" if parameter.rank is not None else ""
    norm = f"ΔW {percent(round(parameter.relative_norm * 1e6), 10**6)}" if parameter.relative_norm else ""
    return Content.assemble(
        fit(cut_middle(name, _UNIT - 1), _UNIT),
        (bar(parameter.positions / most, 10), "$accent"),
        (f"{parameter.positions:>12,}", "bold"),
        f"{percent(parameter.positions, math.prod(parameter.shape)):>9}",
        ("   ".join(["", *filter(None, (norm, how))]), "$muted"),
    )


def conflict_lines(conflicts: tuple[Conflict, ...]) -> list[Content]:
    """Which facts an edit pulls apart that the model reads alike, and what that means."""
    if not conflicts:
        return []
    number = count(len(conflicts), "conflict")
    lines = [
        Content.styled(f"! {number}: the model reads these facts alike, and is to answer them differently", "$warning")
    ]
    for conflict in conflicts[:_MOST_CONFLICTS]:
        where = "in this edit" if conflict.applied is None else f"edit {conflict.applied} of the journal"
        lines.append(
            Content.assemble(
                "  ",
                (cut(visible(conflict.fact.prompt), 26), "bold"),
                ("  and  ", "$muted"),
                (cut(visible(conflict.other.prompt), 26), "bold"),
                (f"  alike {share(conflict.similarity)}, {where}", "$muted"),
            )
        )
    if len(conflicts) > _MOST_CONFLICTS:
        lines.append(Content.styled(f"  and {len(conflicts) - _MOST_CONFLICTS} more", "$muted"))
    return lines
