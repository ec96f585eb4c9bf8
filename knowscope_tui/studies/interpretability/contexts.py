"""Sentences in which units are watched, and what the units show on their tokens.

Each sentence goes to one of two halves by a seeded hash: explanations are found on one, scored on the other. `<bos>` is
left out. Phrasings of one fact may lie in both halves: a unit that carries a single fact would be silent otherwise.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.units import Family, Site, Unit
from knowscope_tui.engine.hooks import capture
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.studies.study import Subject

MOST_CONTEXTS = 2000
"""Sentences at most, by a seeded draw."""

BATCH_TOKENS = 4096

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Context:
    """A sentence as the tokens that the model reads, without `<bos>`."""

    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    fitted: bool
    """Whether explanations may see it; what is scored is the rest."""


@dataclass(frozen=True)
class Shown:
    """What one unit shows on every context: `values[i]` (tokens of context i,)."""

    contexts: Sequence[Context]
    values: Sequence[Values]

    def half(self, *, fitted: bool) -> Shown:
        """The contexts of one half."""
        kept = [index for index, context in enumerate(self.contexts) if context.fitted is fitted]
        return self.only(kept)

    def only(self, indices: Sequence[int]) -> Shown:
        return Shown([self.contexts[i] for i in indices], [self.values[i] for i in indices])

    def turned(self, sign: float) -> Shown:
        """The same with every value times `sign`."""
        return Shown(self.contexts, [np.float32(sign) * values for values in self.values])

    @property
    def peaks(self) -> Values:
        """The largest activation in each context: (contexts,)."""
        return np.array([values.max() for values in self.values], dtype=np.float32)


def draw_contexts(subject: Subject) -> list[Context]:
    """The subject's texts, and its facts in all their phrasings with the answer behind them."""
    lm, seed = subject.lm, subject.options.seed
    told = [text for fact in subject.facts for text in _told(fact)]
    texts = list(dict.fromkeys((*subject.texts, *told)))
    if len(texts) > MOST_CONTEXTS:
        texts = random.Random(seed).sample(texts, MOST_CONTEXTS)
    contexts = []
    for text in texts:
        ids = lm.encode_text(text, cut=True)
        first = 1 if ids[0] == lm.tokenizer.bos_token_id else 0
        if len(ids) > first:
            words = tuple(lm.text(token) for token in ids[first:])
            contexts.append(Context(ids, words, _hash(f"{seed}:{text}") % 2 == 0))
    return contexts


def _told(fact: Fact) -> list[str]:
    return [f"{prompt} {fact.answer}." for prompt in (fact.prompt, *fact.edit_prompts, *fact.paraphrases)]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


@torch.no_grad()
def watch(
    lm: LanguageModel, library: Library, contexts: Sequence[Context], units: Sequence[Unit], on_progress: OnProgress
) -> dict[Unit, Shown]:
    """What each of `units` shows on every token of `contexts`, in one pass over them."""
    places = _by_site(units)
    values: dict[Unit, list[Values]] = {unit: [np.zeros(0, np.float32)] * len(contexts) for unit in units}
    order = sorted(range(len(contexts)), key=lambda index: len(contexts[index].ids))
    done = 0
    while done < len(order):
        longest = len(contexts[order[min(done + BATCH_TOKENS // 8, len(order)) - 1]].ids)
        batch = order[done : done + lm.rows_at_once(longest, max(1, BATCH_TOKENS // longest))]
        on_progress("Watching the units", done / len(order))
        with capture(lm.model, places) as cache:
            lm.model(input_ids=lm.tensor([contexts[index].ids for index in batch]), use_cache=False)
        for site, own in places.items():
            shown = _shown(library, site, own, cache[site]).cpu().numpy()  # (rows, pos, units)
            for row, index in enumerate(batch):
                length, words = len(contexts[index].ids), len(contexts[index].tokens)
                for column, unit in enumerate(own):
                    values[unit][index] = shown[row, length - words : length, column].copy()
        done += len(batch)
    return {unit: Shown(contexts, own) for unit, own in values.items()}


def _by_site(units: Sequence[Unit]) -> dict[Site, list[Unit]]:
    places: dict[Site, list[Unit]] = {}
    for unit in sorted(set(units)):
        places.setdefault(unit.site, []).append(unit)
    return places


def _shown(library: Library, site: Site, units: Sequence[Unit], activation: torch.Tensor) -> torch.Tensor:
    """Activations of `units` at `site`: (rows, pos, width) → (rows, pos, units), float32."""
    indices = torch.tensor([unit.index for unit in units])
    if units[0].family is Family.NEURON:
        return activation[..., indices.to(activation.device)].to(torch.float32)
    return library.at(site).select(indices, activation.device).encode(activation)
