"""A walk in Python: look at a fact, switch off what carries it, erase it, load the result without this package."""

from __future__ import annotations

import tempfile
from pathlib import Path

import knowscope_tui
from knowscope_tui import Family, Rank

PROMPT, ANSWER = "The capital of France is", "Paris"


def main() -> None:
    scope = knowscope_tui.open()

    reading = scope.probe(PROMPT, ANSWER, families=(Family.FEATURE,), rank=Rank.DELTA_PROB, top=3)
    print(f"P({ANSWER}) = {reading.p_answer:.3f}, rank {reading.rank}")
    for row in reading.units:
        print(f"  {row.unit}: activation {row.activation:.1f}, ΔProb {row.delta_prob:.2f}")

    effect = scope.ablate(PROMPT, ANSWER, [row.unit for row in reading.units], continuation=8)
    print(f"without them: P({ANSWER}) = {effect.p_after:.3f}, and it says:{effect.continuation_after}")

    fact = next(fact for fact in scope.facts if fact.prompt == PROMPT)
    report = scope.edit([fact])
    print(f"{report.plan.positions_zeroed} weights zeroed; locality {report.after.locality:.2f}")
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
