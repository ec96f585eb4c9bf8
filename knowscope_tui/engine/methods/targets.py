"""What an edit wants of the residual stream behind the last layer, for every phrasing of every fact.

Erasing: δ is what becomes of the stream when the fact's features are switched off at the reading position, at whatever
sites they are; of features of the last layer's `resid_post` that is −Σ_i z_i d_i, z_i their activation and d_i their
decoder row. Writing a new answer: the same, and then the smallest further change under which the final norm and the
unembedding give the new answer's token (as ROME finds its value, Meng et al. 2022, arXiv 2202.05262, section 3.1, but
behind the last layer, where no other layer follows). An answer of several tokens has a target at each token that
predicts one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from knowscope_tui.core.edits import EditSpec
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.readings import Ablation
from knowscope_tui.core.units import Site, SiteKind, Unit
from knowscope_tui.engine.ablate import unit_changes
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.methods.evidence import gathered, phrasings
from knowscope_tui.engine.methods.forward import head
from knowscope_tui.engine.methods.losses import leads
from knowscope_tui.engine.methods.states import at
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.errors import EditError

WRITE_STEPS, WRITE_RATE, WRITE_DECAY = 60, 0.3, 1e-3
"""Adam steps on δ for a new answer, their rate as a share of the stream's root mean square, and its weight decay."""

NOTHING = 1e-5
"""Share of the stream's largest entry below which a change of it is rounding."""


@dataclass(frozen=True)
class Row:
    """One token that predicts a token: `token` is to lose there, or to win with `wins`."""

    owner: int
    """Index of the fact."""
    question: Question
    position: int
    token: int
    wins: bool


@dataclass(frozen=True)
class Targets:
    """`delta` (rows, d_model) is what is wanted on top of what the stream at `site` held, `reached` (rows, d_model)."""

    rows: tuple[Row, ...]
    site: Site
    reached: Tensor
    delta: Tensor
    units: dict[Fact, tuple[Unit, ...]]
    """The features of each fact that δ switches off."""

    @property
    def questions(self) -> list[Question]:
        return [row.question for row in self.rows]

    @property
    def positions(self) -> list[int]:
        return [row.position for row in self.rows]

    @property
    def owner(self) -> Tensor:
        """Index of each row's fact, (rows,)."""
        return torch.tensor([row.owner for row in self.rows])

    def lead(self, lm: LanguageModel) -> Tensor:
        """By how many nats each fact is from done, at its worst row, as the model stands: (facts,).

        Of an erased fact log P(answer) − log P(the best other token); of a written one the other way round.
        """
        logits = head(lm, at(lm, self.questions, self.positions, [self.site])[self.site])
        tokens = torch.tensor([row.token for row in self.rows])
        wins = torch.tensor([row.wins for row in self.rows])
        worst = torch.full((int(self.owner.max()) + 1,), -torch.inf)
        return worst.scatter_reduce(0, self.owner, leads(logits, tokens, wins), "amax")


def rows_of(lm: LanguageModel, facts: Sequence[Fact], prompts: Mapping[Fact, Sequence[str]] | None = None) -> list[Row]:
    """The rows of `facts`: where the answer's first token is predicted, or each token of the new answer.

    They are asked by their own phrasings, or by `prompts`.
    """
    rows = []
    for owner, fact in enumerate(facts):
        for prompt in phrasings(fact) if prompts is None else prompts[fact]:
            question = lm.ask(prompt, fact.target_new or fact.answer)
            tokens = question.answer_ids if fact.target_new else question.answer_ids[:1]
            rows += [
                Row(owner, question, question.last + place, token, bool(fact.target_new))
                for place, token in enumerate(tokens)
            ]
    return rows


def find_targets(lm: LanguageModel, library: Library, spec: EditSpec) -> Targets:
    """The targets of `spec`, for the model as it stands. Raises `EditError` for a fact that no feature speaks for."""
    rows = rows_of(lm, spec.facts)
    top = Site(lm.n_layers - 1, SiteKind.RESID_POST)
    reached = at(lm, [row.question for row in rows], [row.position for row in rows], [top])[top]
    delta = torch.zeros_like(reached)
    units: dict[Fact, tuple[Unit, ...]] = {}
    for owner, evidence in enumerate(gathered(lm, library, spec)):
        fact = evidence.fact
        units[fact] = evidence.units(spec)
        if not units[fact]:
            raise EditError(
                f"No {spec.site} feature speaks for {fact.id or fact.prompt!r}.", "Use another method, or name units."
            )
        places = [place for place, row in enumerate(rows) if row.owner == owner]
        firsts = [place for place in places if rows[place].position == rows[place].question.last]
        off = unit_changes(lm, library, Ablation(units[fact]))
        asked = [rows[place] for place in firsts]
        without = at(lm, [row.question for row in asked], [row.position for row in asked], [top], off)[top]
        delta[firsts] = without - reached[firsts]
        if not fact.target_new and delta[firsts].abs().max() < NOTHING * reached[firsts].abs().max():
            raise EditError(
                f"Nothing changes on {fact.id or fact.prompt!r} when these units are switched off.", "Name others."
            )
        if fact.target_new:
            delta[places] = _toward(lm, reached[places], delta[places], [rows[place].token for place in places])
    return Targets(tuple(rows), top, reached, delta, units)


def _toward(lm: LanguageModel, reached: Tensor, start: Tensor, tokens: Sequence[int]) -> Tensor:
    """δ under which every row's token wins, from `start`: all (rows, d_model), float32, on the CPU."""
    wanted = torch.tensor(tokens)
    scale = reached.square().mean().sqrt()
    change = torch.zeros_like(start, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=WRITE_RATE)
    with torch.enable_grad():
        for _ in range(WRITE_STEPS):
            logits = head(lm, reached + start + scale * change)
            loss = (
                torch.nn.functional.cross_entropy(logits, wanted, reduction="sum") + WRITE_DECAY * change.square().sum()
            )
            (change.grad,) = torch.autograd.grad(loss, [change])
            optimizer.step()
    return (start + scale * change).detach()
