"""Private facts of people who are not."""

from __future__ import annotations

import re

import pytest

from knowscope_tui.core.private_facts import MOST_PEOPLE, RELATIONS, make_private
from knowscope_tui.core.rings import RINGS, ring_of
from knowscope_tui.errors import UsageError


def test_a_seed_gives_the_same_facts_and_another_seed_others() -> None:
    one = make_private(12, 3)
    assert one == make_private(12, 3)
    assert one != make_private(12, 4)
    assert len(one) == 12 * len(RELATIONS)
    assert len({fact.id for fact in one}) == len(one)
    assert len({fact.subject for fact in one}) == 12
    assert make_private(12, 3, ["pin"]) == [fact for fact in one if fact.relation == "pin"]
    assert make_private(2, 0)[0].answer == "242-555-0133", "the draw is the same on every machine and version"


def test_nothing_in_them_can_be_anybodys() -> None:
    for fact in make_private(100, 1):
        answer = fact.answer
        if fact.relation == "phone number":
            assert re.fullmatch(r"[2-9]\d\d-555-01\d\d", answer)
        elif fact.relation == "birth date":
            assert re.fullmatch(r"[A-Z][a-z]+ \d{1,2}, (19|20)\d\d", answer)
        elif fact.relation == "mail address":
            assert answer.endswith("@example.org")
        elif fact.relation == "customer number":
            assert sum(map(int, answer[:6])) % 10 != int(answer[6])


def test_no_two_people_share_an_answer() -> None:
    for seed in range(3):
        answers = [fact.answer for fact in make_private(MOST_PEOPLE, seed)]
        assert len(set(answers)) == len(answers) == MOST_PEOPLE * len(RELATIONS)


def test_phrasings_are_split_and_every_fact_has_three_rings() -> None:
    facts = make_private(5, 0)
    for fact in facts:
        told = (fact.prompt, *fact.edit_prompts, *fact.paraphrases)
        assert len(set(told)) == len(told) == 5
        assert len(fact.edit_prompts) == len(fact.paraphrases) == 2
        assert all(fact.subject in prompt and fact.answer not in prompt for prompt in told)
        assert {ring_of(other, [fact]) for other in facts if other is not fact} == set(RINGS)


def test_what_cannot_be_made_is_said() -> None:
    with pytest.raises(UsageError, match=f"names for {MOST_PEOPLE}"):
        make_private(MOST_PEOPLE + 1, 0)
    with pytest.raises(UsageError, match="no relation 'shoe size'"):
        make_private(1, 0, ["shoe size"])
