"""The same units through plain forward hooks: one whole forward a unit."""

from __future__ import annotations

from knowscope_tui.bench.subject import Subject
from knowscope_tui.core.readings import Ablation
from knowscope_tui.core.units import Unit
from knowscope_tui.engine.ablate import ablation_changes
from knowscope_tui.engine.answers import forward, probability
from knowscope_tui.engine.hooks import intervene


def p_without(subject: Subject, unit: Unit) -> float:
    """P(answer) with `unit` alone zeroed at the prompt's last token, in one forward of the model."""
    question = subject.question
    changes = ablation_changes(subject.lm, subject.library, Ablation((unit,)), question.last)
    with intervene(subject.lm.model, changes):
        logits = forward(subject.lm, question)
    return probability(logits, question)
