"""A language model behind an OpenAI-compatible endpoint, asked through the official client.

Every answer is kept in a file of its own as soon as it is there, named by what was asked of whom: a run that was cut
asks nothing twice. The key comes from the environment (`OPENAI_API_KEY`); a local server needs none.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from knowscope_tui.core.written import written_beside
from knowscope_tui.errors import KnowscopeError, UsageError
from knowscope_tui.studies.interpretability import prompts
from knowscope_tui.studies.interpretability.interpreter import Interpretation, Task
from knowscope_tui.studies.interpretability.prompts import Messages

AT_ONCE = 8
"""Requests under way together."""

RETRIES, SECONDS = 6, 60.0
"""Of one request: further tries, each after a longer wait or as long as the server says, and how long one may take."""

ANSWER_TOKENS = 600

PATIENCE = 8
"""Unusable answers after which, if they are the greater part, the run stops."""

CHARACTERS_A_TOKEN = 4


class EndpointError(KnowscopeError):
    """A language model's endpoint that cannot be used: not there, refusing, too slow, or answering nonsense."""


class EndpointInterpreter:
    """Explains, simulates, detects and fuzzes by asking; see `prompts`."""

    def __init__(self, url: str, model: str, cache: Path) -> None:
        """Raises `UsageError` for a bad address. Nothing is asked yet."""
        from openai import OpenAI

        if not url.startswith(("http://", "https://")):
            raise UsageError(f"{url!r} is no address of an endpoint.", "Write it as http://host:port/v1.")
        self.label = model
        self._url = url
        key = os.environ.get("OPENAI_API_KEY") or "none"
        self._client = OpenAI(base_url=url, api_key=key, max_retries=RETRIES, timeout=SECONDS)
        self._cache = cache
        self._cache.mkdir(parents=True, exist_ok=True)
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._usable, self.unusable = 0, 0

    def interpret(self, task: Task) -> Interpretation:
        explanation = self._ask(prompts.explain(task.examples, task.largest)).strip()
        if not explanation:
            self._count_unusable()
            return Interpretation("", None, None, None)
        simulated = [(prompts.simulate(explanation, context), len(context.tokens)) for context in task.scored.contexts]
        lists = [*simulated]
        if task.apart:
            lists.append((prompts.detect(explanation, task.apart), len(task.apart)))
        if task.marks:
            lists.append((prompts.fuzz(explanation, task.marks), len(task.marks)))
        answers = list(self._pool.map(lambda pair: self._numbers(*pair), lists))
        foretold = answers[: len(simulated)]
        rest = iter(answers[len(simulated) :])
        apart = next(rest) if task.apart else None
        marks = next(rest) if task.marks else None
        whole = [values for values in foretold if values is not None]
        return Interpretation(
            explanation,
            task.simulation(whole) if len(whole) == len(foretold) else None,
            None if apart is None else task.detection(apart),
            None if marks is None else task.fuzzing(marks),
        )

    def expected(self, tasks: Sequence[Task]) -> str:
        """How many calls and tokens `tasks` will take, in words: an estimate, four characters a token."""
        calls = asked = answered = 0
        for task in tasks:
            lists = [prompts.simulate("x" * 100, context) for context in task.scored.contexts]
            lists += [prompts.detect("x" * 100, task.apart)] * bool(task.apart)
            lists += [prompts.fuzz("x" * 100, task.marks)] * bool(task.marks)
            whole = [prompts.explain(task.examples, task.largest), *lists]
            calls += len(whole)
            asked += sum(len(one["content"]) for messages in whole for one in messages) // CHARACTERS_A_TOKEN
            answered += 30 + sum(2 * len(context.tokens) for context in task.scored.contexts)
            answered += 2 * (len(task.apart) + len(task.marks))
        return (
            f"Asking {self.label}: at most {calls:,} calls, about {asked:,} tokens to it and {answered:,} from it; "
            "what is in the cache is not asked again"
        )

    # --- asking -----------------------------------------------------------------------------------------------------

    def _numbers(self, messages: Messages, count: int) -> list[float] | None:
        """The list of numbers that was asked for; asked once more when the first answer holds none, then None."""
        for attempt in range(2):
            found = prompts.numbers_in(self._ask(messages, attempt), count)
            if found is not None:
                self._usable += 1
                return found
        self._count_unusable()
        return None

    def _count_unusable(self) -> None:
        self.unusable += 1
        if self.unusable >= PATIENCE and self.unusable > self._usable:
            raise EndpointError(
                f"{self.label} at {self._url} mostly answers with something else than what was asked for.",
                "Name a more capable model with --llm-model; the usable answers are kept.",
            )

    def _ask(self, messages: Messages, attempt: int = 0) -> str:
        file = self._cache / f"{self._name(messages, attempt)}.json"
        kept = _read(file)
        if kept is not None:
            return kept
        answer = self._fetch(messages, attempt)
        with written_beside(file) as out:
            out.write(json.dumps({"answer": answer}, ensure_ascii=False).encode())
        return answer

    def _name(self, messages: Messages, attempt: int) -> str:
        told = json.dumps([self._url, self.label, attempt, messages], ensure_ascii=False)
        return hashlib.sha256(told.encode()).hexdigest()

    def _fetch(self, messages: Messages, attempt: int) -> str:
        import openai

        asked: Any = messages
        try:
            reply = self._client.chat.completions.create(
                model=self.label,
                messages=asked,
                max_tokens=ANSWER_TOKENS,
                temperature=0.0 if attempt == 0 else 0.7,
                seed=attempt,
            )
            return str(reply.choices[0].message.content or "")
        except (openai.APIError, AttributeError, IndexError, TypeError, ValueError) as error:
            raise self._told(error) from error

    def _told(self, error: Exception) -> EndpointError:
        """What happened, in a sentence."""
        import openai

        at = f"the endpoint {self._url}"
        kept = "What was answered is kept: the same command goes on from there."
        if isinstance(error, openai.APITimeoutError):
            return EndpointError(f"{at.capitalize()} took longer than {SECONDS:.0f} s, {RETRIES + 1} times.", kept)
        if isinstance(error, openai.APIConnectionError):
            return EndpointError(f"There is no answer from {at}.", f"Check --llm-url and that it runs. {kept}")
        if isinstance(error, openai.RateLimitError):
            return EndpointError(f"{at.capitalize()} refuses for now: too many requests.", f"Wait a while. {kept}")
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return EndpointError(f"{at.capitalize()} refuses the key.", "Set OPENAI_API_KEY to one that it accepts.")
        if isinstance(error, openai.NotFoundError):
            return EndpointError(f"{at.capitalize()} knows no model {self.label!r}.", "Name another with --llm-model.")
        if isinstance(error, openai.APIStatusError):
            return EndpointError(f"{at.capitalize()} answered with status {error.status_code}.", kept)
        return EndpointError(
            f"{at.capitalize()} answers with something that is no chat completion.", "Check --llm-url."
        )


def _read(file: Path) -> str | None:
    """The answer kept in `file`; None where there is none, or a broken one."""
    try:
        answer = json.loads(file.read_bytes())["answer"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return answer if isinstance(answer, str) else None
