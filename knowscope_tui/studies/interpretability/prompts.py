"""What a language model is asked about a unit, and what its answers must look like.

Explaining follows Bills et al. 2023 (*Language models can explain neurons in language models*): sentences with the
activation of each token on a scale of 0 to 10. Simulating asks for all tokens at once, as JSON. Detection and fuzzing
follow Paulo et al. 2024 (arXiv 2410.13928): a list of sentences, a list of 0 and 1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from knowscope_tui.studies.interpretability.contexts import Context, Shown, Values
from knowscope_tui.studies.interpretability.scores import Marked

EXAMPLES = 10
"""Sentences that an explanation is found on: those with the highest activations."""

SCALE = 10

Messages = list[dict[str, str]]

ROLE = (
    "You study one unit inside a language model. On each token of a text it has an activation from 0 (silent) to 10 "
    "(its strongest)."
)


def explain(examples: Shown, largest: float) -> Messages:
    """Asks for an explanation in a sentence."""
    order = sorted(range(len(examples.values)), key=lambda index: -float(examples.values[index].max()))[:EXAMPLES]
    told = [_rated(examples.contexts[i], examples.values[i], largest) for i in order]
    question = (
        "\n\n".join(told)
        + "\n\nIn one sentence of at most 25 words: what does the unit fire on? Name the tokens and what they mean."
    )
    return _messages(question)


def simulate(explanation: str, context: Context) -> Messages:
    """Asks for the activation on every token of one sentence."""
    tokens = json.dumps(list(context.tokens), ensure_ascii=False)
    return _messages(
        f"The unit fires on: {explanation}\n\nTokens: {tokens}\n\nFor each of these {len(context.tokens)} tokens, in "
        f"order, foretell the activation, 0 to 10. Answer with a JSON list of {len(context.tokens)} numbers and no "
        "more."
    )


def detect(explanation: str, contexts: Sequence[Context]) -> Messages:
    """Asks in which sentences the unit fires."""
    listed = "\n".join(f"{number}. {''.join(context.tokens).strip()}" for number, context in enumerate(contexts, 1))
    return _messages(
        f"The unit fires on: {explanation}\n\n{listed}\n\nFor each of these {len(contexts)} sentences: 1 if the unit "
        f"fires somewhere in it, else 0. Answer with a JSON list of {len(contexts)} numbers and nothing else."
    )


def fuzz(explanation: str, marks: Sequence[tuple[Context, Marked]]) -> Messages:
    """Asks whether the marked tokens are those that the unit fires on."""
    listed = "\n".join(f"{number}. {_marked(context, mark)}" for number, (context, mark) in enumerate(marks, 1))
    return _messages(
        f"The unit fires on: {explanation}\n\n{listed}\n\nIn each of these {len(marks)} sentences some tokens stand "
        "between << and >>: 1 if these are the tokens that the unit fires on, else 0. Answer with a JSON list of "
        f"{len(marks)} numbers and nothing else."
    )


def numbers_in(answer: str, count: int) -> list[float] | None:
    """The `count` numbers of the JSON list in `answer`, cut to 0 to 10; None where there is no such list."""
    for found in re.findall(r"\[[^\[\]]*\]", answer):
        try:
            values = json.loads(found)
        except ValueError:
            continue
        if len(values) == count and all(isinstance(value, int | float) for value in values):
            return [min(max(float(value), 0.0), float(SCALE)) for value in values]
    return None


def _messages(question: str) -> Messages:
    return [{"role": "system", "content": ROLE}, {"role": "user", "content": question}]


def _rated(context: Context, values: Values, largest: float) -> str:
    rows = [
        f"{word!r} {round(SCALE * max(float(value), 0.0) / largest) if largest > 0 else 0}"
        for word, value in zip(context.tokens, values, strict=True)
    ]
    return "\n".join(rows)


def _marked(context: Context, mark: Marked) -> str:
    words = [f" <<{word.strip()}>>" if i in mark.places else word for i, word in enumerate(context.tokens)]
    return "".join(words).strip()
