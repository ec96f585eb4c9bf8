"""`refined`, its control and the gradient baseline: values optimised at chosen positions, with early stopping.

The loss is what an edit is for, and what it must not do:

    hinge over the facts' phrasings + KEEP · (KL over retained prompts + KL over general text)

- *hinge*: mean of max(0, lead + margin), where lead is by how many nats the answer's first token stands above the best
  other token where it is predicted, or a token of a new answer below it. It is 0 once every phrasing is past the
  margin; from then on only the keeping terms work.
- *keeping*: KL(base ‖ edited) where retained answers are predicted, most of them drawn from the facts that share a
  subject or relation with an edited one and from invented neighbors, and at every token of general text.

Phrasings are also invented (`invented`), so that the edit learns where it begins and where it ends.

- `refined`: the positions are those where `precise`, whose changes are what the features write, writes most: the
  `budget` largest of |ΔW[j, k]| · rms a_k over the facts' phrasings. The values start from its ΔW.
- `refined-random`: as many positions, drawn at random from all `down_proj`, starting from the base. The control.
- `gradient`: every entry of every `down_proj`, unlikelihood in place of the hinge (−log(1 − P), Welleck et al. 2020,
  arXiv 1908.04319), retained prompts as they come, nothing invented: the plain baseline, all of its steps.

Adam; the rate falls linearly to a tenth, but for the baseline's. Every `CHECK` steps `refined` and its control are held
against the spec's limits on what they may see (phrasings; a fifth of the retained facts that no step learns from, in
every ring; texts put aside likewise) and stop once they are within them, `PATIENCE` checks in a row.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from knowscope_tui.core.edits import EditSpec, Method
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.rings import UNRELATED, ring_of
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.deltas.change import SparseChange
from knowscope_tui.engine.methods.evidence import phrasings, questions_about
from knowscope_tui.engine.methods.forward import gradients_of, log_probs
from knowscope_tui.engine.methods.invented import invented_neighbors, invented_phrasings
from knowscope_tui.engine.methods.keeping import Pool, drift, of_questions, of_texts
from knowscope_tui.engine.methods.losses import hinge, unlikelihood
from knowscope_tui.engine.methods.material import Material
from knowscope_tui.engine.methods.states import at_last
from knowscope_tui.engine.methods.stopping import Watch
from knowscope_tui.engine.methods.targets import Row, rows_of
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.sites import down_proj, down_proj_name, stored_layout

ERASE_MARGIN, WRITE_MARGIN = 5.0, 1.0
"""Nats by which an erased answer is to lose and a written one to win, in every phrasing."""

KEEP = 3.0
"""Weight of the keeping terms of `refined`; the baseline's is 1."""

STEPS, CHECK = 150, 10

RATES = {Method.REFINED: 0.08, Method.REFINED_RANDOM: 0.16, Method.GRADIENT: 0.04}
"""Adam's first rate, as a share of the root mean square of the weights."""

PHRASINGS, NEIGHBORS = 12, 200
"""Invented phrasings of each fact, invented neighbors in all."""

BATCH, NEAR_SHARE, TEXTS = 96, 0.7, 16
"""Retained prompts in a step, the share of them from near facts and invented neighbors, and texts."""

LEARNED_AT_ONCE = 100
"""Invented phrasings in a step, beside all of the facts' own."""

Positions = dict[int, Tensor]
"""Layer → flat, ascending indices into its `down_proj` as it is stored."""

Tell = Callable[[str, float | None], None]


@dataclass(frozen=True)
class Optimised:
    """The changes, how many steps they took, and what each check found."""

    changes: list[SparseChange]
    steps: int
    stopped: bool
    """Whether the limits were met before the steps ran out."""
    trail: tuple[str, ...] = ()


def budgeted(lm: LanguageModel, budget: float) -> int:
    """How many positions `budget` of the model's weights are, at least one."""
    return max(1, int(budget * sum(parameter.numel() for parameter in lm.model.parameters())))


def chosen_by_features(lm: LanguageModel, spec: EditSpec, edited: Mapping[int, Tensor]) -> Positions:
    """The positions where `edited`, layer → (d_model, d_mlp) as `precise` has it, would write most."""
    sites = [Site(layer, SiteKind.MLP_ACT) for layer in edited]
    acts = at_last(lm, questions_about(lm, spec.facts), sites)
    scores: dict[int, Tensor] = {}
    for site in sites:
        rms = acts[site].square().mean(dim=0).sqrt()  # (d_mlp,)
        moved = (edited[site.layer] - down_proj(lm.model, site.layer).to(torch.float32)).abs().cpu()
        scores[site.layer] = stored_layout(lm.model, moved * rms).flatten()
    count = budgeted(lm, spec.budget)
    every = torch.cat(list(scores.values()))
    least = every.topk(min(count, len(every))).values[-1]
    return {layer: (score >= least).nonzero()[:, 0] for layer, score in scores.items() if (score >= least).any()}


def drawn(lm: LanguageModel, spec: EditSpec) -> Positions:
    """As many positions as the budget allows, drawn at random from all `down_proj`."""
    sizes = [down_proj(lm.model, layer).numel() for layer in range(lm.n_layers)]
    generator = torch.Generator().manual_seed(spec.seed)
    count = min(budgeted(lm, spec.budget), sum(sizes))
    places = torch.randperm(sum(sizes), generator=generator)[:count].sort().values
    starts = torch.tensor([0, *sizes]).cumsum(0)
    found: Positions = {}
    for layer in range(lm.n_layers):
        inside = places[(places >= starts[layer]) & (places < starts[layer + 1])] - starts[layer]
        if len(inside):
            found[layer] = inside
    return found


def everywhere(lm: LanguageModel) -> Positions:
    """Every position of every `down_proj`."""
    return {layer: torch.arange(down_proj(lm.model, layer).numel()) for layer in range(lm.n_layers)}


def optimise(
    lm: LanguageModel,
    spec: EditSpec,
    material: Material,
    positions: Positions,
    tell: Tell,
    start: Mapping[int, Tensor] | None = None,
) -> Optimised:
    """Optimises the values at `positions`; the model is as it was when this returns or raises.

    `start` are whole edited matrices by layer, (d_model, d_mlp), whose values at the positions are begun with.
    """
    parameters = {layer: lm.model.get_parameter(down_proj_name(lm.model, layer)) for layer in positions}
    places = {layer: indices.to(parameters[layer].device) for layer, indices in positions.items()}
    base = {layer: _flat(parameters[layer])[places[layer]].clone() for layer in positions}
    task = _Task.of(lm, spec, material)
    values = {layer: kept.to(torch.float32, copy=True) for layer, kept in base.items()}
    for layer, edited in (start or {}).items():
        if layer in values:
            values[layer] = stored_layout(lm.model, edited).flatten().to(values[layer].device)[places[layer]]
    try:
        steps, stopped, trail = _descend(spec, task, parameters, places, values, tell)
        changes = [_change(lm, layer, parameters[layer], places[layer], base[layer]) for layer in sorted(positions)]
    finally:
        with torch.no_grad():
            for layer, kept in base.items():
                _flat(parameters[layer])[places[layer]] = kept
    return Optimised([change for change in changes if change.positions], steps, stopped, trail)


def _flat(parameter: Tensor) -> Tensor:
    return parameter.detach().view(-1)


def _change(lm: LanguageModel, layer: int, parameter: Tensor, places: Tensor, base: Tensor) -> SparseChange:
    """What stands at `places` where it is not the base's."""
    values = _flat(parameter)[places]
    differs = values != base
    return SparseChange(
        down_proj_name(lm.model, layer), tuple(parameter.shape), places[differs], values[differs].clone()
    )


def _descend(
    spec: EditSpec,
    task: _Task,
    parameters: Mapping[int, Tensor],
    places: Mapping[int, Tensor],
    values: Mapping[int, Tensor],
    tell: Tell,
) -> tuple[int, bool, tuple[str, ...]]:
    """Adam on `values`, which the model's `parameters` hold at `places` after every step."""
    layers = sorted(values)
    rms = float(torch.stack([parameters[layer].detach().float().square().mean() for layer in layers]).mean().sqrt())
    rate = RATES[spec.method] * rms
    optimizer = torch.optim.Adam([values[layer] for layer in layers], lr=rate, betas=(0.9, 0.98))
    rng = random.Random(spec.seed)
    trail: list[str] = []
    _write(parameters, places, values)
    for step in range(1, STEPS + 1):
        tell(f"Optimising, step {step} of at most {STEPS}", step / STEPS)
        with gradients_of([parameters[layer] for layer in layers]):
            loss = task.loss(rng)
            gradients = torch.autograd.grad(loss, [parameters[layer] for layer in layers])
        for layer, gradient in zip(layers, gradients, strict=True):
            values[layer].grad = gradient.reshape(-1)[places[layer]].to(torch.float32)
        optimizer.step()
        if spec.method is not Method.GRADIENT:
            optimizer.param_groups[0]["lr"] = rate * (1 - 0.9 * step / STEPS)
        _write(parameters, places, values)
        if task.watch is not None and step % CHECK == 0:
            trail.append(f"step {step}: {task.watch.look()}")
            if task.watch.content:
                return step, True, tuple(trail)
    return STEPS, False, tuple(trail)


@torch.no_grad()
def _write(parameters: Mapping[int, Tensor], places: Mapping[int, Tensor], values: Mapping[int, Tensor]) -> None:
    for layer, value in values.items():
        _flat(parameters[layer])[places[layer]] = value.to(parameters[layer].dtype)


@dataclass
class _Task:
    """The loss of one edit."""

    lm: LanguageModel
    method: Method
    own: list[Row]
    invented: list[Row]
    near: Pool
    retained: Pool
    texts: Pool
    watch: Watch | None

    @classmethod
    def of(cls, lm: LanguageModel, spec: EditSpec, material: Material) -> _Task:
        plain = spec.method is Method.GRADIENT
        watch = None if plain else Watch.of(lm, spec, material)
        learned = material if watch is None else watch.rest
        near = [fact for fact in learned.retained if ring_of(fact, spec.facts) != UNRELATED]
        more: Mapping[Fact, tuple[str, ...]] = {}
        close: Mapping[Fact, tuple[str, ...]] = {}
        nobody: Sequence[str] = ()
        if not plain:
            more = invented_phrasings(lm, spec.facts, learned, PHRASINGS, spec.seed)
            close = invented_phrasings(lm, near, learned, 2, spec.seed + 1)
            nobody = invented_neighbors(spec.facts, learned, NEIGHBORS, spec.seed)
        asked = questions_about(lm, learned.retained)
        beside = [lm.ask(prompt, fact.answer) for fact in near for prompt in (*phrasings(fact), *close.get(fact, ()))]
        beside += [lm.leave_open(prompt) for prompt in nobody]
        return cls(
            lm,
            spec.method,
            rows_of(lm, spec.facts),
            rows_of(lm, spec.facts, more) if more else [],
            Pool(lm, [] if plain else of_questions(beside), spec.seed),
            Pool(lm, of_questions(asked), spec.seed),
            Pool(lm, of_texts(lm, learned.texts), spec.seed),
            watch,
        )

    def loss(self, rng: random.Random) -> Tensor:
        keeping = self._drift(rng) + self.texts.drift(TEXTS, rng)
        rows = self.own + rng.sample(self.invented, min(LEARNED_AT_ONCE, len(self.invented)))
        found = log_probs(
            self.lm, [row.question.input_ids for row in rows], [(i, row.position) for i, row in enumerate(rows)]
        )
        tokens = torch.tensor([row.token for row in rows], device=found.device)
        wins = torch.tensor([row.wins for row in rows], device=found.device)
        if self.method is Method.GRADIENT:
            return unlikelihood(found, tokens, wins) + keeping
        margins = torch.where(wins, WRITE_MARGIN, ERASE_MARGIN)
        return hinge(found, tokens, wins, margins) + KEEP * keeping

    def _drift(self, rng: random.Random) -> Tensor:
        near = int(BATCH * NEAR_SHARE) if len(self.near) else 0
        reminders = self.near.draw(near, rng) + self.retained.draw(BATCH - near, rng)
        return drift(self.lm, reminders)
