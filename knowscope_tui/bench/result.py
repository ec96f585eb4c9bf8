"""What was measured, as plain numbers; all ratios are computed here.

`vs_…` says how many times as long a peer takes as this program, `over_…` how many times as long this program takes as
something that it cannot go below.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from knowscope_tui.bench.shapes import Shape

Json = dict[str, Any]


@dataclass(frozen=True)
class Rates:
    """What this machine was measured to do at best."""

    bytes_per_second: float
    operations_per_second: float


@dataclass(frozen=True)
class Seconds:
    """One task done three ways; `saelens` is None where it was left out."""

    knowscope: float
    hooks: float
    saelens: float | None

    @property
    def vs_hooks(self) -> float:
        return self.hooks / self.knowscope

    @property
    def vs_saelens(self) -> float | None:
        return None if self.saelens is None else self.saelens / self.knowscope


@dataclass(frozen=True)
class Ranking:
    """The exact effect of each of `units` features alone. The peers' seconds are those of `sampled`, scaled."""

    seconds: Seconds
    units: int
    sampled: int
    per_layer: tuple[int, ...]
    floor: float
    peak_extra_bytes: int | None
    """Memory that this program takes for it, over what model and dictionaries take."""
    disagreement: float
    """Between the probabilities that the ways gave for the same unit: the largest difference, as a share of them."""

    @property
    def over_floor(self) -> float:
        return self.seconds.knowscope / self.floor

    def as_json(self) -> Json:
        return {
            "vs_saelens": self.seconds.vs_saelens,
            "vs_hooks": self.seconds.vs_hooks,
            "over_floor": self.over_floor,
            "seconds": asdict(self.seconds),
            "floor_seconds": self.floor,
            "units": self.units,
            "peers_sampled": self.sampled,
            "units_per_layer": list(self.per_layer),
        }


@dataclass(frozen=True)
class Toggle:
    """One feature switched off on a prompt that was read before; for the peers a whole forward."""

    unit: str
    seconds: Seconds
    first: float
    """Seconds that this program took when the unit was first switched off, which are not among those above."""
    floor: float
    disagreement: float

    @property
    def over_floor(self) -> float:
        return self.seconds.knowscope / self.floor

    def as_json(self) -> Json:
        return {"unit": self.unit, **asdict(self.seconds), "first": self.first, "floor": self.floor}


@dataclass(frozen=True)
class Toggles:
    """Each ratio is the median of the toggles' own."""

    rows: tuple[Toggle, ...]

    @property
    def vs_saelens(self) -> float | None:
        return _median(row.seconds.vs_saelens for row in self.rows)

    @property
    def vs_hooks(self) -> float:
        return median(row.seconds.vs_hooks for row in self.rows)

    @property
    def over_floor(self) -> float:
        return median(row.over_floor for row in self.rows)

    @property
    def floor(self) -> float:
        return median(row.floor for row in self.rows)

    @property
    def first(self) -> float:
        return median(row.first for row in self.rows)

    @property
    def seconds(self) -> Seconds:
        """Medians."""
        return Seconds(
            median(row.seconds.knowscope for row in self.rows),
            median(row.seconds.hooks for row in self.rows),
            _median(row.seconds.saelens for row in self.rows),
        )

    def as_json(self) -> Json:
        return {
            "vs_saelens": self.vs_saelens,
            "vs_hooks": self.vs_hooks,
            "over_floor": self.over_floor,
            "seconds": asdict(self.seconds),
            "first_seconds": self.first,
            "floor_seconds": self.floor,
            "toggles": [row.as_json() for row in self.rows],
        }


@dataclass(frozen=True)
class FirstReading:
    """A look at every feature and neuron by attribution, beside one plain forward of the same tokens."""

    seconds: float
    forward: float

    @property
    def over_forward(self) -> float:
        return self.seconds / self.forward

    def as_json(self) -> Json:
        return {"over_forward": self.over_forward, "seconds": self.seconds, "forward_seconds": self.forward}


@dataclass(frozen=True)
class Setting:
    """What was timed, how often, on and with what."""

    shape_name: str
    shape: Shape
    dtype: str
    sae_dtype: str
    """What this program keeps dictionaries in; sae-lens has them in `dtype`."""
    kinds: tuple[str, ...]
    dictionaries: int
    active: int
    """Features that fire at the prompt's last token."""
    prompt: str
    answer: str
    tokens: int
    repeat: int
    seed: int
    date: str
    machine: Json
    versions: Json

    def as_json(self) -> Json:
        shape = {"name": self.shape_name, **asdict(self.shape), "parameters": self.shape.parameters}
        rest = {name: value for name, value in asdict(self).items() if not name.startswith("shape")}
        return {"shape": shape, **rest}


@dataclass(frozen=True)
class Result:
    setting: Setting
    rates: Rates
    ranking: Ranking
    toggles: Toggles
    reading: FirstReading

    @property
    def disagreement(self) -> float:
        """Between the ways, over all units that several were asked about."""
        return max(self.ranking.disagreement, *(row.disagreement for row in self.toggles.rows))

    def as_json(self) -> Json:
        return {
            "exact_ranking": self.ranking.as_json(),
            "live_toggle": self.toggles.as_json(),
            "first_reading": self.reading.as_json(),
            "peak_extra_bytes": self.ranking.peak_extra_bytes,
            "disagreement": self.disagreement,
            "rates": asdict(self.rates),
            **self.setting.as_json(),
        }


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
