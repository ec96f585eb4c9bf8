"""The methods of editing beside one another on the demo's private facts: 50 at once, or 40 one at a time.

    python benchmarks/editing.py batch --split reported
    python benchmarks/editing.py single --split reported --methods positions neurons random

Of the 40 invented people 20 serve for tuning and 20 for reporting, by a seeded draw; no choice in
`knowscope_tui/engine/methods/` was made on facts of the second group. Half of all other facts, relation by relation, is
retained, the other half judges locality; ΔPPL is on text that nothing was trained on.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Sequence

from knowscope_tui.core.edits import EditSpec, Method, NoTau2
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.proof import EditReport, Figure
from knowscope_tui.core.rings import RINGS
from knowscope_tui.demo import corpus
from knowscope_tui.session.editing import Wishes
from knowscope_tui.session.front import open_scope
from knowscope_tui.session.scope import Scope

SPLIT_SEED = 7
SIZES = {"batch": 50, "single": 40}
METHODS = {
    "batch": ("positions", "neurons", "precise", "refined", "refined-random", "gradient"),
    "single": ("auto", "positions", "neurons", "random"),
}
HEAD = ("method", "Rel", "Gen", *RINGS, "ΔPPL", "share", "s")


def chosen(split: str, count: int, seed: int) -> list[Fact]:
    """So many private facts of the people of one split."""
    private = [taught.fact for taught in corpus.taught_facts() if taught.private]
    people = sorted({fact.subject for fact in private})
    random.Random(SPLIT_SEED).shuffle(people)
    half = len(people) // 2
    among = set(people[:half] if split == "tuned" else people[half:])
    return random.Random(seed).sample([fact for fact in private if fact.subject in among], count)


def measured(scope: Scope, method: str, facts: Sequence[Fact]) -> tuple[EditReport, float] | None:
    """What editing `facts` at once does, and in how many seconds it was found; None where no τ2 is within the limits.

    `auto` is `positions` with τ2 found.
    """
    auto = method == "auto"
    spec = EditSpec(tuple(facts), Method.POSITIONS if auto else Method(method), auto=auto)
    try:
        report = scope.carry_out(spec, Wishes(dry_run=True))
    except NoTau2:
        return None
    return report, report.plan.seconds


def row(method: str, reports: Sequence[tuple[EditReport, float]]) -> list[str]:
    """The means over all edits; of a ring over those that have one."""
    after = [report.proof.after for report, _seconds in reports]
    figures: list[list[Figure]] = [[one.reliability for one in after], [one.generalization for one in after]]
    figures += [[one.rings[ring] for one in after if ring in one.rings] for ring in RINGS]
    figures.append([one.delta_ppl for one in after])
    means = [mean(own) for own in figures]
    shown = ["–" if value is None else f"{value:.3f}" for value in means]
    share = statistics.mean(report.plan.share or 0.0 for report, _seconds in reports)
    seconds = statistics.median(seconds for _report, seconds in reports)
    return [method, *shown, f"{share:.2%}", f"{seconds:.1f}"]


def mean(figures: Sequence[Figure]) -> float | None:
    values = [figure.value for figure in figures if figure.value is not None]
    return statistics.mean(values) if values else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=SIZES)
    parser.add_argument("--split", choices=("tuned", "reported"), default="tuned")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="+", metavar="METHOD")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    asked = parser.parse_args()
    scope = open_scope(device=asked.device, dtype=asked.dtype)
    facts = chosen(asked.split, SIZES[asked.what], asked.seed)
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|", flush=True)
    for method in asked.methods or METHODS[asked.what]:
        edits = [[fact] for fact in facts] if asked.what == "single" else [facts]
        found = [one for edit in edits if (one := measured(scope, method, edit)) is not None]
        name = method if len(found) == len(edits) else f"{method}, {len(found)} of {len(edits)}"
        print("| " + " | ".join(row(name, found)) + " |", flush=True)


if __name__ == "__main__":
    main()
