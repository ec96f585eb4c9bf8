"""A fact file ranked: batch by batch, what is finished kept beside the target, and one table at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from knowscope_tui.core.configuration import Json
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.ranks import RankOptions, RankSummary, SkippedFact, Tally
from knowscope_tui.core.written import check_target, written_beside
from knowscope_tui.engine.identity import identity, identity_of_facts
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.ranking import AskedFact, Ranker
from knowscope_tui.errors import FactFileError, PromptError, UsageError
from knowscope_tui.session.pace import Pace
from knowscope_tui.session.rank_parts import RankParts, open_parts
from knowscope_tui.session.rank_table import best_of, tables, write_whole

FORMAT = 1


def rank_facts(
    lm: LanguageModel,
    library: Library,
    facts: Sequence[Fact],
    target: Path,
    options: RankOptions = RankOptions(),
    on_progress: OnProgress = silent,
) -> RankSummary:
    """Writes the exact effect of every active unit of each of `facts` to the Parquet file `target`.

    What is finished lies in a folder beside it until all is, and the same call goes on from there. A fact that the
    model cannot be asked is left out. Raises `SaveError`: the target exists or cannot be written, parts of another
    ranking lie there, or a part cannot be read any more; `FactFileError`: no fact can be asked; `UsageError`: there is
    nothing to measure.
    """
    check_target(target)
    if not len(library) and not options.neurons:
        raise UsageError(
            "There is nothing to measure: no dictionary is open, and no neurons were asked for.",
            "Open dictionaries with --sae, or ask for --neurons.",
        )
    asked, skipped = _ask(lm, facts, on_progress)
    header = _asked_for(lm, library, facts, options)
    with open_parts(target, header, restart=options.restart) as parts:
        pace = _measure(Ranker(lm, library, neurons=options.neurons, memory=options.memory), asked, parts, on_progress)
        tally = Tally()
        with written_beside(target) as file:
            write_whole(file, header | {"skipped": _listed(skipped)}, _counted(parts, tally, on_progress))
        parts.clear()
    return RankSummary(
        file=str(target),
        size_bytes=target.stat().st_size,
        facts=tally.facts,
        units=tally.units,
        kinds=tally.kinds,
        strongest=tally.strongest,
        skipped=tuple(skipped),
        remarks=tuple(parts.remarks),
        measured=pace.units,
        seconds=pace.seconds,
    )


def _ask(
    lm: LanguageModel, facts: Sequence[Fact], on_progress: OnProgress
) -> tuple[list[AskedFact], list[SkippedFact]]:
    """The facts as the model is asked them, and those that it cannot be asked."""
    asked: list[AskedFact] = []
    skipped: list[SkippedFact] = []
    for number, fact in enumerate(facts):
        on_progress("Reading the facts", number / len(facts))
        try:
            asked.append(AskedFact(number, fact, lm.ask(fact.prompt, fact.answer)))
        except PromptError as error:
            skipped.append(SkippedFact(number, fact, error.what))
    if not asked:
        first = f" the first because: {skipped[0].why}" if skipped else ""
        raise FactFileError(f"None of these facts can be asked of this model;{first}", "Name a file of other facts.")
    return asked, skipped


def _measure(ranker: Ranker, asked: Sequence[AskedFact], parts: RankParts, on_progress: OnProgress) -> Pace:
    """Ranks what `parts` does not have yet, a part a batch.

    All facts are cut into batches, whatever is done of them, so that a run that was stopped goes on with the same ones.
    """
    done = parts.facts
    left = [one for one in asked if one.number not in done]
    tokens = sum(len(one.question.answer_ids) for one in left)
    pace = Pace(len(asked), len(asked) - len(left), tokens, on_progress)
    for whole in ranker.batches(asked):
        batch = [one for one in whole if one.number not in done]
        if batch:
            pace.begin(len(batch[0].question.answer_ids))
            parts.add(ranker.rank(batch, pace.measured, pace.tell))
            pace.finish(len(batch))
    return pace


def _counted(parts: RankParts, tally: Tally, on_progress: OnProgress) -> Iterator[Any]:
    """The tables of all facts, each counted into `tally` on the way."""
    facts = len(parts.facts)
    for number, table in tables(parts.parts):
        on_progress("Writing the table", tally.facts / facts)
        if table is None:
            tally.add(0, None, {})
        else:
            tally.add(table.num_rows, *best_of(number, table))
            yield table


# --- what was asked -------------------------------------------------------------------------------------------------


def _asked_for(lm: LanguageModel, library: Library, facts: Sequence[Fact], options: RankOptions) -> Json:
    """What the numbers depend on, as JSON: parts that were measured for anything else are not gone on with."""
    return {
        "format": FORMAT,
        **identity(lm, library),
        "facts": identity_of_facts(facts),
        "neurons": options.neurons,
    }


def _listed(skipped: Sequence[SkippedFact]) -> list[Json]:
    return [{"fact": one.number, "id": one.fact.id, "why": one.why} for one in skipped]
