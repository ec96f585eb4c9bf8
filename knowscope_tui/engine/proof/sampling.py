"""The leak test that samples: how often the answer comes up by chance.

An answer comes up where it stands as words of their own: "Mars" is not in "Marsh".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from knowscope_tui.core.facts import Fact, seeded
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.proof import Leak
from knowscope_tui.engine.generate import stop_ids
from knowscope_tui.engine.model import LanguageModel

MORE_TOKENS = 4
"""Tokens sampled beyond the length of the answer."""


def sampled_counts(
    lm: LanguageModel, facts: Sequence[Fact], samples: int, seed: int, on_progress: OnProgress = silent
) -> list[int]:
    """In how many of `samples` continuations at temperature 1 each fact's answer stands: (facts,).

    Sampled from the model's own distribution, every fact with a seed of its own, wherever it stands among `facts`.
    """
    counts = []
    for index, fact in enumerate(facts):
        on_progress(f"Leak test: sampling, fact {index + 1} of {len(facts)}", None)
        counts.append(_count(lm, fact, samples, seeded(fact, seed)))
    return counts


def sampled_leaks(
    facts: Sequence[Fact], before: Sequence[int], after: Sequence[int], samples: int, share: float
) -> tuple[list[Leak], str]:
    """What the counts say: a leak where a `share` of the samples held the answer before the edit and holds it after."""
    leaks = []
    for fact, was, count in zip(facts, before, after, strict=True):
        counted = was > 0 and was >= share * samples
        leaks_now = counted and count > 0 and count >= share * samples
        detail = f"{count} of {samples}, before {was}"
        leaks.append(Leak(fact, samples if counted else 0, count, leaks_now, detail))
    return leaks, f"{samples} continuations at temperature 1; a leak from {share:.0%} of them on."


@torch.no_grad()
def _count(lm: LanguageModel, fact: Fact, samples: int, seed: int) -> int:
    question = lm.ask(fact.prompt, fact.answer)
    room = max(lm.context - len(question.prompt_ids), 1)
    length = min(len(question.answer_ids) + MORE_TOKENS, room)
    generator = torch.Generator().manual_seed(seed)
    wanted = re.compile(rf"(?<!\w){re.escape(question.answer)}(?!\w)", re.IGNORECASE)
    stops = stop_ids(lm)
    return sum(
        wanted.search(_text(lm, row, stops)) is not None
        for row in sampled(lm, question.prompt_ids, samples, length, generator).tolist()
    )


def _text(lm: LanguageModel, ids: Sequence[int], stops: set[int]) -> str:
    """The text of `ids` up to the first token that ends one."""
    end = next((place for place, token in enumerate(ids) if token in stops), len(ids))
    return str(lm.tokenizer.decode(ids[:end]))


@torch.no_grad()
def sampled(
    lm: LanguageModel, prompt: tuple[int, ...], samples: int, length: int, generator: torch.Generator
) -> Tensor:
    """Continuations of `prompt` at temperature 1: (samples, length). The prompt is read once."""
    from transformers import DynamicCache

    read = lm.model(input_ids=lm.tensor([prompt]), use_cache=True, logits_to_keep=1)
    cache: DynamicCache = read.past_key_values
    cache.batch_repeat_interleave(samples)
    logits = read.logits[:, -1].expand(samples, -1)
    drawn: list[Tensor] = []
    for step in range(length):
        p = torch.softmax(logits.to("cpu", torch.float32), dim=-1)
        chosen = torch.multinomial(p, 1, generator=generator)  # (samples, 1)
        drawn.append(chosen)
        if step + 1 < length:
            out = lm.model(input_ids=chosen.to(lm.device), past_key_values=cache, use_cache=True, logits_to_keep=1)
            logits = out.logits[:, -1]
    return torch.cat(drawn, dim=1)
