"""Activations of many questions at once, at the tokens where answers are predicted, and of running text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from knowscope_tui.core.units import Site
from knowscope_tui.engine.hooks import Change, capture, intervene
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.sites import width

ROWS = 256
"""Questions in one forward, where the vocabulary allows so many."""

Places = tuple[tuple[int, ...], tuple[int, ...]]
"""The tokens of a text, and those positions in it that matter."""


def portions(lm: LanguageModel, rows: Sequence[Sequence[int]], most: int = ROWS) -> list[list[int]]:
    """Indices of `rows` of token ids, in portions of like length that one forward takes each; longest first."""
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    found: list[list[int]] = []
    while order:
        size = lm.rows_at_once(len(rows[order[0]]), most)
        found.append(order[:size])
        order = order[size:]
    return found


def at_last(lm: LanguageModel, questions: Sequence[Question], sites: Sequence[Site]) -> dict[Site, Tensor]:
    """Site → activation at each prompt's last token: (questions, width), float32, on the CPU."""
    return at(lm, questions, [question.last for question in questions], sites)


@torch.no_grad()
def at(
    lm: LanguageModel,
    questions: Sequence[Question],
    positions: Sequence[int],
    sites: Sequence[Site],
    changes: Mapping[Site, Change] | None = None,
) -> dict[Site, Tensor]:
    """Site → activation of each question at its own one of `positions`: (questions, width), float32, on the CPU.

    Each of `changes` is handed the activation at these positions as (questions, 1, width), and what it returns stands
    there instead.
    """
    found = {site: torch.zeros(len(questions), width(lm.model, site.kind)) for site in sites}
    ids = [question.input_ids for question in questions]
    for portion in portions(lm, ids):
        where = torch.tensor([positions[index] for index in portion])
        own = {site: _at_each(where, change) for site, change in (changes or {}).items()}
        with intervene(lm.model, own), capture(lm.model, sites) as cache:
            lm.model(input_ids=lm.tensor([ids[index] for index in portion]), use_cache=False, logits_to_keep=1)
            for site in sites:
                found[site][portion] = cache[site][torch.arange(len(portion)), where].to("cpu", torch.float32)
    return found


def _at_each(positions: Tensor, change: Change) -> Change:
    """`change` at its own one of `positions` for each row."""
    rows = torch.arange(len(positions))

    def whole(activation: Tensor) -> Tensor:  # (rows, pos, width)
        changed = activation.clone()
        changed[rows, positions] = change(activation[rows, positions][:, None])[:, 0]
        return changed

    return whole


@torch.no_grad()
def add_moments(lm: LanguageModel, texts: Sequence[Places], share: float, moments: Mapping[Site, Tensor]) -> None:
    """Adds `share` · mean of a aᵀ over all places of `texts` to the `moments`, site → (width, width), in place."""
    count = sum(len(positions) for _ids, positions in texts)
    for portion in portions(lm, [ids for ids, _positions in texts]):
        where = [(row, position) for row, index in enumerate(portion) for position in texts[index][1]]
        rows, positions = torch.tensor(where).T
        with capture(lm.model, moments) as cache:
            lm.model(input_ids=lm.tensor([texts[index][0] for index in portion]), use_cache=False, logits_to_keep=1)
            for site, moment in moments.items():
                a = cache[site][rows, positions].to(torch.float32)  # (places, width)
                moment.addmm_(a.T, a, alpha=share / count)
