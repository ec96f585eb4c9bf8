"""Explanations of units, and how well they foretell activations: IS, detection, fuzzing.

contexts → what units show on sentences     units → which are explained
interpreter → the task of one unit          lexical, endpoint → who explains     prompts → what a model is asked
scores → how good an explanation is         study → rows and findings
"""

from knowscope_tui.studies.interpretability.study import STUDY

__all__ = ["STUDY"]
