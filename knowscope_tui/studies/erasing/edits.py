"""The edits that are compared: each method at its own setting, and walked from a weak one to a strong one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import Tensor

from knowscope_tui.core.edits import EditSpec, Method, NoTau2
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.methods import zeroing
from knowscope_tui.engine.methods.evidence import Evidence, gather
from knowscope_tui.engine.methods.frontier import walk, yardstick_of
from knowscope_tui.engine.methods.material import Material
from knowscope_tui.engine.methods.plan import plan_edit
from knowscope_tui.errors import EditError
from knowscope_tui.studies.erasing.judging import Edit
from knowscope_tui.studies.erasing.known import Ground
from knowscope_tui.studies.study import Subject

UNITS = 10
"""Features or neurons of an edit at its own setting."""

OWN, AUTO, NONE = "own", "auto", "auto, none found"
"""Settings: the method's own, the τ2 that is looked for, and where none is within the limits."""

TAU2_LADDER = (0.5, 0.3, 0.2, 0.17, 0.14, 0.1, 0.05, 0.02)
NEURON_LADDER = (1, 3, 30, 60, 100, 170, 300, 600)
RANDOM_LADDER = (0.02,)

ONE_BY_ONE = (Method.POSITIONS, Method.NEURONS, Method.RANDOM)
TOGETHER = (Method.POSITIONS, Method.NEURONS, Method.PRECISE, Method.REFINED, Method.REFINED_RANDOM)
"""`gradient`, which changes every entry, is measured in `docs/editing.md`."""


def one_fact(subject: Subject, ground: Ground, method: Method, fact: Fact) -> Iterator[Edit]:
    """Every edit of one fact by one method, its own setting first."""
    evidence = _evidence(subject, ground, method, fact)
    if method is Method.NEURONS:
        yield _neurons(subject, ground, evidence, UNITS, OWN)
        for count in NEURON_LADDER:
            yield _neurons(subject, ground, evidence, count, f"{count} neurons")
        return
    spec = EditSpec((fact,), method, _kind(subject), UNITS, seed=subject.options.seed)
    ratios = zeroing.reach(zeroing.ratios(ground.lm, subject.library, spec, [evidence]))

    def zeroed(tau2: float, setting: str) -> Edit:
        masks = {layer: ratio > tau2 for layer, ratio in ratios.items()}
        masks = zeroing.shuffled(masks, spec.seed) if method is Method.RANDOM else masks
        return Edit(method.value, setting, tau2, (fact,), zeroing.zeroing(ground.lm, masks))

    yield zeroed(zeroing.default_tau2(spec), OWN)
    for tau2 in RANDOM_LADDER if method is Method.RANDOM else TAU2_LADDER:
        yield zeroed(tau2, f"τ2 {tau2:g}")
    if method is Method.POSITIONS:
        found = _looked_for(ground, spec, ratios)
        yield Edit(method.value, NONE, 0.0, (fact,)) if found is None else zeroed(found, AUTO)


def _looked_for(ground: Ground, spec: EditSpec, ratios: Mapping[int, Tensor]) -> float | None:
    """τ2 at the knee within the usual limits; None where there is none."""
    try:
        yardstick = yardstick_of(ground.lm, spec, Material(ground.kept.retained, ground.seen_texts))
    except EditError:  # The fact was not learned.
        return None
    knee = None
    for frontier, _final in walk(ground.lm, spec, ratios, yardstick):
        knee = frontier.knee
    return None if knee is None else knee.tau2


def _neurons(subject: Subject, ground: Ground, evidence: Evidence, count: int, setting: str) -> Edit:
    """The columns of the `count` strongest neurons zeroed."""
    spec = EditSpec((evidence.fact,), Method.NEURONS, top=count)
    masks, _reach = zeroing.marked(zeroing.ratios(ground.lm, subject.library, spec, [evidence]), 0.0)
    return Edit(Method.NEURONS.value, setting, count, (evidence.fact,), zeroing.zeroing(ground.lm, masks))


def many_facts(
    subject: Subject, ground: Ground, method: Method, facts: Sequence[Fact], tell: Callable[[str, float | None], None]
) -> Edit:
    """One edit of all `facts` by the method's own setting."""
    spec = EditSpec(tuple(facts), method, _kind(subject), UNITS, seed=subject.options.seed)
    material = Material(ground.kept.retained, ground.seen_texts)
    try:
        planned = plan_edit(ground.lm, subject.library, spec, material, on_progress=tell)
    except NoTau2:
        return Edit(method.value, NONE, 0.0, spec.facts, together=True)
    return Edit(method.value, OWN, planned.plan.tau2 or 0.0, spec.facts, planned.changes, together=True)


def _kind(subject: Subject) -> SiteKind:
    """The sites whose features are edited: of the stream behind a layer, or of the MLP where there are none."""
    for kind in (SiteKind.RESID_POST, SiteKind.MLP_OUT):
        if kind in subject.library.kinds:
            return kind
    raise EditError("No dictionary of resid_post or mlp_out features is loaded.", "Open one with --sae.")


def _evidence(subject: Subject, ground: Ground, method: Method, fact: Fact) -> Evidence:
    """What `fact` shows of the units of the subject's layers, and where entries are weighed of every writer."""
    if method is Method.NEURONS:
        return gather(ground.lm, subject.library, [Site(layer, SiteKind.MLP_ACT) for layer in subject.layers], fact)
    kind = _kind(subject)
    sites = [site for site in subject.library.sites if site.kind is kind and site.layer in subject.layers]
    return gather(ground.lm, subject.library, sites, fact, range(ground.lm.n_layers))
