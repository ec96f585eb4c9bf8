"""Exact effects of many single units: each zeroed alone, P(answer) measured, hundreds in one run of the upper layers.

1. Units are taken a chunk at a time; within a chunk they are sorted by where they enter.
2. A unit at `resid_post`, or at `mlp_out`, enters behind its layer: the traced residual stream less what it wrote. Any
   other enters in front of its layer, which it goes through with what it wrote taken away at its site.
3. The rows climb together and the batch grows on the way, so that each layer's weights are read once a chunk.
4. Of the logits only log P(answer) is kept (see `readout`).

With `given`, an ablation that is in place throughout, step 2 starts from a trace with that ablation, and what is given
is measured and taken away anew on each row, at every site that comes after the row's own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from knowscope_tui.core.progress import unstopped
from knowscope_tui.core.readings import Ablation
from knowscope_tui.core.units import Site, SiteKind, Unit
from knowscope_tui.engine.ablate import Means, row_changes
from knowscope_tui.engine.batch import free_cache, rows_within
from knowscope_tui.engine.hooks import Change
from knowscope_tui.engine.library import Library, check_unit
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.readout import AnswerReadout
from knowscope_tui.engine.sites import INSIDE_LAYER
from knowscope_tui.engine.suffix import Suffix
from knowscope_tui.engine.trace import Trace
from knowscope_tui.engine.transfer import Landing, upload
from knowscope_tui.errors import Cancelled, device_full

Chunk = tuple[Sequence[int], Sequence[float]]
"""The places of some units among those asked about, and P(answer) with each alone zeroed."""


@dataclass(frozen=True)
class _Entry:
    """Rows of one chunk that have a unit of `site` zeroed: `rows` of the chunk, in the order of `units`."""

    site: Site
    layer: int
    """The layer that they go through first."""
    rows: range
    facts: Tensor
    """Of each row, on the host."""
    units: Tensor
    """Index of each row's unit, on the host."""


class Sweep:
    """Measures units on the facts of `trace`, which was recorded with the ablation `given` in place, if any."""

    def __init__(
        self,
        lm: LanguageModel,
        library: Library,
        trace: Trace,
        *,
        given: Ablation | None = None,
        means: Means | None = None,
        check: Callable[[], None] = unstopped,
    ) -> None:
        self._lm, self._library, self._trace, self._check = lm, library, trace, check
        self._suffix = Suffix(lm, trace, trace.positions)
        self._readout = AnswerReadout(lm, trace.questions, trace.positions)
        self._given = row_changes(lm, library, given, means) if given is not None else {}

    def chunks(
        self, units: Sequence[tuple[int, Unit]], *, rows: int | None = None, first_rows: int | None = None
    ) -> Iterator[Chunk]:
        """P(answer) of a fact with a unit alone zeroed at its reading position, for each pair of (fact, unit).

        Units are measured in their order, at most `rows` at once (default: what `rows_within` allows), `first_rows` in
        the first chunk, which grows from there. Where memory runs out a chunk is halved. Raises `UsageError` for a
        unit that does not exist.
        """
        for unit in _largest_of_each_site(units):
            check_unit(self._lm, self._library, unit)
        most = rows or rows_within(self._lm, self._suffix)
        flying: deque[tuple[list[int], Landing]] = deque()
        # On a GPU the next chunk is started before the last one's values are waited for.
        ahead = 1 if self._lm.device.type == "cuda" else 0
        done, size = 0, min(first_rows or most, most)
        while done < len(units):
            places = sorted(range(done, min(done + size, len(units))), key=lambda place: self._order(*units[place]))
            try:
                landing = self._started([units[place] for place in places])
            except Cancelled:
                # What was measured before is not lost with what is stopped.
                yield from ((landed, values.values()) for landed, values in flying)
                raise
            if landing is None:
                size = most = size // 2
                free_cache()
                continue
            flying.append((places, landing))
            done += len(places)
            size = min(2 * size, most)
            while len(flying) > (ahead if done < len(units) else 0):
                landed, values = flying.popleft()
                yield landed, values.values()

    def _started(self, units: Sequence[tuple[int, Unit]]) -> Landing | None:
        """A chunk on its way; None where memory ran out for it, and there are fewer units to try."""
        try:
            return Landing(self._chunk(units))
        except Exception as error:
            if device_full(error) is None or len(units) == 1:
                raise
            return None

    def run(self, units: Sequence[tuple[int, Unit]], *, rows: int | None = None) -> list[float]:
        """All of `chunks`, in the order of `units`."""
        found = [0.0] * len(units)
        for places, values in self.chunks(units, rows=rows):
            for place, value in zip(places, values, strict=True):
                found[place] = value
        return found

    # --- one chunk ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _chunk(self, units: Sequence[tuple[int, Unit]]) -> Tensor:
        """P(answer) of units sorted by where they enter: (rows,)."""
        entries = self._entries(units)
        facts = torch.tensor([fact for fact, _unit in units])
        top = self._lm.n_layers
        hidden: Tensor | None = None
        for layer in range(entries[0].layer, top + 1):
            self._check()
            inside = [entry for entry in entries if entry.layer == layer and not self._behind(entry.site)]
            entering = [self._entered(entry) for entry in entries if entry.layer == layer]
            hidden = _joined(hidden, entering)
            if layer < top:
                changes = self._changes(layer, inside)
                hidden = self._suffix.run_layer(layer, hidden, facts[: len(hidden)], changes)[0]
        assert hidden is not None
        return self._readout.log_probs(hidden, facts, self._check).exp()

    def _behind(self, site: Site) -> bool:
        """Whether a unit at `site` enters behind its layer: nothing that is given may come after it there."""
        if site.kind is SiteKind.RESID_POST:
            return True
        return site.kind is SiteKind.MLP_OUT and Site(site.layer, SiteKind.RESID_POST) not in self._given

    def _order(self, fact: int, unit: Unit) -> tuple[int, bool, int, int]:
        """Sorts by where a unit enters: those behind a layer before those that go into the next one."""
        behind = self._behind(unit.site)
        return unit.site.layer + behind, not behind, INSIDE_LAYER.index(unit.site.kind), fact

    def _entries(self, units: Sequence[tuple[int, Unit]]) -> list[_Entry]:
        entries: list[_Entry] = []
        start = 0
        for site, group in groupby(units, key=lambda pair: pair[1].site):
            pairs = list(group)
            facts, indices = torch.tensor([(fact, unit.index) for fact, unit in pairs]).unbind(dim=1)
            rows = range(start, start + len(pairs))
            entries.append(_Entry(site, site.layer + self._behind(site), rows, facts, indices))
            start = rows.stop
        return entries

    def _entered(self, entry: _Entry) -> Tensor:
        """What the rows of `entry` bring into their first layer: (rows, tokens, d_model)."""
        rows = self._suffix.rows(entry.layer, entry.facts)
        if self._behind(entry.site):
            rows[:, 0] = (rows[:, 0].to(torch.float32) - self._written(entry).to(rows.device)).to(rows.dtype)
        return rows

    def _written(self, entry: _Entry) -> Tensor:
        """What each feature of `entry` wrote at the reading position: (rows, d_in), float32."""
        site, dictionary = entry.site, self._library.at(entry.site)
        h = self._trace.activations[site]  # (facts, d_in)
        facts = upload(entry.facts, h.device)
        z = self._trace.encoded(self._library, site)[facts, upload(entry.units, h.device)]  # (rows,)
        return z[:, None] * dictionary.rows(entry.units, h.device) * dictionary.write_scale(h[facts])

    def _changes(self, layer: int, inside: Sequence[_Entry]) -> dict[Site, Change]:
        """What is changed in `layer`: what is given there, for all rows, and the units that enter in front of it."""
        changes = {site: change for site, change in self._given.items() if site.layer == layer}
        for entry in inside:
            own = self._cleared(entry) if entry.site.kind is SiteKind.MLP_ACT else self._subtracted(entry)
            changes[entry.site] = _both(own, changes.get(entry.site))
        return changes

    def _subtracted(self, entry: _Entry) -> Change:
        written = self._written(entry)

        def change(activation: Tensor) -> Tensor:  # (rows, tokens, d_in)
            changed, rows = activation.clone(), slice(entry.rows.start, entry.rows.stop)
            kept = activation[rows, 0].to(written.dtype) - written
            changed[rows, 0] = kept.to(activation.dtype)
            return changed

        return change

    def _cleared(self, entry: _Entry) -> Change:
        indices = upload(entry.units, self._trace.keys[entry.site.layer].device)

        def change(activation: Tensor) -> Tensor:  # (rows, tokens, d_mlp)
            changed = activation.clone()
            changed[entry.rows.start : entry.rows.stop, 0].scatter_(1, indices[:, None], 0.0)
            return changed

        return change


def _largest_of_each_site(units: Sequence[tuple[int, Unit]]) -> Iterable[Unit]:
    """Units that exist only if all of `units` do."""
    largest: dict[Site, Unit] = {}
    for _fact, unit in units:
        if unit.site not in largest or unit.index > largest[unit.site].index:
            largest[unit.site] = unit
    return largest.values()


def _joined(hidden: Tensor | None, entering: Sequence[Tensor]) -> Tensor:
    parts = list(entering) if hidden is None else [hidden.to(entering[0].device) if entering else hidden, *entering]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _both(own: Change, given: Change | None) -> Change:
    """Two changes of one activation, each measured on it as it was: their shifts add up."""
    if given is None:
        return own
    return lambda activation: own(activation) + (given(activation) - activation)


def sweep(lm: LanguageModel, library: Library, trace: Trace, units: Sequence[Unit]) -> list[float]:
    """P(answer) of the one fact of `trace` with each of `units` alone zeroed."""
    return Sweep(lm, library, trace).run([(0, unit) for unit in units])
