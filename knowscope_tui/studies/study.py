"""What every study is made of, and what it is given to study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.studies import TITLES, Findings, Row, StudyName, StudyOptions
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel


@dataclass(frozen=True)
class Subject:
    """What is studied. `facts` are known to the model and drawn already; `texts` are about other things."""

    lm: LanguageModel
    library: Library
    facts: tuple[Fact, ...]
    texts: tuple[str, ...]
    options: StudyOptions
    cache: Path
    """A folder, there already, for what is costly and the same for all items: fitted directions, trained dictionaries,
    an endpoint's answers. What is written there is written whole (see `core.written`), and found again by the next run
    of the same configuration."""

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers whose units take part."""
        return self.options.layers or tuple(range(self.lm.n_layers))


Measure = Callable[[str, OnProgress], list[Row]]
"""Measures one item, named by its key. The rows depend on the key, the subject and nothing else: not on what was
measured before, so that items can be spread over processes and repeated."""


@dataclass(frozen=True)
class Study:
    """One of the paper's questions. All is plain functions, so that a worker can be told a study by its name."""

    name: StudyName
    keys: Callable[[Subject], list[str]]
    """The items, in order; distinct, and stable for the same subject. Cheap."""
    prepare: Callable[[Subject, OnProgress], Measure]
    """Fits or loads what all items share, and returns what measures one."""
    findings: Callable[[Sequence[Row]], Findings]
    """What the rows (each with its item's `key`, in order of the keys) come to; also of some of them, while it runs."""
    needs: str = "facts that the model knows"
    """What has to be named for there to be an item."""

    @property
    def title(self) -> str:
        return TITLES[self.name][0]

    @property
    def question(self) -> str:
        return TITLES[self.name][1]


def fact_keys(subject: Subject) -> list[str]:
    """An item for each fact: its number in the subject, zero-padded, and its id."""
    width = len(str(max(len(subject.facts) - 1, 0)))
    return [f"{number:0{width}d}:{fact.id}" for number, fact in enumerate(subject.facts)]


def fact_of(subject: Subject, key: str) -> Fact:
    """The fact that a key of `fact_keys` names."""
    return subject.facts[int(key.partition(":")[0])]
