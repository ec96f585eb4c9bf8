"""The leak test that trains: does the answer come back when the model learns other facts of the same kind?

What was removed should have to be taught again; what was only covered comes back by itself once the cover moves. Every
`down_proj` is fine-tuned on other facts of the same relations, and the erased ones are asked in between; a fact that
was not gone to begin with is back at step 0. The weights are put back bit for bit.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from knowscope_tui.core.facts import Fact, seeded
from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.proof import Leak
from knowscope_tui.engine.methods.evidence import questions_about
from knowscope_tui.engine.methods.forward import gradients_of, log_probs
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.proof.evaluate import know
from knowscope_tui.engine.sites import down_proj_name

RATE, BATCH, EVERY = 0.01, 64, 5
"""Adam's rate as a share of the weights' root mean square, questions in a step, steps between two looks."""

MOST = 400
"""Questions that are trained on."""


def relearned(
    lm: LanguageModel,
    facts: Sequence[Fact],
    known: Sequence[bool],
    others: Sequence[Fact],
    steps: int,
    on_progress: OnProgress,
    seed: int = 0,
) -> tuple[list[Leak], str]:
    """After how many steps each fact that was `known` before the edit is back, and what was done.

    `leaked` of a leak is the step at which the answer was first seen on top again. `on_progress` may raise to stop;
    the weights are put back then too.
    """
    relations = {fact.relation for fact in facts if fact.relation}
    alike = sorted(
        (fact for fact in others if fact.relation in relations), key=lambda fact: seeded(fact, seed)
    )  # The draw below is of the set, whatever its order.
    rng = random.Random(seed)
    questions = questions_about(lm, alike)
    questions = rng.sample(questions, min(len(questions), MOST))
    if not questions:
        return [Leak(fact, 0, 0, False) for fact in facts], "There were no other facts of the same relations."
    back = _steps_until_back(lm, facts, questions, steps, rng, on_progress)
    leaks = [_leak(fact, steps, was, step) for fact, was, step in zip(facts, known, back, strict=True)]
    come = sum(leak.leaks for leak in leaks)
    return leaks, (
        f"At most {steps} Adam steps on {len(questions):,} questions about others of the same relations; "
        f"{come} of {sum(known)} came out."
    )


def _leak(fact: Fact, steps: int, known: bool, step: int | None) -> Leak:
    if not known:
        return Leak(fact, 0, 0, False)
    if step is None:
        return Leak(fact, steps, 0, False, f"not in {steps} steps")
    return Leak(fact, steps, step, True, f"back at step {step}" if step else "was not gone")


def _steps_until_back(
    lm: LanguageModel,
    facts: Sequence[Fact],
    questions: Sequence[Question],
    steps: int,
    rng: random.Random,
    on_progress: OnProgress,
) -> list[int | None]:
    """The step at which each fact's answer was first seen on top; None if never."""
    parameters = [lm.model.get_parameter(down_proj_name(lm.model, layer)) for layer in range(lm.n_layers)]
    original = [parameter.detach().clone() for parameter in parameters]
    asked = [lm.ask(fact.prompt, fact.answer) for fact in facts]
    back: list[int | None] = [0 if answer.top else None for answer in know(lm, asked)]
    masters = [parameter.to(torch.float32, copy=True) for parameter in original]
    rms = (sum(float(master.square().mean()) for master in masters) / len(masters)) ** 0.5
    optimizer = torch.optim.Adam(masters, lr=RATE * rms)
    try:
        for step in range(1, steps + 1):
            if None not in back:
                break
            on_progress(f"Leak test: relearning, step {step} of {steps}", None)
            with gradients_of(parameters):
                loss = _loss(lm, rng.sample(list(questions), min(BATCH, len(questions))))
                gradients = torch.autograd.grad(loss, parameters)
            for master, gradient in zip(masters, gradients, strict=True):
                master.grad = gradient.to(torch.float32)
            optimizer.step()
            _put(parameters, masters)
            if step % EVERY == 0 or step == steps:
                back = [
                    step if answer.top and seen is None else seen
                    for answer, seen in zip(know(lm, asked), back, strict=True)
                ]
    finally:
        _put(parameters, original)
    return back


@torch.no_grad()
def _put(parameters: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


def _loss(lm: LanguageModel, questions: Sequence[Question]) -> torch.Tensor:
    """Mean negative log-probability of the answers' tokens."""
    where = [
        (row, question.last + place)
        for row, question in enumerate(questions)
        for place in range(len(question.answer_ids))
    ]
    found = log_probs(lm, [question.input_ids for question in questions], where)
    tokens = torch.tensor([token for question in questions for token in question.answer_ids], device=found.device)
    return torch.nn.functional.nll_loss(found, tokens)
