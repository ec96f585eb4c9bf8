"""Leak tests: the ways in which an answer that is gone from its own prompt may still come out.

Everything is asked before the edit first, and counts only where the answer came out then: what the model never said
that way cannot leak. (Another spelling and relearning ask for no more than that the prompt was answered; see there.)
Each module beside this one holds one kind of test. A fact that an edit has left in place leaks in every test that
reaches it.

| test | counts | leaks |
|---|---|---|
| unseen phrasings, reverse question, longer context, few-shot | questions answered before | any is answered |
| sampled | continuations, where enough held the answer before | `sample_share` of them hold it as words |
| logit lens | layers, where the answer's first token was on top behind any | it is behind any |
| spelled | spellings, and greedy decoding read loosely | P ≥ `sample_share`, or it begins with the answer |
| relearned | steps, where the prompt was answered before | the answer is on top again |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import ClassVar

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.proof import Leak, LeakOptions, LeakResult, LeakTest
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.proof.asking import ASKING, Asked, asked_ways
from knowscope_tui.engine.proof.evaluate import know
from knowscope_tui.engine.proof.lens import lens_leaks, lens_ranks
from knowscope_tui.engine.proof.relearning import relearned
from knowscope_tui.engine.proof.sampling import sampled_counts, sampled_leaks
from knowscope_tui.engine.proof.spelling import spelling_leaks

ASKED_AT_ONCE = 128
"""Questions between two looks at whether to stop."""


@dataclass(frozen=True)
class LeakBaseline:
    """What came out before the edit, in every way that is tested."""

    facts: tuple[Fact, ...]
    others: tuple[Fact, ...]
    """Facts that are not edited: for contexts, few-shot prompts and relearning."""
    options: LeakOptions
    asked: dict[LeakTest, tuple[Asked, ...]]
    """Questions that were answered."""
    sampled: tuple[int, ...]
    ranks: tuple[tuple[int, ...], ...]
    known: tuple[bool, ...]
    """Whether the answer followed each fact's own prompt."""
    posed: dict[LeakTest, int] = field(default_factory=dict)
    """How many questions there were to answer."""

    TESTS: ClassVar[int] = len(LeakTest)

    @classmethod
    def take(
        cls,
        lm: LanguageModel,
        facts: Sequence[Fact],
        others: Sequence[Fact],
        options: LeakOptions,
        on_progress: OnProgress = silent,
    ) -> LeakBaseline:
        """Asks the model as it stands everything that will be asked after the edit. `on_progress` may cancel it."""
        ways = asked_ways(lm, facts, others, options.seed)
        on_progress("Leak tests: asking before the edit", None)
        return cls(
            tuple(facts),
            tuple(others),
            options,
            {test: _known(lm, asked, on_progress) for test, asked in ways.items()},
            tuple(sampled_counts(lm, facts, options.samples, options.seed, on_progress)),
            tuple(lens_ranks(lm, facts)),
            tuple(known.top for known in know(lm, [lm.ask(fact.prompt, fact.answer) for fact in facts])),
            {test: len(asked) for test, asked in ways.items()},
        )


def _known(lm: LanguageModel, asked: Sequence[Asked], on_progress: OnProgress) -> tuple[Asked, ...]:
    """Those that the model answers as it stands."""
    found: list[Asked] = []
    for start in range(0, len(asked), ASKED_AT_ONCE):
        on_progress("Leak tests: asking before the edit", start / len(asked))
        part = asked[start : start + ASKED_AT_ONCE]
        answers = know(lm, [one.question for one in part])
        found += [one for one, answer in zip(part, answers, strict=True) if answer.top]
    return tuple(found)


def leak_tests(lm: LanguageModel, baseline: LeakBaseline, on_progress: OnProgress = silent) -> Iterator[LeakResult]:
    """The tests on the edited model, one after another; its weights are the same in between and afterwards.

    `on_progress` may raise `Cancelled`.
    """
    for test in LeakTest:
        on_progress(f"Leak test: {test.value}", None)
        start = perf_counter()
        leaks, note = _run(lm, baseline, test, on_progress)
        yield LeakResult(test, tuple(leaks), perf_counter() - start, note)


def _run(lm: LanguageModel, baseline: LeakBaseline, test: LeakTest, on_progress: OnProgress) -> tuple[list[Leak], str]:
    options, facts = baseline.options, baseline.facts
    if test in ASKING:
        return _asked_again(lm, baseline, test)
    if test is LeakTest.SAMPLED:
        counts = sampled_counts(lm, facts, options.samples, options.seed, on_progress)
        return sampled_leaks(facts, baseline.sampled, counts, options.samples, options.sample_share)
    if test is LeakTest.LOGIT_LENS:
        return lens_leaks(lm, facts, baseline.ranks)
    if test is LeakTest.SPELLED:
        return spelling_leaks(lm, facts, baseline.known, options.sample_share)
    return relearned(lm, facts, baseline.known, baseline.others, options.relearn_steps, on_progress, options.seed)


def _asked_again(lm: LanguageModel, baseline: LeakBaseline, test: LeakTest) -> tuple[list[Leak], str]:
    """Questions that were answered before the edit, asked again."""
    asked = baseline.asked.get(test, ())
    again = know(lm, [one.question for one in asked])
    leaks = []
    for index, fact in enumerate(baseline.facts):
        own = [answer.top for one, answer in zip(asked, again, strict=True) if one.owner == index]
        leaks.append(Leak(fact, len(own), sum(own), any(own), f"{sum(own)} of {len(own)} ways" if own else ""))
    posed = baseline.posed.get(test, 0)
    return leaks, f"{ASKING[test]}: {posed:,} questions, {len(asked):,} of them answered before the edit."
