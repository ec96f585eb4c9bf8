"""Greedy continuations, with ablations in place."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from knowscope_tui.core.units import Site
from knowscope_tui.engine.hooks import Change, intervene
from knowscope_tui.engine.model import LanguageModel, Question


@torch.no_grad()
def continuation(lm: LanguageModel, question: Question, changes: Mapping[Site, Change], tokens: int) -> str:
    """Up to `tokens` greedy tokens after the prompt, as text; stops at the end-of-text token and at the context's end.

    Every step runs the whole sequence, so that a change at one position stays at that position.
    """
    ids = list(question.prompt_ids)
    stops = _stop_ids(lm)
    with intervene(lm.model, changes):
        for _ in range(min(tokens, lm.context - len(ids))):
            logits = lm.model(input_ids=lm.tensor([tuple(ids)]), use_cache=False, logits_to_keep=1).logits
            token = int(logits[0, -1].argmax())
            if token in stops:
                break
            ids.append(token)
    # A slice decoded by itself would lose the space in front of it.
    whole, prompt = (str(lm.tokenizer.decode(part, skip_special_tokens=True)) for part in (ids, question.prompt_ids))
    return whole[len(prompt) :]


def _stop_ids(lm: LanguageModel) -> set[int]:
    configured = lm.model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return {token for token in (*ids, lm.tokenizer.eos_token_id) if token is not None}
