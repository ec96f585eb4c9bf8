"""The upper part of a model run again from a trace, for many rows at once, through the model's own layers.

A row is one fact with something switched off: its residual stream from the fact's start token on. What stands to the
left of that token is the same for all rows of a fact, so rows attend to the traced keys and values there, and to
themselves:

1. Rows of one fact are packed `PACK` to a sequence, so that its keys and values are not copied for each row; a mask
   keeps rows from seeing one another. Rows of several facts stand one to a sequence, each with its own fact's.
2. Each layer is called as it was in the trace, with masks and position embeddings cut to the rows' tokens.
3. In place of transformers' cache a layer gets `_Past`, which puts the traced keys and values in front.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from knowscope_tui.core.units import Site
from knowscope_tui.engine.hooks import Change, intervene
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.sites import decoder_layers
from knowscope_tui.engine.trace import Trace
from knowscope_tui.engine.transfer import upload

KeysValues = tuple[Tensor, Tensor]
"""Of one layer: (batch, kv_heads, pos, head_dim) both."""

PACK = 32
"""Rows of one fact in a sequence: few enough that attention among them costs little."""

PACKED_TOKENS = 64
"""Tokens of a sequence, where rows are long."""


@dataclass(frozen=True)
class _Past:
    """What a layer asks for in place of transformers' cache. `prefix_keys` and `prefix_values`: (sequences, ...)."""

    prefix_keys: Tensor
    prefix_values: Tensor
    own: list[KeysValues]
    """What the layer made of its rows."""

    def update(self, keys: Tensor, values: Tensor, *_args: Any, **_kwargs: Any) -> KeysValues:
        self.own[:] = [(keys, values)]
        return torch.cat([self.prefix_keys, keys], dim=2), torch.cat([self.prefix_values, values], dim=2)


class Suffix:
    """Runs layers of `trace`'s model on rows that start at the tokens `starts`, one of each fact."""

    def __init__(self, lm: LanguageModel, trace: Trace, starts: Sequence[int]) -> None:
        self.trace = trace
        self._model = lm.model
        self._layers = decoder_layers(lm.model)
        self.starts = tuple(starts)
        self.prefix = max(starts)
        self.tokens = max(
            len(question.input_ids) - start for question, start in zip(trace.questions, starts, strict=True)
        )
        """Tokens of a row; of a fact with fewer the last ones mean nothing."""
        padded = trace.calls[0].hidden.shape[1]
        self._places = (torch.tensor(self.starts)[:, None] + torch.arange(self.tokens)).clamp(max=padded - 1)
        """Which tokens of a trace make up a row: (facts, tokens)."""
        self.single = len(trace.questions) == 1
        self.pack = max(1, min(PACK, PACKED_TOKENS // self.tokens)) if self.single else 1
        self._seen = {id(mask): _seen(mask, padded) for mask in self._recorded_masks()}
        self._masks: dict[tuple[int, torch.device], Tensor] = {}
        self._kept_arguments: dict[tuple[int, int], dict[str, Any]] = {}

    def rows(self, layer: int, facts: Tensor) -> Tensor:
        """What enters `layer` (or, behind the last, the final norm) in the trace, a row for each of `facts`.

        facts (rows,) on the host → (rows, tokens, d_model), to be changed at will.
        """
        residual = self.trace.calls[layer].hidden
        if self.single:
            return residual[0, self._places[0, 0] : self._places[0, -1] + 1].repeat(len(facts), 1, 1)
        device = residual.device
        return residual[upload(facts, device)[:, None], upload(self._places[facts], device)]

    @torch.no_grad()
    def run_layer(
        self, layer: int, hidden: Tensor, facts: Tensor, changes: Mapping[Site, Change] | None = None
    ) -> tuple[Tensor, KeysValues]:
        """`hidden` (rows, tokens, d_model) after `layer`, and the keys and values that it made of these tokens.

        Each of `changes`, at sites in this layer, is handed the activation as (rows, tokens, width); where rows are
        packed the last ones may be no rows at all.
        """
        hidden = hidden.to(self._device(layer))
        rows, tokens, d_model = hidden.shape
        pack = min(self.pack, rows)
        sequences = -(-rows // pack)
        if sequences * pack > rows:
            hidden = torch.cat([hidden, hidden.new_zeros(sequences * pack - rows, tokens, d_model)])
        past = _Past(*self._prefix(layer, sequences, facts), [])
        arguments = self._arguments(layer, pack, facts)
        by_rows = {site: _by_rows(change, tokens) for site, change in (changes or {}).items()}
        with intervene(self._model, by_rows):
            output = self._layers[layer](
                hidden.reshape(sequences, pack * tokens, d_model), **arguments, past_key_values=past
            )
        whole: Tensor = output[0] if isinstance(output, tuple) else output
        return whole.reshape(-1, tokens, d_model)[:rows], past.own[0]

    def _device(self, layer: int) -> torch.device:
        """Where `layer` computes: a trace holds what enters a layer, which may come from another device."""
        return self.trace.keys[layer].device

    def _prefix(self, layer: int, sequences: int, facts: Tensor) -> KeysValues:
        """Keys and values to the left of the rows: (sequences, kv_heads, prefix, head_dim) both."""
        keys, values = (part[layer][:, :, : self.prefix] for part in (self.trace.keys, self.trace.values))
        if self.single:
            return keys.expand(sequences, -1, -1, -1), values.expand(sequences, -1, -1, -1)
        chosen = upload(facts, keys.device)
        return keys[chosen], values[chosen]

    # --- how a layer is called ----------------------------------------------------------------------------------------

    def _arguments(self, layer: int, pack: int, facts: Tensor) -> dict[str, Any]:
        """What the trace called `layer` with, cut to the rows' tokens; tensors that rows have no use for are left.

        Of a single fact they are the same for all rows, and kept.
        """
        if (layer, pack) in self._kept_arguments:
            return self._kept_arguments[layer, pack]
        call, device = self.trace.calls[layer], self._device(layer)
        arguments = {name: value for name, value in call.arguments.items() if not isinstance(value, Tensor)}
        arguments["attention_mask"] = self._mask(layer, pack, facts)
        if "position_embeddings" in call.arguments:
            pair = call.arguments["position_embeddings"]
            arguments["position_embeddings"] = tuple(self._cut(part.to(device), pack, facts) for part in pair)
        if "position_ids" in call.arguments:
            arguments["position_ids"] = self._cut(call.arguments["position_ids"].to(device), pack, facts)
        if self.single:
            self._kept_arguments[layer, pack] = arguments
        return arguments

    def _cut(self, table: Tensor, pack: int, facts: Tensor) -> Tensor:
        """A table by token, (1, pos, …), at the rows' tokens: (1, pack × tokens, …), or (rows, tokens, …)."""
        if self.single:
            cut = table[:, self._places[0, 0] : self._places[0, -1] + 1]
            return cut.repeat(1, pack, *(1 for _ in cut.shape[2:]))
        return table[0][upload(self._places[facts], table.device)]

    def _recorded_masks(self) -> list[Tensor | None]:
        """The masks that layers were called with; layers of a kind share one."""
        masks = [call.arguments.get("attention_mask") for call in self.trace.calls[:-1]]
        return list({id(mask): mask for mask in masks}.values())

    def _mask(self, layer: int, pack: int, facts: Tensor) -> Tensor:
        """What is added to attention scores: (sequences or 1, 1, tokens, prefix + tokens)."""
        recorded, device = self.trace.calls[layer].arguments.get("attention_mask"), self._device(layer)
        key = (id(recorded), device)
        if key not in self._masks:
            # (facts, tokens, prefix + tokens), for as many rows as a sequence ever holds
            visible = torch.stack([self._visible(self._seen[id(recorded)], start) for start in self.starts])
            if self.single:
                visible = _packed(visible[0], self.prefix, self.pack)[None]
            mask = torch.zeros(visible.shape, dtype=self.trace.keys[layer].dtype)
            mask.masked_fill_(~visible, torch.finfo(mask.dtype).min)
            self._masks[key] = upload(mask[:, None], device)
        mask = self._masks[key]
        if self.single:
            return mask[..., : pack * self.tokens, : self.prefix + pack * self.tokens]
        return mask[upload(facts, device)]

    def _visible(self, seen: Tensor, start: int) -> Tensor:
        """Which keys the tokens of a row from `start` on see: (tokens, prefix + tokens) bool, on the host."""
        places = (start + torch.arange(self.tokens)).clamp(max=len(seen) - 1)
        prefix = seen[places, : self.prefix] & (torch.arange(self.prefix) < start)
        # Where a row is longer than its fact the last token stands in for those behind it: none may look ahead at them.
        own = seen[places][:, places].tril()
        return torch.cat([prefix, own], dim=1)


def _seen(mask: Tensor | None, positions: int) -> Tensor:
    """Which tokens see which in a recorded call: (pos, pos) bool, on the host.

    It is the same for all facts, since padding stands on the right, where nothing looks. No mask is the causal one.
    """
    if mask is None:
        return torch.ones(positions, positions, dtype=torch.bool).tril()
    whole = mask[0, 0].cpu()
    return whole if whole.dtype is torch.bool else whole > torch.finfo(whole.dtype).min / 2


def _by_rows(change: Change, tokens: int) -> Change:
    """`change` for rows (rows, tokens, width), made to work on packed sequences."""

    def packed(activation: Tensor) -> Tensor:
        rows = activation.reshape(-1, tokens, activation.shape[-1])
        return change(rows).reshape(activation.shape)

    return packed


def _packed(visible: Tensor, prefix: int, pack: int) -> Tensor:
    """What `pack` rows side by side see, each the prefix and itself: (pack × tokens, prefix + pack × tokens)."""
    own = torch.kron(torch.eye(pack, dtype=torch.bool), visible[:, prefix:])
    return torch.cat([visible[:, :prefix].repeat(pack, 1), own], dim=1)
