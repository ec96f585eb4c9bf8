"""Facts learned by fine-tuning on their taught phrasings, with what the model says elsewhere held in place.

Each step descends on

    −log P(answer) over a batch of taught phrasings  +  KEEP · KL(base ‖ trained) over a batch of reminders

where reminders are general text and facts that the model knows: what it said of them before is kept, not what a
corpus says. Phrasings that are not known yet come first. Every `CHECK_EVERY` steps all are asked; it ends when greedy
decoding gives each answer with P ≥ `min_p`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.injection import InjectionReport, InjectOptions, Learned
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.proof import Figure
from knowscope_tui.engine.injecting.weights import Trained, rank_for, rate_for, trained_inside
from knowscope_tui.engine.methods.evidence import phrasings, questions_about
from knowscope_tui.engine.methods.forward import log_probs
from knowscope_tui.engine.methods.keeping import Pool, drift, of_questions, of_texts
from knowscope_tui.engine.methods.material import Material
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.proof.evaluate import Known, Surprise, know, surprises
from knowscope_tui.engine.proof.figures import ratio_less_one, share
from knowscope_tui.errors import DeviceError, EditError

BATCH, TEXTS, FACTS = 64, 8, 48
"""Taught phrasings in a step, and reminders: general texts, facts."""

KEEP = 1.0
SPARE_P = 0.1
"""Share of the way from the P that is asked to 1 that training goes on for, where weights are rounded at its end."""

CHECK_EVERY = 10
WARM_UP = 10
"""Steps in which the learning rate rises to what it stays at."""


@dataclass(frozen=True)
class Watch:
    """What the cost is measured on: facts and texts that are not shown while it is trained."""

    facts: tuple[Fact, ...] = ()
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Asked:
    """Everything that is asked before and after."""

    taught: tuple[tuple[Known, ...], ...]
    held_out: tuple[tuple[Known, ...], ...]
    watched: tuple[Known, ...]
    replayed: tuple[Known, ...]
    surprises: tuple[Surprise, ...]


@contextmanager
def injected(
    lm: LanguageModel,
    facts: Sequence[Fact],
    material: Material,
    watch: Watch,
    options: InjectOptions = InjectOptions(),
    on_progress: OnProgress = silent,
) -> Iterator[InjectionReport]:
    """Inside the block `lm` knows `facts`; behind it every weight has the bits it had before.

    `material` is replayed, on `watch` the cost is measured. Raises `UsageError`, `PromptError` for a fact that the
    model cannot be asked, `DeviceError` where training does not fit, `EditError` when not all is learned within
    `max_steps` (unless `keep_anyway`), and what `on_progress` raises.
    """
    options.check()
    start = time.perf_counter()
    rank = rank_for(lm) if options.lora_rank is None else options.lora_rank
    rate = options.learning_rate or rate_for(lm, rank)
    aim = _aim(lm.dtype, options.min_p)
    before = _ask(lm, facts, material, watch)
    lessons = [lm.ask(prompt, fact.answer) for fact in facts for prompt in phrasings(fact)]
    with _fitting(), trained_inside(lm, rank, options.seed) as trained:
        steps = _learn(lm, lessons, material, trained, rate, aim, options, on_progress)
        trained.settle()
        on_progress("Measuring what was learned", None)
        after = _ask(lm, facts, material, watch)
        learned = _learned(facts, before, after, options)
        missing = sum(not one.known for one in learned)
        if missing and not options.keep_anyway:
            raise EditError(
                f"After {steps} steps {missing} of {len(facts)} facts are not known, so nothing was kept.",
                "Allow more with --max-steps, raise --lr, or take what there is with --keep-anyway.",
            )
        yield InjectionReport(
            learned=learned,
            kept=_kept(before.watched, after.watched),
            replayed=_kept(before.replayed, after.replayed),
            delta_ppl=ratio_less_one(
                [text.nats for text in after.surprises],
                [text.nats for text in before.surprises],
                [text.tokens for text in before.surprises],
            ),
            lora_rank=rank,
            learning_rate=rate,
            steps=steps,
            seconds=time.perf_counter() - start,
        )


def _ask(lm: LanguageModel, facts: Sequence[Fact], material: Material, watch: Watch) -> _Asked:
    questions = [[lm.ask(prompt, fact.answer) for prompt in phrasings(fact)] for fact in facts]
    questions += [[lm.ask(prompt, fact.answer) for prompt in fact.paraphrases] for fact in facts]
    known = iter(know(lm, [question for own in questions for question in own]))
    by_fact = [tuple(next(known) for _ in own) for own in questions]
    return _Asked(
        taught=tuple(by_fact[: len(facts)]),
        held_out=tuple(by_fact[len(facts) :]),
        watched=tuple(know(lm, [lm.ask(fact.prompt, fact.answer) for fact in watch.facts])),
        replayed=tuple(know(lm, [lm.ask(fact.prompt, fact.answer) for fact in material.retained])),
        surprises=tuple(surprises(lm, watch.texts)),
    )


def _learn(
    lm: LanguageModel,
    lessons: Sequence[Question],
    material: Material,
    trained: Trained,
    rate: float,
    aim: float,
    options: InjectOptions,
    on_progress: OnProgress,
) -> int:
    """Trains until all `lessons` are known with a P of `aim` or the steps are used up; how many steps that were."""
    rng = random.Random(options.seed)
    on_progress("Asking what is to be kept", None)
    with torch.no_grad():
        texts = Pool(lm, of_texts(lm, material.texts), options.seed)
        facts = Pool(lm, of_questions(questions_about(lm, material.retained)), options.seed)
    optimizer = torch.optim.AdamW(trained.parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.0)
    late: list[Question] = []
    for step in range(options.max_steps):
        if step % CHECK_EVERY == 0:
            late = _late(lm, lessons, aim)
            if not late:
                return step
        known = len(lessons) - len(late)
        on_progress(f"Training, {known:,} of {len(lessons):,} phrasings known", step / options.max_steps)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / WARM_UP)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(answer_loss(lm, _batch(late, lessons, rng)))
        for reminders in (texts.draw(TEXTS, rng), facts.draw(FACTS, rng)):
            for part in drift(lm, reminders):
                torch.autograd.backward(KEEP * part)
        if not torch.isfinite(torch.nn.utils.clip_grad_norm_(trained.parameters, 1.0)):
            raise EditError(f"Training diverged at step {step + 1}, so nothing was kept.", "Use a lower --lr.")
        optimizer.step()
    return options.max_steps


def _aim(stored: torch.dtype, min_p: float) -> float:
    """P at which training stops: higher where weights are rounded to `stored` afterwards, which moves P a little."""
    return min_p if stored is torch.float32 else min_p + SPARE_P * (1.0 - min_p)


def _late(lm: LanguageModel, lessons: Sequence[Question], min_p: float) -> list[Question]:
    """Those of `lessons` that are not known yet."""
    found = know(lm, lessons)
    return [lesson for lesson, known in zip(lessons, found, strict=True) if not (known.top and known.p >= min_p)]


def _batch(late: Sequence[Question], lessons: Sequence[Question], rng: random.Random) -> list[Question]:
    """Three quarters late ones, the rest drawn from all, so that what is known stays known."""
    first = rng.sample(late, min(len(late), BATCH * 3 // 4))
    return [*first, *rng.sample(lessons, min(len(lessons), BATCH - len(first)))]


def answer_loss(lm: LanguageModel, questions: Sequence[Question]) -> Tensor:
    """−log P of the answers' tokens, the mean over tokens, in nats; differentiable."""
    where = [
        (row, question.last + place)
        for row, question in enumerate(questions)
        for place in range(len(question.answer_ids))
    ]
    found = log_probs(lm, [question.input_ids for question in questions], where)  # (tokens, vocabulary)
    ids = torch.tensor([token for question in questions for token in question.answer_ids], device=found.device)
    return -found.gather(1, ids[:, None]).mean()


def _learned(facts: Sequence[Fact], before: _Asked, after: _Asked, options: InjectOptions) -> tuple[Learned, ...]:
    def count(known: Sequence[Known]) -> int:
        return sum(one.top and one.p >= options.min_p for one in known)

    return tuple(
        Learned(
            fact=fact,
            known_before=count(before.taught[index]) == len(before.taught[index]),
            taught=len(after.taught[index]),
            taught_known=count(after.taught[index]),
            p_taught=min(known.p for known in after.taught[index]),
            held_out=len(after.held_out[index]),
            held_out_known=sum(known.top for known in after.held_out[index]),
        )
        for index, fact in enumerate(facts)
    )


def _kept(before: Sequence[Known], after: Sequence[Known]) -> Figure:
    return share([float(now.top) for was, now in zip(before, after, strict=True) if was.top])


@contextmanager
def _fitting() -> Iterator[None]:
    """Raises `DeviceError` where the block finds no memory left."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise DeviceError(
            "The device has no memory to train this model.", "Use --lora with a lower rank, or another --device."
        ) from None
