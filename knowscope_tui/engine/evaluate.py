"""What an edit did: reliability, generalization, locality and ΔPPL (see `core.edits.Scores` for the definitions).

A snapshot is taken of the model before the edit and one after it; a report compares the two. A fact, a paraphrase or a
neighbor that the model did not know before cannot be erased or kept, and counts nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from knowscope_tui.core.edits import EditPlan, EditReport, FactOutcome, Scores
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.units import Family, Site, Unit
from knowscope_tui.engine.answers import answer_log_prob, batches, is_top
from knowscope_tui.engine.generate import continuation
from knowscope_tui.engine.hooks import capture
from knowscope_tui.engine.library import Library, check_unit
from knowscope_tui.engine.model import LanguageModel, Question

BATCH_TOKENS = 4096
"""Tokens in one forward, where the logits of so many may be held at once."""

RINGS = ("same subject", "same relation", "unrelated")


@dataclass(frozen=True)
class Known:
    """Whether greedy decoding gives the answer, and P(answer)."""

    top: bool
    p: float


@dataclass(frozen=True)
class Snapshot:
    """The model at one moment: what it knows of the facts, their paraphrases and the neighbors, and its perplexity."""

    facts: tuple[Fact, ...]
    neighbor_facts: tuple[Fact, ...]
    prompts: tuple[Known, ...]
    paraphrases: tuple[tuple[Known, ...], ...]
    neighbors: tuple[Known, ...]
    perplexity: float | None
    says: tuple[str, ...]


def take(lm: LanguageModel, facts: Sequence[Fact], neighbors: Sequence[Fact], texts: Sequence[str]) -> Snapshot:
    """A snapshot of the model as it stands. Raises `PromptError` for a text that the model cannot take."""
    questions = [lm.ask(fact.prompt, fact.answer) for fact in facts]
    asked = list(questions)
    for fact in facts:
        asked += [lm.ask(prompt, fact.answer) for prompt in fact.paraphrases]
    asked += [lm.ask(fact.prompt, fact.answer) for fact in neighbors]
    known = iter(know(lm, asked))
    prompts = tuple(next(known) for _ in facts)
    paraphrases = tuple(tuple(next(known) for _ in fact.paraphrases) for fact in facts)
    return Snapshot(
        facts=tuple(facts),
        neighbor_facts=tuple(neighbors),
        prompts=prompts,
        paraphrases=paraphrases,
        neighbors=tuple(known),
        perplexity=perplexity(lm, texts) if texts else None,
        says=tuple(continuation(lm, question, len(question.answer_ids) + 1).strip() for question in questions),
    )


@torch.no_grad()
def know(lm: LanguageModel, questions: Sequence[Question]) -> list[Known]:
    """What the model as it stands knows of each question, in order."""
    found: list[Known] = [Known(False, 0.0)] * len(questions)
    longest = max((len(question.input_ids) for question in questions), default=1)
    for batch in batches(questions, lm.rows_at_once(longest, max(1, BATCH_TOKENS // longest))):
        rows = [questions[index].input_ids for index in batch]
        logits = lm.model(input_ids=lm.tensor(rows), use_cache=False).logits
        for row, index in zip(logits, batch, strict=True):
            question = questions[index]
            own = row[None, : len(question.input_ids)]
            found[index] = Known(bool(is_top(own, question)[0]), float(answer_log_prob(own, question)[0].exp()))
    return found


@torch.no_grad()
def perplexity(lm: LanguageModel, texts: Sequence[str]) -> float:
    """exp of the mean negative log-probability per token of `texts`, each read from `<bos>`."""
    rows = [lm.encode_text(text) for text in texts]
    longest = max(map(len, rows))
    size = lm.rows_at_once(longest, max(1, BATCH_TOKENS // longest))
    total, count = 0.0, 0
    rows.sort(key=len)
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size]
        tokens = lm.tensor(chunk)
        logits = lm.model(input_ids=tokens, use_cache=False).logits[:, :-1].to(torch.float32)
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
        losses = losses.reshape(tokens.shape[0], -1)
        for loss, row in zip(losses, chunk, strict=True):
            total += float(loss[: len(row) - 1].sum())
            count += len(row) - 1
    return math.exp(total / max(count, 1))


def report(plan: EditPlan, before: Snapshot, after: Snapshot, *, applied: bool) -> EditReport:
    """Compares two snapshots around the edit `plan`."""
    return EditReport(
        plan=plan,
        before=scores(before, before),
        after=scores(before, after),
        facts=outcomes(before, after),
        neighbors=sum(neighbor.top for neighbor in before.neighbors),
        applied=applied,
    )


def outcomes(before: Snapshot, after: Snapshot) -> tuple[FactOutcome, ...]:
    """What became of each fact between two snapshots."""
    return tuple(_outcome(before, after, index) for index in range(len(before.facts)))


def _outcome(before: Snapshot, after: Snapshot, index: int) -> FactOutcome:
    was, became = before.prompts[index], after.prompts[index]
    pairs = [pair for pair in zip(before.paraphrases[index], after.paraphrases[index], strict=True) if pair[0].top]
    return FactOutcome(
        fact=before.facts[index],
        known_before=was.top,
        erased=was.top and not became.top,
        p_before=was.p,
        p_after=became.p,
        says=after.says[index],
        paraphrases_erased=sum(not became.top for _was, became in pairs),
        paraphrases=len(pairs),
    )


def scores(before: Snapshot, after: Snapshot) -> Scores:
    """The figures of `after` against `before`; of `before` against itself they are 0, 0, 1 and 0."""
    prompts = list(zip(before.prompts, after.prompts, strict=True))
    paraphrases = [
        pair
        for was, became in zip(before.paraphrases, after.paraphrases, strict=True)
        for pair in zip(was, became, strict=True)
    ]
    neighbors = list(zip(before.neighbors, after.neighbors, strict=True))
    return Scores(
        reliability=_share_lost(prompts),
        generalization=_share_lost(paraphrases),
        locality=_share_kept(neighbors),
        delta_ppl=after.perplexity / before.perplexity - 1 if before.perplexity and after.perplexity else None,
        p_answer=_mean([became.p for _was, became in prompts]),
        p_paraphrases=_mean([became.p for _was, became in paraphrases]),
        p_neighbors=_mean([became.p for _was, became in neighbors]),
        locality_rings=_rings(before, neighbors),
    )


def _rings(before: Snapshot, neighbors: Sequence[tuple[Known, Known]]) -> dict[str, float]:
    subjects = {fact.subject for fact in before.facts} - {""}
    relations = {fact.relation for fact in before.facts} - {""}
    grouped: dict[str, list[tuple[Known, Known]]] = {ring: [] for ring in RINGS}
    for fact, pair in zip(before.neighbor_facts, neighbors, strict=True):
        ring = RINGS[0] if fact.subject in subjects else RINGS[1] if fact.relation in relations else RINGS[2]
        grouped[ring].append(pair)
    shares = {ring: _share_kept(pairs) for ring, pairs in grouped.items()}
    return {ring: share for ring, share in shares.items() if share is not None}


def _share_lost(pairs: Sequence[tuple[Known, Known]]) -> float | None:
    kept = _share_kept(pairs)
    return None if kept is None else 1 - kept


def _share_kept(pairs: Sequence[tuple[Known, Known]]) -> float | None:
    return _mean([float(became.top) for was, became in pairs if was.top])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


@torch.no_grad()
def mean_activations(
    lm: LanguageModel, library: Library, units: Sequence[Unit], texts: Sequence[str]
) -> dict[Unit, float]:
    """Mean activation of each unit over all tokens of `texts` but `<bos>`.

    Raises `UsageError` for a unit that does not exist.
    """
    by_site: dict[Site, list[Unit]] = {}
    for unit in units:
        check_unit(lm, library, unit)
        by_site.setdefault(unit.site, []).append(unit)
    totals = dict.fromkeys(units, 0.0)
    count = 0
    with capture(lm.model, by_site) as cache:
        for text in texts:
            tokens = lm.tensor([lm.encode_text(text)])
            lm.model(input_ids=tokens, use_cache=False, logits_to_keep=1)
            count += tokens.shape[1] - 1
            for site, group in by_site.items():
                h = cache[site][0, 1:]  # (pos - 1, width)
                indices = torch.tensor([unit.index for unit in group], device=h.device)
                if group[0].family is Family.FEATURE:
                    summed = library.at(site).encode_some(h, indices).sum(dim=0)
                else:
                    summed = h[:, indices].to(torch.float32).sum(dim=0)
                for unit, value in zip(group, summed.tolist(), strict=True):
                    totals[unit] += value
    return {unit: total / max(count, 1) for unit, total in totals.items()}
