"""Mean activations of units over running text: what a mean ablation puts in a unit's place."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from knowscope_tui.core.units import Family, Site, Unit
from knowscope_tui.engine.hooks import capture
from knowscope_tui.engine.library import Library, check_unit
from knowscope_tui.engine.model import LanguageModel


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
