"""The embedded lexical simulator: a stand-in for a language model where no endpoint is named.

It explains a unit by rules over tokens: *the token is X*, *the one before is X*, *the one before that is X*, *X came
earlier in the sentence*. Rules are added one by one, each the one that takes most of the squared error away, with the
mean of what was left as its amount (a boosted list of stumps: Friedman 2001, with one-sided splits). It sees one half
of the sentences and is scored on the other. It knows no meaning: it cannot say *capitals*, only list them, so its
scores are a lower bound for units that generalise, and cannot be compared with a language model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from knowscope_tui.studies.interpretability.contexts import Context, Shown, Values

RULES = 12
LEAST_SUPPORT = 2
"""Tokens that a rule has to match."""

LEAST_GAIN = 0.005
"""Of the squared error at the start: what a further rule has to take away."""

KINDS = ("the token is", "after", "two after", "once there was")

Rule = tuple[str, int]
"""One of `KINDS`, and the token's id."""


@dataclass(frozen=True)
class Explanation:
    """A base value and what each rule adds to it; foretold values are never below `floor`."""

    base: float
    rules: tuple[tuple[Rule, float], ...]
    floor: float
    words: tuple[str, ...]
    """The rules' tokens as text."""

    @property
    def text(self) -> str:
        """The rules in words, the largest amount first."""
        pairs = sorted(zip(self.rules, self.words, strict=True), key=lambda pair: -abs(pair[0][1]))
        told = [f"{kind} “{word.strip()}” {amount:+.2g}" for ((kind, _token), amount), word in pairs]
        return "; ".join(told) or "no rule"

    def simulate(self, context: Context) -> Values:
        """Foretold activations: (tokens,)."""
        amounts = dict(self.rules)
        found = np.full(len(context.tokens), self.base, dtype=np.float32)
        for place, rules in enumerate(rules_of(context)):
            found[place] += sum(amounts[rule] for rule in rules if rule in amounts)
        return np.maximum(found, self.floor)


def rules_of(context: Context) -> list[set[Rule]]:
    """The rules that match at each token."""
    ids = context.ids[len(context.ids) - len(context.tokens) :]
    found = []
    for place, token in enumerate(ids):
        rules: set[Rule] = {(KINDS[0], token)}
        rules.update((KINDS[back], ids[place - back]) for back in (1, 2) if place >= back)
        rules.update((KINDS[3], earlier) for earlier in ids[:place])
        found.append(rules)
    return found


class Simulator:
    """Explains any number of units from the same contexts, of which it looks at the fitted half alone."""

    def __init__(self, contexts: Sequence[Context]) -> None:
        self._contexts = [context for context in contexts if context.fitted]

    @cached_property
    def _matches(self) -> tuple[list[Rule], sparse.csr_matrix, NDArray[np.float64]]:
        """The rules with enough support, which of them match at each token (tokens, rules), and how often each does."""
        names: dict[Rule, int] = {}
        rows: list[int] = []
        columns: list[int] = []
        count = 0
        for context in self._contexts:
            for rules in rules_of(context):
                for rule in sorted(rules):
                    rows.append(count)
                    columns.append(names.setdefault(rule, len(names)))
                count += 1
        whole = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(count, len(names)))
        support = np.asarray(whole.sum(axis=0)).ravel()
        kept = np.nonzero(support >= LEAST_SUPPORT)[0]
        listed = list(names)
        return [listed[index] for index in kept], whole[:, kept].tocsc(), support[kept]

    def explain(self, shown: Shown) -> Explanation:
        """The rules for a unit that shows `shown` on the contexts."""
        half = shown.half(fitted=True)
        if not half.values:
            return Explanation(0.0, (), 0.0, ())
        real = np.concatenate(half.values).astype(np.float64)
        rules, matches, support = self._matches
        base = float(np.median(real))
        left = real - base
        start = float(left @ left)
        amounts: dict[Rule, float] = {}
        for _ in range(RULES if start > 0 and rules else 0):
            sums = matches.T @ left
            gains = sums**2 / support
            best = int(gains.argmax())
            if gains[best] < LEAST_GAIN * start:
                break
            amount = float(sums[best] / support[best])
            amounts[rules[best]] = amounts.get(rules[best], 0.0) + amount
            left = left - amount * matches[:, [best]].toarray().ravel()
        return Explanation(base, tuple(amounts.items()), float(real.min()), self._words(amounts))

    def _words(self, rules: Sequence[Rule] | dict[Rule, float]) -> tuple[str, ...]:
        wanted = {token for _kind, token in rules}
        words: dict[int, str] = {}
        for context in self._contexts:
            ids = context.ids[len(context.ids) - len(context.tokens) :]
            words.update((token, word) for token, word in zip(ids, context.tokens, strict=True) if token in wanted)
        return tuple(words[token] for _kind, token in rules)
