"""A walk in Python: look at a fact, switch off what carries it, erase it, load the result without this package.

Units are ranked by ΔProb: each was switched off alone, and the model ran.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import knowscope_tui
from knowscope_tui import Family

PROMPT, ANSWER = "The capital of France is", "Paris"


def main() -> None:
    scope = knowscope_tui.open()

    reading = scope.probe(PROMPT, ANSWER, families=(Family.FEATURE,), top=3)
    print(f"P({ANSWER}) = {reading.p_answer:.3f}, rank {reading.rank}")
    for row in reading.units:
        print(f"  {row.unit}: activation {row.activation:.1f}, ΔProb {row.delta_prob:.2f}")

    strongest = reading.units[0].unit
    second = scope.probe(PROMPT, ANSWER, families=(Family.FEATURE,), beside=[strongest], top=1).units[0]
    print(f"once {strongest} is off, {second.unit} does most: ΔProb {second.delta_prob:.2f}")

    *_, found = scope.smallest_set(PROMPT, ANSWER)
    effect = scope.ablate(PROMPT, ANSWER, found.units, continuation=8)
    print(f"without {' and '.join(map(str, found.units))}: P({ANSWER}) = {effect.p_after:.3f}")
    print(f"  and it says:{effect.continuation_after}")

    fact = next(fact for fact in scope.facts if fact.prompt == PROMPT)
    report = scope.edit([fact])
    print(f"{report.plan.positions} weights zeroed; locality {report.proof.after.locality.value:.2f}")
    scope.undo()
    scope.edit([fact])

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "edited"
        scope.save(folder)
        print(f"plain transformers says: {plain_transformers(folder)}")


def plain_transformers(folder: Path) -> str:
    """What the saved model says next, asked as anyone would who has never heard of this package."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    inputs = tokenizer(PROMPT, return_tensors="pt")
    said = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    return str(tokenizer.decode(said[0], skip_special_tokens=True))


if __name__ == "__main__":
    main()
