"""What a fact takes while its units are ranked, worked out from shapes: how many are taken at once follows from it."""

from __future__ import annotations

from dataclasses import dataclass

from knowscope_tui.core.units import SiteKind
from knowscope_tui.engine.batch import rows_within
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.readout import CHUNK_BYTES
from knowscope_tui.engine.sites import text_config, width
from knowscope_tui.engine.suffix import Suffix
from knowscope_tui.engine.trace import Trace

READ_OUT = 8
"""Bytes for each logit of a chunk that is read out: as it comes, and in float32."""


@dataclass(frozen=True)
class FactBytes:
    """Of one fact in a batch."""

    recorded: int
    """The most there is of it, at the turn from forward to backward."""
    kept: int
    """What stays of it while its units are measured."""


def fact_bytes(lm: LanguageModel, library: Library, tokens: int, predicted: int, *, neurons: bool) -> FactBytes:
    """Of a fact padded to `tokens`, with logits at `predicted` of them; `neurons` says whether they are read too."""
    config, size, layers = text_config(lm.model), lm.dtype.itemsize, lm.n_layers
    d_model, d_mlp, d_attn = (
        width(lm.model, kind) for kind in (SiteKind.RESID_POST, SiteKind.MLP_ACT, SiteKind.ATTN_Z)
    )
    vocabulary = int(config.vocab_size)
    # What the backward pass needs of a token in a layer: residual stream and sums; gate, its activation, up and their
    # product; queries, keys and values as they come, turned and repeated; four norms' inputs in float32; and for each
    # head what is left of the scores, and their softmax in float32.
    token = size * (4 * d_model + 4 * d_mlp + 6 * d_attn) + 4 * 4 * d_model
    token += config.num_attention_heads * tokens * (2 * size + 8)
    # Logits, softcapped in three steps, and those of the answer in float32 with their softmax.
    logits = predicted * vocabulary * (4 * size + 8)
    # Activation and attribution of every unit, in float32.
    units = 8 * (sum(library.at(site).d_sae for site in library.sites) + (layers * d_mlp if neurons else 0))
    # Residual stream, keys and values of every layer; two kinds of mask; logits; activation and slope at every site.
    read = sum(library.at(site).d_in for site in library.sites) + (layers * d_mlp if neurons else 0)
    trace = tokens * ((layers + 1) * d_model + 2 * layers * d_attn + 2 * tokens) + predicted * vocabulary + 2 * read
    return FactBytes(layers * tokens * token + logits + units, size * trace + units)


def rows_beside(lm: LanguageModel, trace: Trace, left: int) -> int:
    """How many units of `trace`'s facts run at once in `left` bytes, at least one, with what reading them out takes.

    Logits come in chunks of `CHUNK_BYTES` at most; where memory is short of even that, rows are as few as it allows.
    """
    most_read_out = READ_OUT // 4 * CHUNK_BYTES.get(lm.device.type, CHUNK_BYTES["cpu"])
    read_out = min(most_read_out, left // 2)
    rows = rows_within(lm, Suffix(lm, trace, trace.positions), left - read_out)
    if read_out < most_read_out:
        predicted = max(len(question.answer_ids) for question in trace.questions)
        rows = min(rows, read_out // (READ_OUT * predicted * int(text_config(lm.model).vocab_size)))
    return max(1, rows)
