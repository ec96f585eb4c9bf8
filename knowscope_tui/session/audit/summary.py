"""The outcome of an edit in a sentence or two."""

from __future__ import annotations

from knowscope_tui.core.record import Row
from knowscope_tui.session.pages.numbers import percent, signed
from knowscope_tui.text import count as counted


def edited_names(record: Row) -> list[str]:
    """The names of every fact that was edited, each once."""
    return list(dict.fromkeys(str(name) for edit in record["edits"] for name in edit.get("edited") or ()))


def updates(record: Row) -> bool:
    """Whether any edit wrote another answer."""
    return any(edit.get("updates") for edit in record["edits"])


def leaking(proof: Row) -> list[str]:
    """The names of every fact that some leak test found."""
    return list(dict.fromkeys(str(name) for test in proof.get("leaks") or () for name in test.get("leaking") or ()))


def outcome(record: Row) -> tuple[str, str, bool]:
    """The verdict in a few words, the same in sentences, and whether nothing was found wanting."""
    proof: Row | None = record.get("proof")
    if not proof:
        names = counted(len(edited_names(record)), "fact")
        return "Not measured", f"{names} were edited; what that does was not measured when it was saved.", False
    facts = proof.get("facts") or ()
    known = [fact for fact in facts if fact.get("known_before")]
    done = sum(bool(fact.get("erased")) for fact in known)
    found = leaking(proof)
    ran = proof.get("leaks") or ()
    whole = done == len(known) and bool(known)
    verdict = (
        "Not all facts are changed" if not whole
        else "Something still comes out" if found
        else "Nothing came out" if ran
        else "Changed; leaks were not looked for"
    )  # fmt: skip
    sentences = [_done(record, done, len(known)), _kept(proof), _leaks(ran, found)]
    return verdict, " ".join(filter(None, sentences)), whole and bool(ran) and not found


def _done(record: Row, done: int, known: int) -> str:
    how = "are answered as the edit wants" if updates(record) else "no longer have their answer"
    return f"Of {counted(known, 'edited fact')} that the base knew, {done} {how} under greedy decoding."


def _kept(proof: Row) -> str:
    locality, ppl = proof["after"]["locality"], proof["after"]["delta_ppl"]
    told = []
    if locality.get("value") is not None:
        told.append(f"{percent(locality['value'], 1)} of {counted(locality['items'], 'other fact')} keep their answer")
    if ppl.get("value") is not None:
        told.append(f"perplexity on other text changes by {signed(ppl['value'])}")
    text = ", and ".join(told)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _leaks(ran: object, found: list[str]) -> str:
    if not ran:
        return "No leak test was run."
    if not found:
        return "No leak test brought an answer back."
    return f"Leak tests brought back the answer of {counted(len(found), 'fact')}."
