"""Greedy continuations of a fact, with an ablation in place.

The prompt's keys and values are those that following the ablation left behind (see `live`); from there on each step
runs one token. An ablation at one token stays there; one at every token is carried out on each further token too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from knowscope_tui.core.progress import unstopped
from knowscope_tui.core.readings import Ablation, Positions
from knowscope_tui.core.units import Site
from knowscope_tui.engine.ablate import Means, unit_changes
from knowscope_tui.engine.hooks import Change, intervene
from knowscope_tui.engine.live import Live
from knowscope_tui.engine.model import LanguageModel, Question


@torch.no_grad()
def continuation_of(
    lm: LanguageModel,
    live: Live,
    ablation: Ablation,
    means: Means,
    tokens: int,
    check: Callable[[], None] = unstopped,
) -> str:
    """Up to `tokens` greedy tokens after the prompt that `live` follows, as text, with `ablation` in place.

    `check` is called before each token and may raise to cancel.
    """
    from transformers import DynamicCache

    question = live.trace.questions[0]
    run = live.run(ablation, means)
    past = DynamicCache(live.past(run, len(question.prompt_ids)))
    everywhere = ablation.positions is Positions.ALL
    changes = unit_changes(lm, live.library, ablation, means) if everywhere else {}
    return _continued(lm, question, int(run.logits[0].argmax()), past, changes, tokens, check)


@torch.no_grad()
def continuation(lm: LanguageModel, question: Question, tokens: int) -> str:
    """Up to `tokens` greedy tokens after the prompt, as text, through the model as it stands."""
    from transformers import DynamicCache

    past = DynamicCache()
    prompt = lm.tensor([question.prompt_ids])
    logits = lm.model(input_ids=prompt, past_key_values=past, use_cache=True, logits_to_keep=1).logits
    return _continued(lm, question, int(logits[0, -1].argmax()), past, {}, tokens, unstopped)


def _continued(
    lm: LanguageModel,
    question: Question,
    token: int,
    past: object,
    changes: Mapping[Site, Change],
    tokens: int,
    check: Callable[[], None],
) -> str:
    """From the first token on; stops at the end-of-text token and at the context's end."""
    ids, stops = list(question.prompt_ids), stop_ids(lm)
    most = min(len(ids) + tokens, lm.context)
    with intervene(lm.model, changes):
        while len(ids) < most and token not in stops:
            ids.append(token)
            if len(ids) < most:
                check()
                step = lm.tensor([(token,)])
                logits = lm.model(input_ids=step, past_key_values=past, use_cache=True, logits_to_keep=1).logits
                token = int(logits[0, -1].argmax())
    # A slice decoded by itself would lose the space in front of it.
    whole, prompt = (str(lm.tokenizer.decode(part, skip_special_tokens=True)) for part in (ids, question.prompt_ids))
    return whole[len(prompt) :]


def stop_ids(lm: LanguageModel) -> set[int]:
    """Tokens that end a text."""
    configured = lm.model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return {token for token in (*ids, lm.tokenizer.eos_token_id) if token is not None}
