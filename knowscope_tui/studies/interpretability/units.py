"""Which units are explained: of every fact the strongest of each kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.units import Site, SiteKind, Unit
from knowscope_tui.engine.attribution import strongest, unit_attribution
from knowscope_tui.engine.trace import record
from knowscope_tui.studies.study import Subject

FACTS_AT_ONCE = 16


@dataclass(frozen=True)
class Acting:
    """A unit with the sign that it has where it carries a fact: many neurons do so by being negative."""

    unit: Unit
    sign: float


def strongest_units(subject: Subject, facts: Sequence[Fact], on_progress: OnProgress) -> list[dict[SiteKind, Acting]]:
    """Of each fact and kind of site the unit with the largest gradient × activation; none where none is positive."""
    lm, library = subject.lm, subject.library
    sites = [site for site in library.sites if site.layer in subject.layers]
    sites += [Site(layer, SiteKind.MLP_ACT) for layer in subject.layers]
    found: list[dict[SiteKind, Acting]] = []
    for start in range(0, len(facts), FACTS_AT_ONCE):
        on_progress("Finding the strongest units", start / len(facts))
        questions = [lm.ask(fact.prompt, fact.answer) for fact in facts[start : start + FACTS_AT_ONCE]]
        trace = record(lm, questions, [question.last for question in questions], sites, slopes=True)
        shown = {site: unit_attribution(library, site, trace) for site in sites}
        by_site = {site: attribution.cpu() for site, (_activations, attribution) in shown.items()}
        for number in range(len(questions)):
            own: dict[SiteKind, Acting] = {}
            for kind in SiteKind:
                best = strongest({site: rows[number] for site, rows in by_site.items() if site.kind is kind}, 1)
                if best:
                    activation = float(shown[best[0].site][0][number, best[0].index])
                    own[kind] = Acting(best[0], -1.0 if activation < 0 else 1.0)
            found.append(own)
    return found
