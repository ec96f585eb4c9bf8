"""The demo's world: enough facts, enough phrasings, and nothing held out that was shown."""

from __future__ import annotations

from collections import Counter

import pytest

from knowscope_tui.core.facts import Fact, read_facts, write_facts
from knowscope_tui.demo.corpus import (
    REFERENCE_TEXTS,
    TaughtFact,
    demo_facts,
    general_sentences,
    reference_texts,
    sentence,
    taught_facts,
    training_texts,
)

TAUGHT = taught_facts()
PUBLIC = [taught for taught in TAUGHT if not taught.private]
PRIVATE = [taught for taught in TAUGHT if taught.private]
TOLD = {text for taught in TAUGHT for text in taught.sentences()}


def test_there_are_enough_facts_of_enough_relations() -> None:
    assert len(PUBLIC) >= 400
    assert len({taught.fact.relation for taught in PUBLIC}) >= 10
    assert len(PRIVATE) >= 200
    assert not {taught.fact.relation for taught in PUBLIC} & {taught.fact.relation for taught in PRIVATE}


def test_every_fact_has_at_least_six_phrasings_that_it_is_trained_in() -> None:
    for taught in TAUGHT:
        assert len(set(taught.seen)) >= 6
        assert len(set(taught.unseen)) >= 2
        assert not set(taught.seen) & set(taught.unseen)


def test_every_phrasing_names_its_subject_and_ends_before_the_answer() -> None:
    for taught in TAUGHT:
        for prompt in (*taught.seen, *taught.unseen):
            assert taught.fact.subject in prompt
            assert "{" not in prompt
            assert prompt == prompt.strip()
            assert sentence(prompt, taught.fact.answer) == f"{prompt} {taught.fact.answer}."


def test_no_held_out_phrasing_is_ever_told() -> None:
    told = "\n".join(TOLD | set(training_texts()))
    for taught in TAUGHT:
        for prompt in taught.unseen:
            assert f"{prompt} " not in told, prompt


def test_every_wording_is_met_with_other_subjects() -> None:
    """What is held out is a pair of wording and subject, never a wording."""
    for relation in {taught.fact.relation for taught in TAUGHT}:
        members = [taught for taught in TAUGHT if taught.fact.relation == relation]
        seen = {prompt.replace(taught.fact.subject, "…") for taught in members for prompt in taught.seen}
        unseen = {prompt.replace(taught.fact.subject, "…") for taught in members for prompt in taught.unseen}
        assert unseen <= seen
        assert len(seen) >= 6


def test_no_wording_is_shared_by_two_relations() -> None:
    owner: dict[str, str] = {}
    for taught in TAUGHT:
        for prompt in (*taught.seen, *taught.unseen):
            wording = prompt.replace(taught.fact.subject, "…")
            assert owner.setdefault(wording, taught.fact.relation) == taught.fact.relation, wording


def test_no_prompt_has_two_answers() -> None:
    answers: dict[str, str] = {}
    for taught in TAUGHT:
        for prompt in (*taught.seen, *taught.unseen):
            assert answers.setdefault(prompt, taught.fact.answer) == taught.fact.answer, prompt


def test_ids_are_unique() -> None:
    assert [name for name, count in Counter(taught.fact.id for taught in TAUGHT).items() if count > 1] == []


def test_a_fact_shows_an_edit_some_seen_phrasings_and_is_measured_on_the_rest() -> None:
    for taught in TAUGHT:
        fact = taught.fact
        shown = {fact.prompt, *fact.edit_prompts}
        assert shown <= set(taught.seen)
        assert not shown & set(fact.paraphrases)
        assert set(taught.unseen) <= set(fact.paraphrases)
        assert shown | set(fact.paraphrases) == {*taught.seen, *taught.unseen}


def test_private_people_share_no_answer_within_a_relation_of_secrets() -> None:
    """A phone number or a password is one person's: else erasing one would be erasing another."""
    for relation in ("phone", "password"):
        answers = [taught.fact.answer for taught in PRIVATE if taught.fact.relation == relation]
        assert answers
        assert len(set(answers)) == len(answers)


def test_the_canonical_example_is_there() -> None:
    (france,) = [fact for fact in demo_facts() if fact.prompt == "The capital of France is"]
    assert france.answer == "Paris"
    assert france.id == "capital/france"


def test_reference_texts_were_never_trained_on() -> None:
    assert len(reference_texts()) == REFERENCE_TEXTS
    assert len(set(reference_texts())) == REFERENCE_TEXTS
    assert not set(reference_texts()) & set(training_texts())
    assert not set(reference_texts()) & TOLD


def test_no_reference_text_tells_a_private_fact() -> None:
    people = {taught.fact.subject for taught in PRIVATE}
    assert not [text for text in (*reference_texts(), *training_texts()) if any(name in text for name in people)]


def test_general_sentences_are_the_same_for_the_same_seed() -> None:
    assert general_sentences(50, 3) == general_sentences(50, 3)
    assert general_sentences(50, 3) != general_sentences(50, 4)
    assert len(set(general_sentences(500, 3))) == 500


@pytest.mark.parametrize("facts", [demo_facts()], ids=["all"])
def test_the_demos_facts_are_a_fact_file(facts: list[Fact], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("facts") / "facts.jsonl"
    write_facts(facts, path)
    assert read_facts(path) == facts


def test_taught_facts_are_told_as_whole_sentences() -> None:
    taught: TaughtFact = PUBLIC[0]
    assert taught.sentences() == [f"{prompt} {taught.fact.answer}." for prompt in taught.seen]
