"""Greedy sets, and looks that remember what they measured: every number is that of the whole model with hooks."""

from __future__ import annotations

import pytest

from knowscope_tui.core.readings import Ablation
from knowscope_tui.core.units import Family, Unit
from knowscope_tui.engine.ablate import measure_ablation
from knowscope_tui.engine.greedy import grow_set
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.look import Look, open_look
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.errors import Cancelled


@pytest.fixture
def look(lm: LanguageModel, library: Library, question: Question) -> Look:
    return open_look(lm, library, question.prompt, question.answer)


def plainly(lm: LanguageModel, library: Library, question: Question, units: tuple[Unit, ...]) -> float:
    return measure_ablation(lm, library, question, Ablation(units)).p_after


def test_each_step_takes_the_unit_that_does_most_beside_those_taken(
    lm: LanguageModel, library: Library, question: Question, look: Look
) -> None:
    units = look.active(Family.FEATURE)[:25]
    # A target that no probability reaches: it goes on for as many steps as it may.
    steps = list(grow_set(look, units, below=1e-30, most=3, candidates=len(units)))
    taken: tuple[Unit, ...] = ()
    for step in steps[:-1]:
        left = [unit for unit in units if unit not in taken]
        best = min(left, key=lambda unit: plainly(lm, library, question, (*taken, unit)))
        taken = (*taken, best)
        assert step.units == taken
        assert step.p_after == pytest.approx(plainly(lm, library, question, taken), abs=1e-5)
    assert len(taken) == 3
    assert steps[-1].final
    assert not steps[-1].reached
    assert steps[-1].units == taken


def test_what_is_not_needed_is_let_go_and_the_rest_is_needed(
    lm: LanguageModel, library: Library, question: Question, look: Look
) -> None:
    (*_grown, found) = grow_set(look, look.active(Family.FEATURE), below=0.02, most=30)
    assert found.reached
    p = plainly(lm, library, question, found.units)
    assert found.p_after == pytest.approx(p, abs=1e-5)
    assert p <= 0.02
    for unit in found.units[:-1]:
        rest = tuple(other for other in found.units if other != unit)
        assert plainly(lm, library, question, rest) > 0.02 - 1e-5


def test_an_answer_that_is_below_already_needs_no_unit(look: Look) -> None:
    (found,) = grow_set(look, look.active(Family.FEATURE), below=0.999999, most=3)
    assert (found.units, found.steps, found.reached, found.final) == ((), (), True, True)


def test_without_units_nothing_is_found(look: Look) -> None:
    (found,) = grow_set(look, [], below=0.01, most=3)
    assert (found.units, found.reached) == ((), False)


def test_a_search_can_be_stopped(look: Look) -> None:
    def stop() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        list(grow_set(look, look.active(Family.FEATURE), below=0.01, most=3, check=stop))


def test_what_was_measured_once_is_not_measured_again(look: Look) -> None:
    units = look.active(Family.FEATURE)[:20]
    first = [unit for found in look.exact(units[:12]) for unit, _p in found]
    rest = [unit for found in look.exact(units) for unit, _p in found]
    assert set(first) | set(rest) == set(units)
    assert not set(first) & set(rest)
    assert list(look.exact(units)) == []


def test_beside_given_units_these_themselves_are_not_measured(look: Look) -> None:
    units = look.active(Family.FEATURE)[:6]
    found = [unit for chunk in look.exact(units, Ablation((units[0],))) for unit, _p in chunk]
    assert set(found) == set(units[1:])
    assert look.measured() == {}
