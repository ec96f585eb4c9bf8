"""The fact that is being looked at, kept between questions: each that follows starts from what is known of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.readings import Ablation, Mode, NeuronAttribution, SweepPart, UnitEffect, relative_drop
from knowscope_tui.core.units import Family, Unit
from knowscope_tui.demo import corpus
from knowscope_tui.engine import evaluate, generate
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.live import Live
from knowscope_tui.engine.look import NOTHING, Found, Look, open_look
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.probe import reading_position
from knowscope_tui.engine.readout import NEVER
from knowscope_tui.engine.trace import Trace, record

BOTH = (Family.FEATURE, Family.NEURON)

SECONDS_BETWEEN_PARTS = 0.1
"""How often a sweep says what it found: no screen shows more."""

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
        kept, asked = self._look, (families, neuron_attribution)
        if kept is not None and asked == self._asked and self._is(kept.trace, prompt, answer, position):
            return kept
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
        self._live, self._asked = self._look.live, asked
        return self._look

    def live(self, prompt: str, answer: str, position: int | None) -> Live:
        """What follows ablations of a fact: that of the kept look, or of a trace alone where no units are read."""
        if self._live is None or not self._is(self._live.trace, prompt, answer, position):
            question = self._lm.ask(prompt, answer)
            trace = record(self._lm, [question], [reading_position(question, position)])
            self._live = Live(self._lm, self._library, trace)
        return self._live

    def _is(self, trace: Trace, prompt: str, answer: str | None, position: int | None) -> bool:
        """Whether `trace` is of this fact at this token. Raises what asking it raises."""
        if not answer or not answer.strip():
            return False
        question = self._lm.ask(prompt, answer)
        return trace.questions == (question,) and trace.positions == (reading_position(question, position),)

    def means(self, ablation: Ablation) -> dict[Unit, float]:
        """Mean activations for `Mode.MEAN`, each measured once for the model as it stands."""
        if ablation.mode is not Mode.MEAN:
            return {}
        missing = [unit for unit in ablation.units if unit not in self._known_means]
        if missing:
            self._known_means |= evaluate.mean_activations(self._lm, self._library, missing, corpus.reference_texts())
        return self._known_means

    # --- exact effects ------------------------------------------------------------------------------------------------

    def sweep(
        self,
        look: Look,
        given: Ablation = NOTHING,
        *,
        most: int | None = None,
        neuron_seconds: float = NEURON_SECONDS,
        check: Callable[[], None] = NEVER,
    ) -> Iterator[SweepPart]:
        """Exact effects, the strongest by attribution first: of every active feature, and then of neurons for
        `neuron_seconds`; with `most`, of so many units of either family instead.

        What is known already comes first. `check` is called between layers and may raise to cancel.
        """
        features, neurons = look.active(Family.FEATURE), look.active(Family.NEURON)
        if most is not None:
            features, neurons, neuron_seconds = look.strongest(most), [], 0.0
        wanted = [unit for unit in (*features, *neurons) if unit not in given.units]
        known = look.measured(given)
        fresh = [(unit, known[unit]) for unit in wanted if unit in known]
        measured, reported = len(fresh), time.monotonic()
        for found in self._found(look, given, features, neurons, neuron_seconds, check):
            fresh += found
            measured += len(found)
            if time.monotonic() - reported >= SECONDS_BETWEEN_PARTS:
                yield _part(look, given, fresh, measured, len(wanted))
                fresh, reported = [], time.monotonic()
        yield _part(look, given, fresh, measured, len(wanted))

    def _found(
        self,
        look: Look,
        given: Ablation,
        features: Sequence[Unit],
        neurons: Sequence[Unit],
        neuron_seconds: float,
        check: Callable[[], None],
    ) -> Iterator[Found]:
        means = self.means(given)
        yield from look.exact(features, given, means=means, check=check)
        until = time.monotonic() + neuron_seconds
        for found in look.exact(neurons, given, means=means, check=check) if neuron_seconds > 0 else ():
            yield found
            if time.monotonic() > until:
                return

    # --- continuations ------------------------------------------------------------------------------------------------

    def continuations(
        self, prompt: str, answer: str, ablation: Ablation, tokens: int, *, position: int | None = None
    ) -> tuple[str, str]:
        """What the model goes on to say after `prompt`, greedily, without and with the ablation."""
        live = self.live(prompt, answer, position)
        if self._said is None or self._said[:2] != (live, tokens):
            self._said = live, tokens, generate.continuation_of(self._lm, live, NOTHING, {}, tokens)
        after = generate.continuation_of(self._lm, live, ablation, self.means(ablation), tokens)
        return self._said[2], after


def _part(look: Look, given: Ablation, found: Found, measured: int, active: int) -> SweepPart:
    p_before = look.p_given(given)
    effects = tuple(UnitEffect(unit, p, relative_drop(p_before, p)) for unit, p in found)
    return SweepPart(given, p_before, effects, measured, active)
