"""What a self-test found: does looking change the model, and do the dictionaries do what their names say?"""

from __future__ import annotations

from dataclasses import dataclass

from knowscope_tui.core.units import Site


@dataclass(frozen=True)
class DictionaryCheck:
    """One dictionary on a built-in text, `<bos>` left out.

    `l0` is the mean number of active features per token; `explained` the fraction of variance explained,
    1 − Σ|h − ĥ|² / Σ|h − mean h|². `problem` is a sentence where these do not fit its name, its site or the model.
    """

    site: Site
    source: str
    features: int
    dtype: str
    l0: float
    expected_l0: float | None
    explained: float
    problem: str = ""


@dataclass(frozen=True)
class SelfTest:
    """Parity (the largest logit difference to a forward without hooks; 0 is expected) and every dictionary."""

    parity: float
    tokens: int
    dictionaries: tuple[DictionaryCheck, ...]
    problems: tuple[str, ...] = ()
    """What is wrong with the model itself, each in a sentence."""
    ablation_gap: float = 0.0
    """The largest difference in P(answer) between ablations that run the upper layers alone and the whole model's."""

    @property
    def wrong(self) -> tuple[DictionaryCheck, ...]:
        return tuple(check for check in self.dictionaries if check.problem)

    @property
    def passed(self) -> bool:
        return self.parity == 0 and not self.wrong and not self.problems
