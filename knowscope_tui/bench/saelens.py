"""The same units through sae-lens: `SAETransformerBridge`, over the same weights."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from knowscope_tui.bench.subject import Subject
from knowscope_tui.core.units import Site, Unit
from knowscope_tui.demo.bundle import model_folder
from knowscope_tui.engine.answers import probability


class Bridge:
    """sae-lens's model over the weights of `subject`, and SAEs made of its dictionaries as they are asked for."""

    def __init__(self, subject: Subject) -> None:
        # sae_lens takes seconds to import.
        from sae_lens.analysis.sae_transformer_bridge import SAETransformerBridge

        lm = subject.lm
        # The bridge changes modules in place and leaves weights alone: it is given modules of its own.
        shared = {id(parameter): parameter for parameter in lm.model.parameters()}
        # It reads a tokenizer from the folder, and is never given text.
        self.bridge = SAETransformerBridge.boot_transformers(
            str(model_folder()), hf_model=deepcopy(lm.model, shared), device=lm.device, dtype=lm.dtype
        )
        self._subject = subject
        self._tokens = lm.tensor([subject.question.input_ids])

    def sae(self, site: Site) -> Any:
        """The dictionary at `site` as sae-lens's own class: on the model's device and in its dtype.

        In any other dtype what an SAE puts out would not fit the layer that reads it.
        """
        from sae_lens import SAE

        dictionary, lm = self._subject.library.at(site), self._subject.lm
        device, dtype = lm.device, lm.dtype
        with torch.device("meta"):
            sae = SAE.from_dict(_config(site, dictionary.d_in, dictionary.d_sae, dtype))
        vectors = dictionary.vectors(device)
        tensors = {
            "W_enc": dictionary.encoder.to(device, dtype).T.contiguous(),
            "W_dec": dictionary.decoder.to(device, dtype, copy=True),
            **{name: vectors[name].to(dtype) for name in ("b_enc", "b_dec", "threshold")},
        }
        sae.load_state_dict(tensors, assign=True)
        sae.cfg.device = str(device)
        sae.device = device
        sae.use_error_term = True
        return sae

    @torch.no_grad()
    def p_without(self, sae: Any, unit: Unit) -> float:
        """P(answer) with `unit` alone zeroed at the prompt's last token, in one forward with `sae` attached."""
        question = self._subject.question

        def zero(features: Tensor, **_: Any) -> Tensor:  # (1, pos, d_sae)
            features[:, question.last, unit.index] = 0
            return features

        hooks = [(self.bridge.get_sae_hook_name(sae), zero)]
        logits: Tensor = self.bridge.run_with_hooks_with_saes(self._tokens, saes=[sae], fwd_hooks=hooks)
        return probability(logits[0], question)


def _config(site: Site, d_in: int, d_sae: int, dtype: torch.dtype) -> dict[str, Any]:
    return {
        "architecture": "jumprelu",
        "d_in": d_in,
        "d_sae": d_sae,
        "dtype": str(dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"hook_name": site.transformer_lens_name},
    }
