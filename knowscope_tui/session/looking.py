"""The fact that is being looked at, kept between questions: each that follows starts from what is known of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from knowscope_tui.core.progress import OnProgress, silent, unstopped
from knowscope_tui.core.readings import Ablation, Mode, NeuronAttribution, SweepPart, UnitEffect, relative_drop
from knowscope_tui.core.units import Family, Unit
from knowscope_tui.demo import corpus
from knowscope_tui.engine import generate
from knowscope_tui.engine.library import Library, check_unit
from knowscope_tui.engine.live import Live
from knowscope_tui.engine.look import FIRST_ROWS, NOTHING, Found, Look, is_of, open_live, open_look
from knowscope_tui.engine.means import mean_activations
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.probe import reading_position

BOTH = (Family.FEATURE, Family.NEURON)

SECONDS_BETWEEN_PARTS = 0.1
"""How often a sweep says what it found: no screen shows more."""

MOST_NEURONS = 4096
"""Neurons that are taken together at most."""

NEURON_SECONDS = 10.0
"""How long neurons are measured, of which large models have hundreds of thousands active on any fact."""


class Looking:
    """Looks at facts of one model with one library, one at a time. What it keeps holds until `forget`."""

    def __init__(self, lm: LanguageModel, library: Library) -> None:
        self._lm, self._library = lm, library
        self._look: Look | None = None
        self._live: Live | None = None
        self._asked: tuple[tuple[Family, ...], NeuronAttribution] = (BOTH, NeuronAttribution.GRADIENT)
        self._said: tuple[Live, int, str] | None = None
        """What a fact's own continuation of so many tokens is."""
        self._known_means: dict[Unit, float] = {}

    def forget(self) -> None:
        """The model has changed."""
        self._look = self._live = self._said = None
        self._known_means.clear()

    def look(
        self,
        prompt: str,
        answer: str | None,
        *,
        position: int | None = None,
        families: tuple[Family, ...] = BOTH,
        neuron_attribution: NeuronAttribution = NeuronAttribution.GRADIENT,
        on_progress: OnProgress = silent,
    ) -> Look:
        """The look at a fact: the one that is kept, if it is that. Raises `PromptError` or `UsageError`."""
        asked = families, neuron_attribution
        same = self._look is not None and asked == self._asked and bool(answer and answer.strip())
        if self._look is not None and same and self._look.is_of(*self._question(prompt, str(answer), position)):
            return self._look
        self._look = open_look(
            self._lm,
            self._library,
            prompt,
            answer,
            position=position,
            families=families,
            neuron_attribution=neuron_attribution,
            on_progress=on_progress,
        )
        self._asked = asked
        return self._look

    def live(self, prompt: str, answer: str, position: int | None) -> Live:
        """What follows ablations of a fact: the kept look's, or else one of its own."""
        question, place = self._question(prompt, answer, position)
        if self._look is not None and self._look.is_of(question, place):
            return self._look.live
        if self._live is None or not is_of(self._live.trace, question, place):
            self._live = open_live(self._lm, self._library, question, place)
        return self._live

    def _question(self, prompt: str, answer: str, position: int | None) -> tuple[Question, int]:
        """The fact as tokens, and the token to read at. Raises `PromptError` or `UsageError`."""
        question = self._lm.ask(prompt, answer)
        return question, reading_position(question, position)

    def means(self, ablation: Ablation) -> dict[Unit, float]:
        """Mean activations for `Mode.MEAN`, each measured once for the model as it stands."""
        if ablation.mode is not Mode.MEAN:
            return {}
        missing = [unit for unit in ablation.units if unit not in self._known_means]
        if missing:
            self._known_means |= mean_activations(self._lm, self._library, missing, corpus.reference_texts())
        return self._known_means

    # --- exact effects ------------------------------------------------------------------------------------------------

    def sweep(
        self,
        look: Look,
        given: Ablation = NOTHING,
        *,
        most: int | None = None,
        neuron_seconds: float = NEURON_SECONDS,
        check: Callable[[], None] = unstopped,
    ) -> Iterator[SweepPart]:
        """Exact effects, the strongest by attribution first: of every active feature, and then of neurons for
        `neuron_seconds`; with `most`, of so many units of either family instead.

        What is known already comes first. `check` is called between layers and may raise to cancel. Raises
        `UsageError` for a given unit that does not exist.
        """
        for unit in given.units:
            check_unit(self._lm, self._library, unit)
        features, neurons = look.active(Family.FEATURE), look.active(Family.NEURON)
        known = look.measured(given)
        if most is None:
            first, then = features[:], neurons
            active = len(features) + len(neurons) - sum(map(look.is_active, given.units))
        else:
            first, then = [unit for unit in look.strongest()[:most] if unit not in given.units], None
            known = {unit: p for unit, p in known.items() if unit in first}
            active = len(first)
        fresh, measured, reported = list(known.items()), len(known), time.monotonic()
        for found in self._found(look, given, first, then, neuron_seconds, check):
            fresh += found
            measured += len(found)
            if time.monotonic() - reported >= SECONDS_BETWEEN_PARTS:
                yield _part(look, given, fresh, measured, active)
                fresh, reported = [], time.monotonic()
        yield _part(look, given, fresh, measured, active)

    def _found(
        self,
        look: Look,
        given: Ablation,
        first: Sequence[Unit],
        then: Sequence[Unit] | None,
        neuron_seconds: float,
        check: Callable[[], None],
    ) -> Iterator[Found]:
        """All of `first`, then slices of `then`, each as large as what is left of the time allows."""
        means = self.means(given)
        yield from look.exact(first, given, means=means, check=check)
        started, done, size = time.monotonic(), 0, FIRST_ROWS if neuron_seconds > 0 else 0
        while then is not None and done < len(then) and size > 0:
            yield from look.exact(then[done : done + size], given, means=means, check=check, first_rows=None)
            done += size
            spent = max(time.monotonic() - started, 1e-6)
            size = min(2 * size, MOST_NEURONS, int(done / spent * (neuron_seconds - spent)))

    # --- continuations ------------------------------------------------------------------------------------------------

    def continuations(
        self,
        prompt: str,
        answer: str,
        ablation: Ablation,
        tokens: int,
        *,
        position: int | None = None,
        check: Callable[[], None] = unstopped,
    ) -> tuple[str, str]:
        """What the model goes on to say after `prompt`, greedily, without and with the ablation."""
        live = self.live(prompt, answer, position)
        if self._said is None or self._said[:2] != (live, tokens):
            self._said = live, tokens, generate.continuation_of(self._lm, live, NOTHING, {}, tokens, check)
        after = generate.continuation_of(self._lm, live, ablation, self.means(ablation), tokens, check)
        return self._said[2], after


def _part(look: Look, given: Ablation, found: Found, measured: int, active: int) -> SweepPart:
    p_before = look.p_given(given)
    effects = tuple(UnitEffect(unit, p, relative_drop(p_before, p)) for unit, p in found)
    return SweepPart(given, p_before, effects, measured, active)
