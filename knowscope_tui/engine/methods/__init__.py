"""How units become weight changes: the methods of FeatureEdit and their baselines.

Chen et al. 2025 (arXiv 2502.12483, section 6) zero "the corresponding positions" of the second MLP matrix W
(`down_proj.weight`, d_model × d_mlp) where a feature's decoder row exceeds τ2. The paper's code was never published.

| method | module | what it is |
|---|---|---|
| `positions`, `rows` | `zeroing` | two readings of the paper |
| `neurons`, `random` | `zeroing` | the neuron baseline, the control |
| `projection` | `projection` | the features' directions taken out of W |
| `precise` | `precise` | closed form over several layers, training-free |
| `refined`, `refined-random` | `refined` | values optimised at positions that features (or dice) chose |
| `gradient` | `refined` | the same steps on every entry of every `down_proj` |

`plan.plan_edit` is the one door.
"""
