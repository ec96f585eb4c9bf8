"""Fact files of every form that is understood: this project's JSON lines, ParaRel, CounterFact, zsRE.

reading → which form a file has, and its facts      pararel, counterfact, zsre → one form each
fact_set → facts, their neighbors, and what was left out
"""

from knowscope_tui.core.fact_formats.fact_set import FactSet
from knowscope_tui.core.fact_formats.reading import read_fact_set

__all__ = ["FactSet", "read_fact_set"]
