"""Fact files of other forms: made up here, in the shape in which they are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from knowscope_tui.core.fact_formats import read_fact_set
from knowscope_tui.core.facts import Fact, write_facts
from knowscope_tui.errors import FactFileError

PATTERNS = [
    "[X] is governed from [Y].",
    "[Y] is where [X] is governed.",
    "The seat of [X] is [Y] .",
    "[X], whose capital is [Y]",
    "People of [X] look to [Y] for advice.",
    "The capital of [X] is [Y].",
    "The chief city of [X] is [Y].",
]
PLACES = [("Atlantis", "Poseidonia"), ("Lemuria", "Mu"), ("Thule", "Ys")]

COUNTERFACT: dict[str, Any] = {
    "case_id": 7,
    "requested_rewrite": {
        "prompt": "The chief city of {} is",
        "relation_id": "P36",
        "target_new": {"str": "Mu", "id": "Q1"},
        "target_true": {"str": "Poseidonia", "id": "Q2"},
        "subject": "Atlantis",
    },
    "paraphrase_prompts": ["It rained. Atlantis is governed from"],
    "neighborhood_prompts": ["The chief city of Lyonesse is", "Hy-Brasil is governed from"],
}
ZSRE: dict[str, Any] = {
    "subject": "Ada Quill",
    "src": "Where did Ada Quill study?",
    "pred": "somewhere",
    "rephrase": "At which school was Ada Quill taught?",
    "alt": "Mu Polytechnic",
    "answers": ["Thule College", "TC"],
    "loc": "nq question: who sails to ys",
    "loc_ans": "nobody",
}


def counterfact(**changes: Any) -> dict[str, Any]:
    """A row whose requested rewrite is another one."""
    return {**COUNTERFACT, "requested_rewrite": {**COUNTERFACT["requested_rewrite"], **changes}}


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def pararel(folder: Path, relation: str = "P36", *, below: bool = False) -> Path:
    patterns = folder / ("patterns" if below else "") / (f"{relation}.jsonl" if below else f"{relation}.patterns.jsonl")
    facts = folder / ("trex" if below else "") / (f"{relation}.jsonl" if below else f"{relation}.facts.jsonl")
    lines(patterns, [{"pattern": pattern} for pattern in PATTERNS])
    return lines(facts, [{"sub_label": x, "obj_label": y, "uuid": f"u{n}"} for n, (x, y) in enumerate(PLACES)])


@pytest.mark.parametrize("below", [False, True])
def test_pararel_asks_where_the_answer_comes_last(tmp_path: Path, below: bool) -> None:
    pararel(tmp_path, below=below)
    found = read_fact_set(tmp_path)
    assert found.form == "ParaRel"
    assert [fact.answer for fact in found.facts] == [answer for _place, answer in PLACES]
    assert found.remarks == ("P36: 2 of 7 patterns do not end in the answer.",)
    first = found.facts[0]
    assert (first.id, first.subject, first.relation) == ("P36/u0", "Atlantis", "P36")
    assert first.prompt == "Atlantis is governed from"
    told = {first.prompt, *first.edit_prompts, *first.paraphrases}
    assert told == {
        "Atlantis is governed from",
        "The seat of Atlantis is",
        "Atlantis, whose capital is",
        "The capital of Atlantis is",
        "The chief city of Atlantis is",
    }
    assert (len(first.edit_prompts), len(first.paraphrases)) == (2, 2)
    assert read_fact_set(tmp_path) == found


def test_one_relation_by_either_of_its_files(tmp_path: Path) -> None:
    file = pararel(tmp_path)
    pararel(tmp_path, "P19")
    assert read_fact_set(file) == read_fact_set(tmp_path / "P36.patterns.jsonl")
    assert {fact.relation for fact in read_fact_set(file).facts} == {"P36"}
    assert {fact.relation for fact in read_fact_set(tmp_path).facts} == {"P19", "P36"}


def test_the_file_of_a_relation_that_is_named_is_the_one_that_is_read(tmp_path: Path) -> None:
    file = pararel(tmp_path)
    few = lines(tmp_path / "P36.few.jsonl", [{"sub_label": "Ys", "obj_label": "Dahut"}])
    assert [fact.answer for fact in read_fact_set(file).facts] == [answer for _place, answer in PLACES]
    assert [fact.answer for fact in read_fact_set(few).facts] == ["Dahut"]
    with pytest.raises(FactFileError, match=r"could both belong to 'P36\.patterns\.jsonl'"):
        read_fact_set(tmp_path / "P36.patterns.jsonl")
    lines(tmp_path / "P9" / "x.patterns.jsonl", [{"pattern": pattern} for pattern in PATTERNS])
    untold = lines(tmp_path / "P9" / "x.facts.jsonl", [{"sub_label": "Ys", "obj_label": None}])
    with pytest.raises(FactFileError, match="Line 1"):
        read_fact_set(untold)


def test_counterfact_and_zsre(tmp_path: Path) -> None:
    file = tmp_path / "counterfact.json"
    file.write_text(json.dumps([COUNTERFACT, {**COUNTERFACT, "case_id": 8}]))
    found = read_fact_set(file)
    assert (found.form, len(found.facts), len(found.neighbors)) == ("CounterFact", 2, 4)
    assert found.facts[0] == Fact(
        "The chief city of Atlantis is", "Poseidonia", "counterfact/7", "Atlantis", "P36",
        (), ("It rained. Atlantis is governed from",), "Mu",
    )  # fmt: skip
    assert {one.answer for one in found.neighbors} == {"Poseidonia"}
    assert {one.relation for one in found.neighbors} == {"P36"}
    lines(tmp_path / "counterfact.jsonl", [COUNTERFACT])
    assert read_fact_set(tmp_path / "counterfact.jsonl").facts == found.facts[:1]
    file = tmp_path / "zsre.json"
    file.write_text("\ufeff" + json.dumps([ZSRE]), encoding="utf-8")
    found = read_fact_set(file)
    assert found.facts == (
        Fact("Where did Ada Quill study?", "Thule College", "zsre/1", "Ada Quill", "",
             (), ("At which school was Ada Quill taught?",), "Mu Polytechnic"),
    )  # fmt: skip
    assert found.neighbors == (Fact("who sails to ys", "nobody", "zsre/1/loc"),)


def test_own_files_are_read_as_ever(tmp_path: Path) -> None:
    own = [Fact("The capital of Thule is", "Ys", id="a"), Fact("x", "y", paraphrases=("z",))]
    write_facts(own, tmp_path / "own.jsonl")
    assert read_fact_set(tmp_path / "own.jsonl").facts == tuple(own)
    (tmp_path / "own.json").write_text(json.dumps([fact.to_json() for fact in own]))
    assert read_fact_set(tmp_path / "own.json").facts == tuple(own)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[", "begins like a JSON list"),
        ("[]", "There is no fact"),
        ("", "There is no fact"),
        ("[1]", "Entry 1"),
        ('[{"prompt": "x"}]', '"answer" is missing'),
        (json.dumps([COUNTERFACT, {"requested_rewrite": {}}]), "row 2 is no requested rewrite"),
        (json.dumps([{**COUNTERFACT, "requested_rewrite": None}]), "row 1 is no requested rewrite"),
        (json.dumps([ZSRE, {name: ZSRE[name] for name in ZSRE if name != "answers"}]), "row 2 is no question"),
        (json.dumps([ZSRE, {**ZSRE, "answers": [""]}]), "row 2 is no question"),
        (json.dumps(COUNTERFACT) + "\n{", "Line 2"),
        ("\n\n" + json.dumps(COUNTERFACT) + "\n{", "Line 4"),
        (json.dumps([{**ZSRE, "answers": [None]}]), "row 1 is no question"),
        (json.dumps([counterfact(target_true={"str": None})]), "row 1 is no requested rewrite"),
        (json.dumps([counterfact(prompt="The chief city is")]), "no {} for the subject"),
        ('{"pattern": "[X] is in [Y]."}', "no relation of ParaRel with both"),
        ('{"sub_label": "a", "obj_label": "b"}', "no relation of ParaRel with both"),
        ("hello", "Line 1"),
    ],
)
def test_what_is_broken_is_one_sentence(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "P36.jsonl"
    file.write_text(content)
    with pytest.raises(FactFileError) as raised:
        read_fact_set(file)
    assert says in raised.value.what
    assert raised.value.hint


def test_folders_that_hold_nothing_usable(tmp_path: Path) -> None:
    with pytest.raises(FactFileError, match="no relation of ParaRel"):
        read_fact_set(tmp_path)
    with pytest.raises(FactFileError, match="Cannot read"):
        read_fact_set(tmp_path / "nowhere.jsonl")
    lines(tmp_path / "P1.patterns.jsonl", [{"pattern": "[Y] holds [X]."}])
    lines(tmp_path / "P1.facts.jsonl", [{"sub_label": "a", "obj_label": "b"}])
    with pytest.raises(FactFileError, match="nothing can be asked"):
        read_fact_set(tmp_path)
    lines(tmp_path / "P1.patterns.jsonl", [{"pattern": "[X] holds [Y]."}])
    lines(tmp_path / "P1.facts.jsonl", [{"sub_label": "a", "obj_label": "b"}, {"sub_label": "a"}])
    with pytest.raises(FactFileError, match="Line 2"):
        read_fact_set(tmp_path)


def test_what_is_missing_or_of_another_type_is_not_taken_for_text(tmp_path: Path) -> None:
    (tmp_path / "z.json").write_text(json.dumps([{**ZSRE, "answers": "Thule College", "loc": None, "alt": None}]))
    found = read_fact_set(tmp_path / "z.json")
    assert (found.facts[0].answer, found.facts[0].target_new, found.neighbors) == ("Thule College", "", ())
    rows = [{key: value for key, value in COUNTERFACT.items() if key != "case_id"}] * 2
    (tmp_path / "c.json").write_text(json.dumps(rows))
    assert [fact.id for fact in read_fact_set(tmp_path / "c.json").facts] == ["counterfact/1", "counterfact/2"]
    pararel(tmp_path / "p")
    with (tmp_path / "p" / "P36.patterns.jsonl").open("a") as file:
        file.write("3\n")
    assert "3 of 8 patterns" in read_fact_set(tmp_path / "p").remarks[0]
    pararel(tmp_path / "p" / "more")
    with pytest.raises(FactFileError, match="are both of P36"):
        read_fact_set(tmp_path / "p")
