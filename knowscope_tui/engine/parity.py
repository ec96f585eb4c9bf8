"""Whether looking changes what is looked at, and whether the upper layers alone give what the whole model does.

Both are asked of the model as it is open, on this machine: kernels differ between devices, and so may numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from knowscope_tui.core.readings import Ablation
from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.engine.ablate import measure_ablation
from knowscope_tui.engine.hooks import capture
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.live import Live
from knowscope_tui.engine.model import LanguageModel, Question
from knowscope_tui.engine.sweep import sweep
from knowscope_tui.engine.trace import record


@torch.no_grad()
def parity(lm: LanguageModel, texts: Sequence[str]) -> float:
    """The largest absolute logit difference between a plain forward and one with every site captured; 0 is expected.

    NaN where the model's logits are not numbers.
    """
    sites = [Site(layer, kind) for layer in range(lm.n_layers) for kind in SiteKind]
    differences = [0.0]
    for text in texts:
        tokens = lm.tensor([lm.encode_text(text, cut=True)])
        plain = lm.model(input_ids=tokens, use_cache=False).logits
        with capture(lm.model, sites):
            hooked = lm.model(input_ids=tokens, use_cache=False).logits
        differences.append(float((plain - hooked).abs().max()))
    return _largest(differences)


@torch.no_grad()
def ablation_gap(lm: LanguageModel, library: Library, sites: Sequence[Site], text: str) -> float:
    """The largest difference in P between ablations by sweep, or live, and the same through the whole model with hooks.

    P is that of the model's own next token after the text. Switched off are the strongest features at the first, a
    middle and the last of `sites`, which have dictionaries, and a neuron. Rounding is expected, to the dtype's
    precision. NaN where a probability is not a number.
    """
    ids = lm.encode_text(text, cut=True)
    following = int(lm.model(input_ids=lm.tensor([ids]), use_cache=False, logits_to_keep=1).logits[0, -1].argmax())
    question = Question(text, "", ids, (following,))
    neurons = Site(lm.n_layers // 2, SiteKind.MLP_ACT)
    trace = record(lm, [question], [question.last], [*sites, neurons])
    units = [Unit.neuron(neurons.layer, int(trace.activations[neurons][0].abs().argmax()))]
    for site in dict.fromkeys((sites[0], sites[len(sites) // 2], sites[-1]) if sites else ()):
        units.append(Unit(site, Family.FEATURE, int(trace.encoded(library, site)[0].argmax())))
    live = Live(lm, library, trace)
    differences = [0.0]
    for unit, swept in zip(units, sweep(lm, library, trace, units), strict=True):
        ablation = Ablation((unit,))
        plain = measure_ablation(lm, library, question, ablation).p_after
        # Twice, because what runs the second time may be a graph that was captured the first time.
        found = (swept, live.measure(ablation).p_after, live.measure(ablation).p_after)
        differences += [abs(p - plain) for p in found]
    return _largest(differences)


def _largest(differences: Sequence[float]) -> float:
    """NaN where one of them is."""
    return float(torch.tensor(differences).max())
