"""FeatureEdit and its baselines: from units to the weights they change.

Chen et al. 2025 (arXiv 2502.12483, section 6) take a feature's decoder row d = W_dec[i] and zero "the corresponding
positions" of the second MLP matrix W (`down_proj.weight`, d_model × d_mlp) where |d| exceeds τ2. The paper's code was
never published. Two readings of it, and two baselines:

- `positions` (the default): W[j, k] writes c_jk = g_j · d_j · W[j, k] · a_k / r into the feature on this fact, where
  a = `mlp_act` at the reading position, g is the gain of the RMS norm that stands between W and the residual stream
  and r the root mean square it divides by; in a family without a norm there both are 1. Entries with
  c_jk > τ2 · max c are zeroed. c is summed over the fact's prompt and its `edit_prompts`; the maximum is taken over
  all matrices that write to the unit.
- `rows` (literal): row j of W is zeroed wherever |d_j| > τ2 · max |d|.
- `neurons`: whole columns k of W are zeroed, for the neurons of strongest attribution (Dai et al. 2022).
- `random`: as many entries as `positions` zeroes in each matrix, drawn at random from it.

A `resid_post` or `resid_mid` feature is written to by `down_proj` of its own layer and of every layer below it;
`positions` changes all of these, `rows` the nearest one. The attention's output projection and the biases also write
there and are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from knowscope_tui.core.edits import EditPlan, EditSpec, Method, ParameterChange
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.engine.attribution import strongest, unit_attribution
from knowscope_tui.engine.library import Library, check_unit
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.sites import (
    down_proj,
    down_proj_name,
    layer_device,
    post_feedforward_gain,
    stored_layout,
    text_config,
)
from knowscope_tui.engine.trace import record
from knowscope_tui.errors import EditError

DEFAULT_TAU2 = {Method.POSITIONS: 0.07, Method.ROWS: 0.3, Method.NEURONS: 0.0, Method.RANDOM: 0.07}
"""τ2 where none is given. `docs/demo-model.md` shows what other values do."""

FEW_UNITS, TAU2_FOR_FEW = 2, 0.03
"""One or two features write through fewer entries: `positions` takes more of each of them."""

EDITABLE_KINDS = (SiteKind.MLP_OUT, SiteKind.RESID_MID, SiteKind.RESID_POST)
"""Sites whose features `down_proj` writes into."""


@dataclass(frozen=True)
class WeightDelta:
    """The exact change of one parameter: `values` (n,) go to the flat, ascending `indices` (n,) of it.

    `shape` and `indices` are in the parameter's own layout, which is (d_mlp, d_model) in some families.
    """

    name: str
    shape: tuple[int, ...]
    indices: Tensor
    values: Tensor


@dataclass(frozen=True)
class _Evidence:
    """What one fact shows at its reading position, summed over its prompt and edit prompts."""

    attribution: dict[Site, Tensor]
    """Site → (n_units,)."""
    normed_act: dict[int, Tensor]
    """Layer → a / r, (d_mlp,)."""


def plan_edit(lm: LanguageModel, library: Library, spec: EditSpec) -> tuple[EditPlan, list[WeightDelta]]:
    """The plan of `spec` and its weight changes, for the model as it stands; nothing is changed yet.

    Raises `EditError` for a spec that changes nothing or cannot be carried out, `PromptError` and `UsageError`.
    """
    _check(lm, library, spec)
    tau2 = _default_tau2(spec) if spec.tau2 is None else spec.tau2
    masks: dict[int, Tensor] = {}
    used: dict[Unit, None] = {}
    for fact in spec.facts:
        evidence = _gather(lm, library, spec, fact)
        units = spec.units or strongest(evidence.attribution, spec.top)
        used.update(dict.fromkeys(units))
        for unit in units:
            for layer, mask in _mask(lm, library, spec.method, unit, tau2, evidence).items():
                masks[layer] = masks[layer] | mask if layer in masks else mask
    if spec.method is Method.RANDOM:
        masks = _shuffled(masks, spec.seed)
    deltas = [_zeroing(lm, layer, mask) for layer, mask in sorted(masks.items()) if mask.any()]
    if not deltas:
        raise EditError("This edit changes no weight.", "Lower τ2, or name more units.")
    changes = tuple(ParameterChange(delta.name, delta.shape, len(delta.indices)) for delta in deltas)
    return EditPlan(spec, tau2, tuple(used), changes), deltas


def _default_tau2(spec: EditSpec) -> float:
    few = len(spec.units or range(spec.top)) <= FEW_UNITS
    by_entry = spec.method in (Method.POSITIONS, Method.RANDOM)
    return TAU2_FOR_FEW if few and by_entry else DEFAULT_TAU2[spec.method]


def _check(lm: LanguageModel, library: Library, spec: EditSpec) -> None:
    if not spec.facts:
        raise EditError("No fact was named to edit.", "Give a fact file, or a prompt with its answer.")
    if spec.tau2 is not None and not 0 <= spec.tau2 < 1:
        raise EditError(f"τ2 is {spec.tau2:g}.", "It is a share of the largest value: use 0 or more, and less than 1.")
    if spec.top < 1:
        raise EditError(f"An edit of {spec.top} units changes nothing.", "Use one or more.")
    for unit in spec.units:
        check_unit(lm, library, unit)
    wanted = Family.NEURON if spec.method is Method.NEURONS else Family.FEATURE
    for unit in spec.units:
        if unit.family is not wanted:
            raise EditError(
                f"The method {spec.method.value!r} edits {wanted.plural}, and {unit} is none.",
                "Use `neurons` for neurons, and another method for features.",
            )
    kinds = {unit.site.kind for unit in spec.units} or {spec.site}
    if wanted is Family.FEATURE and not kinds <= set(EDITABLE_KINDS):
        raise EditError(
            f"No down_proj writes into {', '.join(kind.value for kind in kinds - set(EDITABLE_KINDS))} features.",
            f"Use the features of {', '.join(kind.value for kind in EDITABLE_KINDS)}.",
        )
    if wanted is Family.FEATURE and not spec.units and spec.site not in library.kinds:
        loaded = ", ".join(kind.value for kind in library.kinds) or "none"
        raise EditError(f"No dictionary is loaded at {spec.site}.", f"Sites with dictionaries: {loaded}.")


def _gather(lm: LanguageModel, library: Library, spec: EditSpec, fact: Fact) -> _Evidence:
    neurons = [Site(layer, SiteKind.MLP_ACT) for layer in range(lm.n_layers)]
    ranked = neurons if spec.method is Method.NEURONS else [s for s in library.sites if s.kind is spec.site]
    total: dict[Site, Tensor] = {}
    normed_act: dict[int, Tensor] = {}
    for prompt in (fact.prompt, *fact.edit_prompts):
        question = lm.ask(prompt, fact.answer)
        trace = record(lm, [question], [question.last], sorted({*ranked, *neurons}), slopes=True)
        for site in ranked:
            attribution = unit_attribution(library, site, trace)[1][0]
            total[site] = total[site] + attribution if site in total else attribution
        for site in neurons:
            normed = _normed(lm, site.layer, trace.activations[site][0])
            normed_act[site.layer] = normed_act[site.layer] + normed if site.layer in normed_act else normed
    return _Evidence(total, normed_act)


def _normed(lm: LanguageModel, layer: int, mlp_act: Tensor) -> Tensor:
    """a / r: `mlp_act` over the root mean square of what `down_proj` makes of it, (d_mlp,), float32.

    r is 1 where no norm follows.
    """
    a = mlp_act.to(torch.float32)
    if post_feedforward_gain(lm.model, layer) is None:
        return a
    written = down_proj(lm.model, layer).to(torch.float32) @ a  # (d_model,)
    rms = (written.square().mean() + text_config(lm.model).rms_norm_eps).sqrt()
    normed: Tensor = a / rms
    return normed


def _mask(
    lm: LanguageModel, library: Library, method: Method, unit: Unit, tau2: float, evidence: _Evidence
) -> Mapping[int, Tensor]:
    """Layer → which entries of its `down_proj`, (d_model, d_mlp) bool, `unit` zeroes."""
    layer = unit.site.layer
    if method is Method.NEURONS:
        mask = torch.zeros_like(down_proj(lm.model, layer), dtype=torch.bool)
        mask[:, unit.index] = True
        return {layer: mask}
    d = library.at(unit.site).rows(torch.tensor([unit.index]))[0]  # (d_model,)
    writers = _writers(unit.site)
    if method is Method.ROWS:
        rows = d.abs() > tau2 * d.abs().max()
        nearest = writers[-1:]
        return {
            writer: rows.to(layer_device(lm.model, writer))[:, None].expand_as(down_proj(lm.model, writer))
            for writer in nearest
        }
    contribution = {writer: _contribution(lm, writer, d, evidence) for writer in writers}
    largest = max((float(c.max()) for c in contribution.values()), default=0.0)
    return {writer: (c > tau2 * largest) & (c > 0) for writer, c in contribution.items()}


def _writers(site: Site) -> list[int]:
    """Layers whose `down_proj` writes straight into `site`, ascending."""
    if site.kind is SiteKind.MLP_OUT:
        return [site.layer]
    return list(range(site.layer + (site.kind is SiteKind.RESID_POST)))


def _contribution(lm: LanguageModel, layer: int, d: Tensor, evidence: _Evidence) -> Tensor:
    """c_jk = g_j · d_j · W[j, k] · a_k / r, summed over phrasings: (d_model, d_mlp), float32."""
    g, d = post_feedforward_gain(lm.model, layer), d.to(layer_device(lm.model, layer))
    scaled = d if g is None else g * d  # (d_model,)
    return scaled[:, None] * down_proj(lm.model, layer).to(torch.float32) * evidence.normed_act[layer]


def _shuffled(masks: Mapping[int, Tensor], seed: int) -> dict[int, Tensor]:
    """Masks with as many entries each, at random places."""
    generator = torch.Generator().manual_seed(seed)
    shuffled: dict[int, Tensor] = {}
    for layer, mask in sorted(masks.items()):
        places = torch.randperm(mask.numel(), generator=generator)[: int(mask.sum())]
        flat = torch.zeros(mask.numel(), dtype=torch.bool)
        flat[places] = True
        shuffled[layer] = flat.reshape(mask.shape).to(mask.device)
    return shuffled


def _zeroing(lm: LanguageModel, layer: int, mask: Tensor) -> WeightDelta:
    """The delta that zeroes what `mask`, (d_model, d_mlp), marks."""
    stored = stored_layout(lm.model, mask)
    indices = stored.flatten().nonzero()[:, 0]
    values = torch.zeros(len(indices), dtype=lm.dtype, device=indices.device)
    return WeightDelta(down_proj_name(lm.model, layer), tuple(stored.shape), indices, values)
