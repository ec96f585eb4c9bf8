"""What a face asks to have opened, and what it hears of what is open."""

from __future__ import annotations

from dataclasses import dataclass

from knowscope_tui.core.dictionaries import Choice, DictionarySource
from knowscope_tui.core.memory import MemoryPlan
from knowscope_tui.core.units import Site, SiteKind


@dataclass(frozen=True)
class SourceSpec:
    """Which model and dictionaries to open. No model means the demo with its own dictionaries."""

    model: str | None = None
    """A folder, or a hub name with or without @revision."""
    dictionaries: tuple[DictionarySource, ...] | None = None
    """For each `--sae`; None is the usual set of the model, () is none at all."""
    choice: Choice = Choice()
    device: str = "auto"
    dtype: str = "auto"
    sae_dtype: str = "bfloat16"
    """What converted dictionaries are kept in: bfloat16 or float32."""
    sae_memory: int | None = None
    """Bytes of the device that encoders may take; None is what the plan allows."""
    chat: bool = False
    """Whether prompts go through the model's chat template."""
    offline: bool = False


@dataclass(frozen=True)
class DictionaryInUse:
    """A dictionary that is open."""

    site: Site
    source: str
    features: int
    architecture: str
    dtype: str
    expected_l0: float | None


@dataclass(frozen=True)
class ModelInfo:
    """What is open, in numbers and words."""

    name: str
    is_demo: bool
    trained_on: str | None
    """The published model that this one is or was tuned from, as releases name it: gemma-2-2b."""
    chat: bool
    device: str
    dtype: str
    n_layers: int
    d_model: int
    n_neurons: int
    """Neurons in each layer."""
    context: int
    parameters: int
    dictionary_kinds: tuple[SiteKind, ...]
    features_per_site: tuple[int, ...]
    """The distinct widths of the loaded dictionaries, ascending."""
    dictionaries: tuple[DictionaryInUse, ...]
    plan: MemoryPlan
    remarks: tuple[str, ...] = ()
    """What a person should know about what was opened, each in a sentence."""
