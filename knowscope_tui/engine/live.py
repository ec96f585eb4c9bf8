"""One ablation of one fact, fast enough to follow a key: only the layers above the lowest switched-off unit run.

The rows that `suffix` runs are one row here. Up to the highest layer with a switched-off unit in it each layer runs
with that change in place; from there on nothing is changed, and on a GPU the rest is one replayed CUDA graph (see
`graphs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from knowscope_tui.core.readings import Ablation, Effect, Positions
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.ablate import Means, Said, effect_of, row_changes, said
from knowscope_tui.engine.graphs import ONE_ROW, SuffixGraphs
from knowscope_tui.engine.hooks import Change
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.suffix import KeysValues, Suffix
from knowscope_tui.engine.trace import Trace


@dataclass(frozen=True)
class LiveRun:
    """A fact with an ablation in place; what it holds is the fact's until the next run."""

    logits: Tensor
    """Where the answer is predicted: (n_answer, vocabulary)."""
    start: int
    """The first token that ran."""
    keys_values: Mapping[int, KeysValues]
    """Of each layer that ran, for the tokens from there on: (1, kv_heads, tokens, head_dim) both."""


class Live:
    """Measures ablations of the one fact of `trace`, which holds no ablation itself."""

    def __init__(self, lm: LanguageModel, library: Library, trace: Trace) -> None:
        self._lm, self.library = lm, library
        self.trace = trace
        self._question = trace.questions[0]
        self._suffixes: dict[Positions, Suffix] = {}
        self._graphs: dict[Positions, SuffixGraphs] = {}

    def measure(self, ablation: Ablation, means: Means | None = None) -> Effect:
        """What `ablation` does to the answer. Raises `UsageError` for a unit that does not exist."""
        after = said(self._lm, self._question, self.run(ablation, means).logits)
        return effect_of(self._question, ablation, self._before, after)

    @cached_property
    def _before(self) -> Said:
        """What the fact says with everything switched on."""
        return said(self._lm, self._question, self.trace.logits[0])

    @torch.no_grad()
    def run(self, ablation: Ablation, means: Means | None = None) -> LiveRun:
        """The fact with `ablation` in place."""
        changes = row_changes(self._lm, self.library, ablation, means)
        start = self.trace.positions[0] if ablation.positions is Positions.LAST else 1
        if not changes or start >= len(self._question.input_ids):
            return LiveRun(self.trace.logits[0], start, {})
        suffix = self._suffix(ablation.positions, start)
        layer, hidden = self._enter(suffix, changes, ablation.positions)
        own: dict[int, KeysValues] = {}
        while layer < min(self._lm.n_layers, max(site.layer for site in changes) + 1):
            here = {site: change for site, change in changes.items() if site.layer == layer}
            hidden, own[layer] = suffix.run_layer(layer, hidden, ONE_ROW, here)
            layer += 1
        climbed = self._graphs[ablation.positions].run(layer, hidden)
        own |= zip(range(layer, self._lm.n_layers), climbed.keys_values, strict=True)
        return LiveRun(climbed.logits, start, own)

    def past(self, run: LiveRun, length: int) -> list[KeysValues]:
        """Keys and values of every layer for the first `length` tokens, as `run` has them."""
        whole: list[KeysValues] = []
        for layer, (keys, values) in enumerate(zip(self.trace.keys, self.trace.values, strict=True)):
            if layer in run.keys_values:
                own_keys, own_values = run.keys_values[layer]
                keys = torch.cat([keys[:, :, : run.start], own_keys], dim=2)
                values = torch.cat([values[:, :, : run.start], own_values], dim=2)
            whole.append((keys[:, :, :length], values[:, :, :length]))
        return whole

    def _suffix(self, positions: Positions, start: int) -> Suffix:
        if positions not in self._suffixes:
            suffix = Suffix(self._lm, self.trace, [start])
            self._suffixes[positions] = suffix
            self._graphs[positions] = SuffixGraphs(self._lm, suffix)
        return self._suffixes[positions]

    def _enter(self, suffix: Suffix, changes: Mapping[Site, Change], positions: Positions) -> tuple[int, Tensor]:
        """The first layer that has to run, and what enters it: (1, tokens, d_model).

        What happens at the end of a layer, where the traced activation is at hand, needs no run of that layer.
        """
        lowest = min(site.layer for site in changes)
        mlp_out, resid_post = Site(lowest, SiteKind.MLP_OUT), Site(lowest, SiteKind.RESID_POST)
        here = {site for site in changes if site.layer == lowest}
        at_end = here <= {mlp_out, resid_post}
        if not at_end or (mlp_out in here and (positions is Positions.ALL or mlp_out not in self.trace.activations)):
            return lowest, suffix.rows(lowest, ONE_ROW)
        hidden = suffix.rows(lowest + 1, ONE_ROW)
        if mlp_out in here:
            h = self.trace.activations[mlp_out][:, None]  # (1, 1, d_model)
            hidden[:, :1] += changes[mlp_out](h) - h
        return lowest + 1, changes[resid_post](hidden) if resid_post in here else hidden
