"""`knowscope-tui facts`: fact files read, sifted and made."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from knowscope_tui.cli import words
from knowscope_tui.cli.options import Shared, Verb, as_json, shared
from knowscope_tui.errors import FactFileError, UsageError
from knowscope_tui.paths import typed_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowscope_tui.core.facts import Fact
    from knowscope_tui.session.known import Looked

EPILOG = """\b
Examples:
  knowscope-tui facts convert counterfact.json --out facts.jsonl
  knowscope-tui facts known facts.jsonl --out known.jsonl
  knowscope-tui facts make-private --people 50 --out private.jsonl

\b
Every verb that takes facts reads ParaRel (a folder of pattern and fact
files), CounterFact and zsRE too."""


@click.group(epilog=EPILOG, short_help="Read, sift and make fact files.")
def facts() -> None:
    """Fact files: other forms read, what a model knows kept, and private facts of invented people made."""


@facts.command(
    cls=Verb,
    short_help="Keep what the model knows.",
    epilog="\b\nExample:\n  knowscope-tui facts known facts.jsonl --min-p 0.5 --out known.jsonl",
)
@click.argument("file", metavar="FACTS")
@click.option("--min-p", metavar="P", type=words.up_to_one, default="0", show_default=True, help="Least P(answer).")
@click.option("--out", metavar="FILE", help="Write them there.  [default: the output]")
@shared
def known(options: Shared, file: str, min_p: float, out: str | None) -> None:
    """Keep the facts whose answer greedy decoding gives, and say what was dropped and why."""
    target = _target(out)
    told = words.facts_in(file)
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress

    with progress(as_json=options.json, lines=True) as tell:
        scope = options._replace(sae=("none",)).open(tell)
        looked = scope.known(told, min_p, tell)
    kept = [one.fact for one in looked if not one.why]
    for why, number in Counter(one.why for one in looked if one.why).most_common():
        output.note(f"Dropped {number:,}: {why.rstrip('.')}.")
    if not kept:
        raise FactFileError(
            f"The model knows none of these {len(looked):,} facts.",
            "Lower --min-p, or name other facts." if min_p else "Name others; `probe` shows what it says.",
        )
    _written(kept, target)
    if options.json:
        output.write_json(_looked_json(looked, target))
    elif target is None:
        for fact in kept:
            output.write_json_line(fact.to_json())
    output.note(f"Kept {len(kept):,} of {len(looked):,} facts.")


@facts.command(
    short_help="Turn another form into JSON lines.",
    epilog="\b\nExample:\n  knowscope-tui facts convert pararel/ --out facts.jsonl",
)
@click.argument("file", metavar="FACTS")
@click.option("--out", metavar="FILE", help="Write them there.  [default: the output]")
@click.option("--neighbors", metavar="FILE", help="Write the facts that are to stay as they are there.")
@click.option("--erase", is_flag=True, help="Leave out the new answers that the file asks for.")
@as_json
def convert(file: str, out: str | None, neighbors: str | None, erase: bool, json: bool) -> None:
    """Read ParaRel (a folder, or either file of a relation), CounterFact or zsRE, and write facts as JSON lines."""
    from dataclasses import replace

    from knowscope_tui.cli import output
    from knowscope_tui.core.fact_formats import read_fact_set

    target, beside = _target(out), _target(neighbors)
    if target is not None and beside is not None and target.resolve() == beside.resolve():
        raise UsageError(f"--out and --neighbors both name {out!r}.", "Give each a file of its own.")
    found = read_fact_set(typed_path(file))
    told = [replace(fact, target_new="") if erase else fact for fact in found.facts]
    if beside is not None and not found.neighbors:
        raise FactFileError(f"{found.form} names no neighbors here.", "Leave out --neighbors.")
    for remark in found.remarks:
        output.note(remark)
    _written(told, target)
    _written(found.neighbors, beside)
    if json:
        row = {
            "form": found.form,
            "facts": len(told),
            "neighbors": len(found.neighbors),
            "remarks": list(found.remarks),
        }
        output.write_json(row | ({} if target else {"rows": [fact.to_json() for fact in told]}))
    elif target is None:
        for fact in told:
            output.write_json_line(fact.to_json())
    output.note(f"{found.form}: {len(told):,} facts, {len(found.neighbors):,} neighbors.")


@facts.command(
    "make-private",
    short_help="Make private facts of invented people.",
    epilog="\b\nExample:\n  knowscope-tui facts make-private --people 20 --seed 1 --out private.jsonl",
)
@click.option("--people", metavar="N", type=click.IntRange(1), default=40, show_default=True, help="Invented people.")
@click.option("--seed", metavar="N", type=click.IntRange(min=0), default=0, show_default=True, help="Of every draw.")
@click.option("--relation", "relations", metavar="R", multiple=True, help="Only these; may be repeated.")
@click.option("--out", metavar="FILE", help="Write them there.  [default: the output]")
@as_json
def make_private(people: int, seed: int, relations: tuple[str, ...], out: str | None, json: bool) -> None:
    """Make facts as privacy engineers have to erase them: phone numbers, addresses, passwords of people who are not."""
    from knowscope_tui.cli import output
    from knowscope_tui.core.private_facts import make_private as made

    target = _target(out)
    told = made(people, seed, relations)
    _written(told, target)
    if json:
        rows = {} if target else {"rows": [fact.to_json() for fact in told]}
        output.write_json({"facts": len(told), "people": people, "seed": seed} | rows)
    elif target is None:
        for fact in told:
            output.write_json_line(fact.to_json())
    output.note(f"{len(told):,} facts about {people:,} invented people.")


def _target(out: str | None) -> Path | None:
    """Where to write. Raises `SaveError` for a place that cannot be, before anything takes time."""
    if out is None:
        return None
    from knowscope_tui.core.written import check_target

    target = typed_path(out)
    check_target(target)
    return target


def _written(told: Sequence[Fact], target: Path | None) -> None:
    if target is None:
        return
    from knowscope_tui.core.facts import as_lines
    from knowscope_tui.core.written import written_beside

    with written_beside(target) as file:
        file.write(as_lines(told).encode("utf-8", "surrogatepass"))


def _looked_json(looked: Sequence[Looked], target: Path | None) -> dict[str, object]:
    rows = [{"fact": one.fact.to_json(), "p": one.p, "dropped": one.why or None} for one in looked]
    return {"out": None if target is None else str(target), "kept": sum(not one.why for one in looked), "facts": rows}
