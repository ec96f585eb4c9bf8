"""Does what was loaded do what its name says? Parity of the hooks, ablations against the whole model (see `parity`),
and L0 and variance explained of every dictionary.

The last two are measured on a built-in text, `<bos>` left out, as Gemma Scope's own figures are (Lieberum et al. 2024,
arXiv 2408.05147, section 4.1):

    L0 = mean over tokens of the number of features that are not zero
    fraction of variance explained = 1 − Σ|h − ĥ|² / Σ|h − mean h|²
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from knowscope_tui.core.checks import DictionaryCheck, SelfTest
from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.dictionary import Dictionary
from knowscope_tui.engine.hooks import capture
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.parity import ablation_gap, parity
from knowscope_tui.engine.shelf.registry import root_name
from knowscope_tui.engine.sites import layer_device, width
from knowscope_tui.errors import DictionaryError

L0_FACTOR = 3.0
"""How far the L0 on so short a text may be from the one in a name, either way, before it is called wrong."""

LEAST_EXPLAINED = 0.2
"""Below this share of the variance a dictionary is not one of the activations it is shown."""

WELL_EXPLAINED = 0.6
"""Below this share the sites around are tried; one that is explained by so much more as `LEAST_EXPLAINED` is named."""

LARGEST_GAP, LARGEST_GAP_IN_16_BITS = 1e-4, 3e-2
"""What rounding may make of a probability, in float32 and in 16 bits, where two ways run through the same layers."""

TOKENS_AT_ONCE = 64
"""Tokens whose features are held at once."""

OTHER_LAYERS = 2
"""How many layers up and down are tried for a dictionary that does not fit its own."""


def self_test(
    lm: LanguageModel,
    library: Library,
    texts: Sequence[str],
    *,
    trained_on: str | None,
    on_progress: OnProgress = lambda doing, fraction: None,
) -> SelfTest:
    """Tests what is open on `texts`; `trained_on` is the published model that the open one is, or is tuned from."""
    on_progress("Self-test: parity", 0.0)
    difference = parity(lm, texts[:2])
    checks: list[DictionaryCheck] = []
    sites = library.sites
    activations = _activations(lm, texts, sites)
    for number, site in enumerate(sites):
        on_progress(f"Self-test: {site}", number / len(sites))
        checks.append(_check(lm, library.at(site), activations[site], texts, trained_on))
    on_progress("Self-test: exact effects", 1.0)
    gap = ablation_gap(lm, library, [check.site for check in checks if not check.problem], texts[0])
    tokens = len(next(iter(activations.values()))) if activations else 0
    return SelfTest(difference, tokens, tuple(checks), tuple(_model_problems(lm, difference, gap)), gap)


def _model_problems(lm: LanguageModel, difference: float, gap: float) -> list[str]:
    problems = []
    if not gap <= (LARGEST_GAP if lm.dtype is torch.float32 else LARGEST_GAP_IN_16_BITS):
        problems.append(
            f"Exact effects are off by up to {gap:.2g} from what the whole model gives: please report this."
        )
    if math.isnan(difference):
        problems.append("The model's logits are not numbers: open it with --dtype bfloat16 or float32.")
    elif difference != 0:
        problems.append(f"Hooks that change nothing change the logits by up to {difference:g}.")
    if lm.dtype is torch.float16 and lm.model.config.model_type.startswith("gemma"):
        problems.append("Gemma's activations overflow float16: open it with --dtype bfloat16.")
    return problems


@torch.no_grad()
def _activations(lm: LanguageModel, texts: Sequence[str], sites: Sequence[Site]) -> dict[Site, Tensor]:
    """Activations of all tokens but `<bos>`: site → (tokens, width), on the host."""
    rows: dict[Site, list[Tensor]] = {site: [] for site in sites}
    for text in texts if sites else ():
        with capture(lm.model, sites) as cache:
            lm.model(input_ids=lm.tensor([lm.encode_text(text, cut=True)]), use_cache=False, logits_to_keep=1)
        for site in sites:
            rows[site].append(cache[site][0, 1:].cpu())
    return {site: torch.cat(parts) for site, parts in rows.items()}


def _check(
    lm: LanguageModel, dictionary: Dictionary, activations: Tensor, texts: Sequence[str], trained_on: str | None
) -> DictionaryCheck:
    site, spec = dictionary.site, dictionary.spec
    try:
        l0, explained = measure(dictionary, activations.to(layer_device(lm.model, site.layer)))
        problem = _problem(lm, dictionary, texts, (l0, explained), trained_on)
    except DictionaryError as error:  # numbers that are not finite
        l0 = explained = math.nan
        problem = error.what
    return DictionaryCheck(
        site=site,
        source=spec.source,
        features=spec.d_sae,
        dtype=dictionary.dtype,
        l0=l0,
        expected_l0=spec.expected_l0,
        explained=explained,
        problem=problem,
    )


@torch.no_grad()
def measure(dictionary: Dictionary, activations: Tensor) -> tuple[float, float]:
    """L0 and fraction of variance explained of `dictionary` on `activations` (tokens, d_in)."""
    h = activations.to(torch.float32)
    active, missed = 0.0, 0.0
    for rows in torch.split(h, TOKENS_AT_ONCE):
        features = dictionary.encode(rows)
        active += float((features != 0).sum())
        missed += float((rows - dictionary.decode(features, rows)).square().sum())
    spread = float((h - h.mean(dim=0)).square().sum())
    return active / max(len(h), 1), 1.0 - missed / spread if spread else 0.0


def _problem(
    lm: LanguageModel,
    dictionary: Dictionary,
    texts: Sequence[str],
    measured: tuple[float, float],
    trained_on: str | None,
) -> str:
    l0, explained = measured
    spec = dictionary.spec
    if spec.model and trained_on and root_name(spec.model) != root_name(trained_on):
        return f"It was trained on {spec.model}, and this is {trained_on}."
    if dictionary.dtype == "float16":
        return "It is kept in float16, whose range it can leave: convert it to bfloat16 or float32."
    elsewhere = None if explained >= WELL_EXPLAINED else _fits_better(lm, dictionary, texts, explained)
    if elsewhere is not None:
        site, there = elsewhere
        return (
            f"It explains {explained:.0%} of the variance of {dictionary.site}, and {there:.0%} of {site}: wrong site?"
        )
    if not explained >= LEAST_EXPLAINED:
        return f"It explains {explained:.0%} of the variance of {dictionary.site}."
    if spec.expected_l0 and not spec.expected_l0 / L0_FACTOR <= l0 <= spec.expected_l0 * L0_FACTOR:
        return f"{l0:.0f} features are active per token, and its name says {spec.expected_l0:.0f}."
    return ""


def _fits_better(
    lm: LanguageModel, dictionary: Dictionary, texts: Sequence[str], explained: float
) -> tuple[Site, float] | None:
    """The site around its own that a dictionary explains best, where that is clearly better."""
    own = dictionary.site
    layers = range(max(0, own.layer - OTHER_LAYERS), min(lm.n_layers, own.layer + OTHER_LAYERS + 1))
    kinds = [kind for kind in SiteKind if kind is not SiteKind.MLP_ACT and width(lm.model, kind) == dictionary.d_in]
    around = [Site(layer, kind) for layer in layers for kind in kinds if Site(layer, kind) != own]
    found = {
        site: measure(dictionary, rows.to(layer_device(lm.model, own.layer)))[1]
        for site, rows in _activations(lm, texts, around).items()
    }
    best = max(found, key=lambda site: found[site], default=None)
    if best is None or found[best] < max(LEAST_EXPLAINED, explained + LEAST_EXPLAINED):
        return None
    return best, found[best]
