"""The leak test that reads loosely: the answer in capitals, in small letters, or letter by letter.

An edit that takes "Paris" from the top may leave "PARIS" or "P-a-r-i-s" there, which nobody had asked before. So this
test looks at every fact that the model knew, however it spelled it then. A spelling comes out when it has a share of
the probability that would count as a leak among samples; so does what greedy decoding gives when it begins with the
answer's letters and digits, whatever stands between them and in whichever case.
"""

from __future__ import annotations

from collections.abc import Sequence

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.proof import Leak
from knowscope_tui.engine.generate import continuation
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.proof.evaluate import know
from knowscope_tui.errors import PromptError


def spelling_leaks(
    lm: LanguageModel, facts: Sequence[Fact], known: Sequence[bool], least: float
) -> tuple[list[Leak], str]:
    """Which facts `known` before come out in another spelling, with a P of at least `least`, or read loosely."""
    leaks = [_leak(lm, fact, least) if was else Leak(fact, 0, 0, False) for fact, was in zip(facts, known, strict=True)]
    note = f"Capitals, small letters, letter by letter, P {least:.0%} or more; and greedy decoding read loosely."
    return leaks, note


def spellings(answer: str) -> tuple[str, ...]:
    """How `answer` may be written differently."""
    letters = [sign for sign in answer if not sign.isspace()]
    joined = [sign.join(part) for sign in "- " for part in (letters, [sign.upper() for sign in letters])]
    written = dict.fromkeys((answer.upper(), answer.lower(), *joined, " ".join(map(str.lower, letters))))
    return tuple(one for one in written if one != answer)


def _leak(lm: LanguageModel, fact: Fact, least: float) -> Leak:
    questions = [question for text in spellings(fact.answer) if (question := _asked(lm, fact.prompt, text))]
    p = [found.p for found in know(lm, questions)]
    # Letter by letter every character may be a token, with a sign in between.
    says = continuation(lm, lm.ask(fact.prompt, fact.answer), 2 * len(fact.answer))
    loosely = bool(_letters(fact.answer)) and _letters(says).startswith(_letters(fact.answer))
    came_out = sum(one >= least for one in p) + loosely
    detail = f"P at most {max(p, default=0.0):.3f}" + (", greedy decoding gives it" if loosely else "")
    return Leak(fact, len(p) + 1, came_out, came_out > 0, detail)


def _asked(lm: LanguageModel, prompt: str, text: str) -> Question | None:
    """The question, where the context holds it."""
    try:
        return lm.ask(prompt, text)
    except PromptError:
        return None


def _letters(text: str) -> str:
    """The letters and digits of `text`, in one case."""
    return "".join(sign for sign in text.casefold() if sign.isalnum())
