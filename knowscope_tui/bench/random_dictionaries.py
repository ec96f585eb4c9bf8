"""Dictionaries of random numbers beside a random model, none of which shares memory with another.

A feature is a random direction, of length about 1, that its encoder reads and its decoder writes. The threshold of a
dictionary is what `ACTIVE` of its features exceed at the prompt's last token, the L0 of Gemma Scope's 16k wide ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from knowscope_tui.bench.noise import Noise, normals
from knowscope_tui.bench.shapes import Shape
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.answers import forward
from knowscope_tui.engine.dictionary import Spec, make_dictionary
from knowscope_tui.engine.hooks import capture
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.residency import EncoderPool

ACTIVE = 70
BIAS = 0.01
"""Deviation of both biases."""
DTYPE = torch.bfloat16
"""Of the two matrices, as in a converted copy of a published dictionary."""


def random_library(
    lm: LanguageModel,
    shape: Shape,
    question: Question,
    kinds: Sequence[SiteKind],
    seed: int,
    on_progress: OnProgress = silent,
) -> Library:
    """A dictionary for each of `kinds` in every layer, in this machine's memory as mapped ones are."""
    sites = [Site(layer, kind) for layer in range(shape.layers) for kind in kinds]
    with capture(lm.model, sites) as cache:
        forward(lm, question)
    noise, pool = Noise(normals(seed, 1)), EncoderPool()
    made = []
    for number, site in enumerate(sites):
        on_progress("Making dictionaries", number / len(sites))
        activation = cache[site][0, question.last].to("cpu", torch.float32)
        tensors = random_tensors(activation, shape.width, noise)
        spec = Spec(site, "jumprelu", len(activation), shape.width, source="random numbers", checked=True)
        made.append(make_dictionary(spec, tensors, pool))
    return Library(made, pool)


def random_tensors(activation: Tensor, width: int, noise: Noise) -> dict[str, Tensor]:
    """A JumpReLU dictionary with `ACTIVE` of `width` features active at `activation` (d_in,)."""
    d_in = len(activation)
    decoder = torch.empty(width, d_in, dtype=DTYPE)
    noise.fill(decoder)
    decoder.mul_(1 / math.sqrt(d_in))
    encoder, b_enc = decoder.clone(), BIAS * noise.take(width)
    strongest = (encoder.to(torch.float32) @ activation + b_enc).topk(ACTIVE + 1).values
    return {
        "encoder": encoder,
        "decoder": decoder,
        "b_enc": b_enc,
        "b_dec": BIAS * noise.take(d_in),
        "threshold": strongest[-2:].mean().expand(width).contiguous(),
    }
