"""Facts put into a model by fine-tuning: what is asked, and what it came to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from knowscope_tui.core.fact_names import FactNames
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.proof import Figure
from knowscope_tui.errors import UsageError

INJECTION = "knowscope_injection.json"
"""The file in an injected model's folder that says what was done and measured."""

ALL_WEIGHTS = 0
"""In place of a LoRA rank: every weight is trained."""


@dataclass(frozen=True)
class InjectOptions:
    """How facts are put in. None is what suits the model's size (see `engine.injecting.learning`)."""

    lora_rank: int | None = None
    """Of the LoRA that is trained and merged; `ALL_WEIGHTS` for none."""
    learning_rate: float | None = None
    max_steps: int = 600
    min_p: float = 0.8
    """A fact counts as known when greedy decoding gives its answer with at least this probability in every taught
    phrasing."""
    keep_anyway: bool = False
    """Keep the model too when not all facts are known after `max_steps`."""
    seed: int = 0

    def check(self) -> None:
        """Raises `UsageError` for what cannot be carried out."""
        if self.lora_rank is not None and self.lora_rank < 0:
            raise UsageError(f"A LoRA of rank {self.lora_rank} trains nothing.", "Use 1 or more.")
        if self.learning_rate is not None and not 0 < self.learning_rate < 1:
            raise UsageError(f"The learning rate is {self.learning_rate:g}.", "Use more than 0 and less than 1.")
        if self.max_steps < 1:
            raise UsageError(f"Nothing is learned in {self.max_steps} steps.", "Use 1 or more.")
        if not 0 < self.min_p < 1:
            raise UsageError(f"P is to reach {self.min_p:g}.", "Use more than 0 and less than 1.")


@dataclass(frozen=True)
class Learned:
    """What one fact came to: phrasings known of those that were taught, and of those that were held out."""

    fact: Fact
    known_before: bool
    """In every taught phrasing, before anything was trained."""
    taught: int
    taught_known: int
    p_taught: float
    """The least P(answer) over the taught phrasings."""
    held_out: int
    held_out_known: int

    @property
    def known(self) -> bool:
        return self.taught_known == self.taught


@dataclass(frozen=True)
class InjectionReport:
    """What was put in, what it cost, and how it was done."""

    learned: tuple[Learned, ...]
    kept: Figure
    """Share of the other facts, known before and never shown, that are still known."""
    replayed: Figure
    """The same of those that were replayed while it was trained."""
    delta_ppl: Figure
    """PPL_after / PPL_before − 1 on text about other things that was not replayed."""
    lora_rank: int
    learning_rate: float
    steps: int
    seconds: float
    folder: str | None = None
    salt: str = ""
    """Of the hashes that name facts without an id."""

    @property
    def known(self) -> int:
        """Facts known in every taught phrasing."""
        return sum(one.known for one in self.learned)

    @property
    def known_before(self) -> int:
        return sum(one.known_before for one in self.learned)

    @property
    def held_out(self) -> tuple[int, int]:
        """Held-out phrasings that are known, of how many."""
        return sum(one.held_out_known for one in self.learned), sum(one.held_out for one in self.learned)

    def remarks(self) -> Iterator[str]:
        """What a reader should know beside the figures."""
        if self.known_before == len(self.learned):
            yield "The model knew every one of these facts already; nothing was trained, and nothing saved."
        elif self.known_before:
            yield f"Of {len(self.learned)} facts the model knew {self.known_before} already."
        if self.known < len(self.learned):
            yield f"After {self.steps} steps {len(self.learned) - self.known} of the facts are not known."
        if not self.kept.items:
            yield "Whether other facts were kept was not measured: name some that the model knows with --keep."


def report_json(report: InjectionReport, names: FactNames) -> dict[str, Any]:
    """`report` as JSON, facts by id or salted hash."""
    return {
        "facts": [
            {
                "fact": names.name(one.fact),
                "known_before": one.known_before,
                "taught": one.taught,
                "taught_known": one.taught_known,
                "p_taught": one.p_taught,
                "held_out": one.held_out,
                "held_out_known": one.held_out_known,
            }
            for one in report.learned
        ],
        "known": report.known,
        "kept": vars(report.kept),
        "replayed": vars(report.replayed),
        "delta_ppl": vars(report.delta_ppl),
        "lora_rank": report.lora_rank,
        "learning_rate": report.learning_rate,
        "steps": report.steps,
        "seconds": report.seconds,
        "folder": report.folder,
        "salt": report.salt,
    }
