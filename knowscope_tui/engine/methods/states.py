"""Activations of many questions at once, at the tokens where answers are predicted, and of running text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from knowscope_tui.core.units import Site
from knowscope_tui.engine.answers import batches
from knowscope_tui.engine.hooks import capture
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.sites import width

ROWS = 256
"""Questions in one forward."""


def at_last(lm: LanguageModel, questions: Sequence[Question], sites: Sequence[Site]) -> dict[Site, Tensor]:
    """Site → activation at each prompt's last token: (questions, width), float32, on the CPU."""
    return at(lm, questions, [question.last for question in questions], sites)


@torch.no_grad()
def at(
    lm: LanguageModel, questions: Sequence[Question], positions: Sequence[int], sites: Sequence[Site]
) -> dict[Site, Tensor]:
    """Site → activation of each question at its own one of `positions`: (questions, width), float32, on the CPU."""
    found = {site: torch.zeros(len(questions), width(lm.model, site.kind)) for site in sites}
    for batch in batches(questions, ROWS):
        with capture(lm.model, sites) as cache:
            rows = lm.tensor([questions[index].input_ids for index in batch])
            lm.model(input_ids=rows, use_cache=False, logits_to_keep=1)
            own = torch.arange(len(batch))
            where = torch.tensor([positions[index] for index in batch])
            for site in sites:
                found[site][batch] = cache[site][own, where].to("cpu", torch.float32)
    return found


@torch.no_grad()
def over_texts(lm: LanguageModel, texts: Sequence[str], sites: Sequence[Site]) -> dict[Site, Tensor]:
    """Site → activation at every token of `texts` but the first: (tokens, width), float32, on the CPU."""
    found: dict[Site, list[Tensor]] = {site: [] for site in sites}
    encoded = [lm.encode_text(text, cut=True) for text in texts]
    for start in range(0, len(encoded), ROWS):
        chunk = encoded[start : start + ROWS]
        with capture(lm.model, sites) as cache:
            lm.model(input_ids=lm.tensor(chunk), use_cache=False, logits_to_keep=1)
            for site in sites:
                for row, ids in zip(cache[site], chunk, strict=True):
                    found[site].append(row[1 : len(ids)].to("cpu", torch.float32))
    return {
        site: torch.cat(rows) if rows else torch.zeros(0, width(lm.model, site.kind)) for site, rows in found.items()
    }
