"""Which module holds which study. A study is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module, util

from knowscope_tui.core.studies import StudyName
from knowscope_tui.errors import UsageError
from knowscope_tui.studies.study import Study


def module_of(name: StudyName) -> str:
    """The module or package whose `STUDY` it is."""
    return f"{__package__}.{name.value}"


def available() -> tuple[StudyName, ...]:
    """The studies that are there, in the order in which `all` runs them."""
    return tuple(name for name in StudyName if util.find_spec(module_of(name)) is not None)


def study_named(name: StudyName) -> Study:
    """The study of this name. Raises `UsageError` where it is not there."""
    if name not in available():
        there = ", ".join(one.value for one in available())
        raise UsageError(f"The study {name.value!r} is not part of this program.", f"Choose among: {there}.")
    study: Study = import_module(module_of(name)).STUDY
    return study
