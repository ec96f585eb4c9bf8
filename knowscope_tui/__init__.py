"""A knowledge microscope for Gemma-2: see which units carry a fact, switch them off, edit the fact out of the weights.

    import knowscope_tui

    scope = knowscope_tui.open()
    print(scope.probe("The capital of France is").units[0])

Importing the package imports nothing heavy: each public name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from knowscope_tui.core.edits import EditPlan, EditSpec, Limits, Method
    from knowscope_tui.core.facts import Fact, read_facts, write_facts
    from knowscope_tui.core.proof import EditReport, Figure, Scores, VerifyReport
    from knowscope_tui.core.readings import Ablation, Effect, Mode, NeuronAttribution, Positions, Rank, Reading
    from knowscope_tui.core.saved import SavedCheckpoint, SaveOptions
    from knowscope_tui.core.studies import StudyOptions
    from knowscope_tui.core.units import Family, Site, SiteKind, Unit
    from knowscope_tui.errors import KnowscopeError
    from knowscope_tui.session.editing import Wishes
    from knowscope_tui.session.front import open_scope as open
    from knowscope_tui.session.scope import Scope
    from knowscope_tui.session.verify import verify_checkpoint

_PUBLIC = {
    "open": "session.front:open_scope",
    "Scope": "session.scope:Scope",
    "verify_checkpoint": "session.verify:verify_checkpoint",
    "Fact": "core.facts:Fact",
    "read_facts": "core.facts:read_facts",
    "write_facts": "core.facts:write_facts",
    "Unit": "core.units:Unit",
    "Site": "core.units:Site",
    "SiteKind": "core.units:SiteKind",
    "Family": "core.units:Family",
    "Ablation": "core.readings:Ablation",
    "Effect": "core.readings:Effect",
    "Mode": "core.readings:Mode",
    "NeuronAttribution": "core.readings:NeuronAttribution",
    "Positions": "core.readings:Positions",
    "Rank": "core.readings:Rank",
    "Reading": "core.readings:Reading",
    "EditPlan": "core.edits:EditPlan",
    "EditReport": "core.proof:EditReport",
    "EditSpec": "core.edits:EditSpec",
    "Limits": "core.edits:Limits",
    "Method": "core.edits:Method",
    "Figure": "core.proof:Figure",
    "SaveOptions": "core.saved:SaveOptions",
    "Wishes": "session.editing:Wishes",
    "SavedCheckpoint": "core.saved:SavedCheckpoint",
    "StudyOptions": "core.studies:StudyOptions",
    "Scores": "core.proof:Scores",
    "VerifyReport": "core.proof:VerifyReport",
    "KnowscopeError": "errors:KnowscopeError",
}
"""Public name → where it lives, as `module:name` below this package."""

__all__ = [
    "Ablation",
    "EditPlan",
    "EditReport",
    "EditSpec",
    "Effect",
    "Fact",
    "Family",
    "Figure",
    "KnowscopeError",
    "Limits",
    "Method",
    "Mode",
    "NeuronAttribution",
    "Positions",
    "Rank",
    "Reading",
    "SaveOptions",
    "SavedCheckpoint",
    "Scope",
    "Scores",
    "Site",
    "SiteKind",
    "StudyOptions",
    "Unit",
    "VerifyReport",
    "Wishes",
    "__version__",
    "open",
    "read_facts",
    "verify_checkpoint",
    "write_facts",
]


def __getattr__(name: str) -> Any:
    """Loads a public name on first use."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    value = getattr(import_module(f"{__name__}.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
