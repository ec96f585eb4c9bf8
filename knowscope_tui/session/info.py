"""What is open, in numbers and words."""

from __future__ import annotations

from knowscope_tui.core.units import SiteKind
from knowscope_tui.engine.dictionary import Dictionary
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.sites import width
from knowscope_tui.session.opening import Prepared
from knowscope_tui.session.protocol import DictionaryInUse, ModelInfo


def model_info(lm: LanguageModel, library: Library, prepared: Prepared) -> ModelInfo:
    """The model and the dictionaries beside it, as `prepared` placed them."""
    in_use = tuple(_in_use(library.at(site)) for site in library.sites)
    return ModelInfo(
        name=lm.name,
        is_demo=prepared.is_demo,
        trained_on=prepared.trained_on,
        chat=lm.chat,
        device=prepared.plan.device if prepared.spread else str(lm.device),
        dtype=str(lm.dtype).removeprefix("torch."),
        n_layers=lm.n_layers,
        d_model=width(lm.model, SiteKind.RESID_POST),
        n_neurons=width(lm.model, SiteKind.MLP_ACT),
        context=lm.context,
        parameters=sum(parameter.numel() for parameter in lm.model.parameters()),
        dictionary_kinds=tuple(library.kinds),
        features_per_site=tuple(sorted({dictionary.features for dictionary in in_use})),
        dictionaries=in_use,
        plan=prepared.plan,
        remarks=prepared.wanted.remarks,
    )


def _in_use(dictionary: Dictionary) -> DictionaryInUse:
    spec = dictionary.spec
    return DictionaryInUse(spec.site, spec.source, spec.d_sae, spec.architecture, dictionary.dtype, spec.expected_l0)
