"""What one forward of some facts leaves behind for the questions that follow.

Switching units off at layer l changes nothing below l and nothing to the left of the token it happens at. So the
residual stream in front of every layer and every layer's keys and values, kept once, are what each later run of the
layers above starts from (see `suffix`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from knowscope_tui.core.units import Site
from knowscope_tui.engine.answers import answer_log_prob
from knowscope_tui.engine.hooks import Call, Change, capture, intervene, record_calls
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel, Question


@dataclass(frozen=True)
class Trace:
    """A forward of `questions`, right-padded to one length, each read at its own one of `positions`.

    Where it was recorded with changes in place, `activations` are what the sites showed before their change, and all
    else is what came of it.
    """

    questions: tuple[Question, ...]
    positions: tuple[int, ...]
    calls: tuple[Call, ...]
    """How each layer and, last, the final norm was called: its input (facts, pos, d_model) is the residual stream
    there; the rest are masks, position embeddings, flags."""
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    """Of each layer, before heads are repeated: (facts, kv_heads, pos, head_dim) each."""
    logits: tuple[Tensor, ...]
    """Of each fact where its answer is predicted: (n_answer, vocabulary)."""
    activations: Mapping[Site, Tensor]
    """At the reading positions: (facts, width)."""
    slopes: Mapping[Site, Tensor]
    """∂ log P(answer) / ∂ activation there: (facts, width). Empty where they were not asked for."""
    features: dict[Site, Tensor] = field(default_factory=dict, compare=False, repr=False)
    """Feature activations that were encoded already: (facts, d_sae)."""

    @property
    def p_answer(self) -> list[float]:
        """P(answer) of each fact."""
        pairs = zip(self.logits, self.questions, strict=True)
        return torch.stack([answer_log_prob(logits[None], question)[0] for logits, question in pairs]).exp().tolist()

    def encoded(self, library: Library, site: Site) -> Tensor:
        """Feature activations at `site` and the reading positions: (facts, d_sae), float32."""
        if site not in self.features:
            self.features[site] = library.at(site).encode(self.activations[site])
        return self.features[site]


def record(
    lm: LanguageModel,
    questions: Sequence[Question],
    positions: Sequence[int],
    sites: Sequence[Site] = (),
    *,
    slopes: bool = False,
    changes: Mapping[Site, Change] | None = None,
    settle: Callable[[Tensor], Question] | None = None,
) -> Trace:
    """One forward of `questions` through the model, `changes` in place; with `slopes` one backward too.

    `sites` are those whose activations are kept. `settle` says what is asked when the one question was left open: it
    is shown the logits there, (1, vocabulary). Where the model then has to read more tokens it runs once more.
    """
    run = _run(lm, questions, sites, changes, slopes=slopes)
    if settle is not None:
        settled, asked = settle(run.logits[0].detach()), questions[0]
        questions = [settled]
        if settled.input_ids != asked.input_ids:
            del run  # It holds what its backward pass would have needed.
            run = _run(lm, questions, sites, changes, slopes=slopes)
    gradient = _slopes(run.logits, questions, run.activations) if slopes else {}
    return Trace(
        questions=tuple(questions),
        positions=tuple(positions),
        calls=tuple(run.calls),
        keys=tuple(layer.keys.detach() for layer in run.past.layers),
        values=tuple(layer.values.detach() for layer in run.past.layers),
        logits=tuple(row.detach() for row in run.logits),
        activations={site: _at(whole, positions) for site, whole in run.activations.items()},
        slopes={site: _at(whole, positions) for site, whole in gradient.items()},
    )


@dataclass(frozen=True)
class _Run:
    """What one forward left, with its graph if it has one."""

    calls: list[Call]
    activations: Mapping[Site, Tensor]
    """(facts, pos, width)."""
    past: Any
    logits: list[Tensor]
    """As a trace has them."""


def _run(
    lm: LanguageModel,
    questions: Sequence[Question],
    sites: Sequence[Site],
    changes: Mapping[Site, Change] | None,
    *,
    slopes: bool,
) -> _Run:
    from transformers import DynamicCache

    past = DynamicCache()
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad() if slopes else torch.no_grad())
        calls = stack.enter_context(record_calls(lm.model))
        # Before the changes, so that what is captured is what they are made to.
        cache = stack.enter_context(capture(lm.model, sites, gradients=slopes))
        stack.enter_context(intervene(lm.model, changes or {}))
        logits = _answer_logits(lm, questions, past)
    return _Run(calls, cache, past, logits)


def _answer_logits(lm: LanguageModel, questions: Sequence[Question], past: Any) -> list[Tensor]:
    """Of each question where its answer is predicted, (n_answer, vocabulary); `past` takes keys and values up."""
    first = min(question.last for question in questions)
    longest = max(len(question.input_ids) for question in questions)
    logits = lm.model(
        input_ids=lm.tensor([question.input_ids for question in questions]),
        past_key_values=past,
        use_cache=True,
        logits_to_keep=longest - first,
    ).logits
    return [
        row[question.last - first :][: len(question.answer_ids)]
        for row, question in zip(logits, questions, strict=True)
    ]


@torch.enable_grad()
def _slopes(
    logits: Sequence[Tensor], questions: Sequence[Question], cache: Mapping[Site, Tensor]
) -> dict[Site, Tensor]:
    """∂ log P(answer) / ∂ activation: site → (facts, pos, width). Facts do not touch one another in a batch."""
    pairs = zip(logits, questions, strict=True)
    log_p = torch.stack([answer_log_prob(row[None], question)[0] for row, question in pairs]).sum()
    ordered = list(cache)
    found = torch.autograd.grad(log_p, [cache[site] for site in ordered]) if ordered else ()
    return dict(zip(ordered, found, strict=True))


def _at(activation: Tensor, positions: Sequence[int]) -> Tensor:
    """(facts, pos, width) → (facts, width)."""
    return torch.stack([row[position] for row, position in zip(activation.detach(), positions, strict=True)])
