"""Whether an edit can be carried out at all, said before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

from knowscope_tui.core.edits import EditSpec, Limits, Method
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.units import Family, SiteKind
from knowscope_tui.engine.library import Library, check_unit
from knowscope_tui.engine.methods.evidence import phrasings
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.errors import EditError

EDITABLE_KINDS = (SiteKind.MLP_OUT, SiteKind.RESID_MID, SiteKind.RESID_POST)
"""Sites whose features `down_proj` writes into."""


def check(lm: LanguageModel, library: Library, spec: EditSpec) -> None:
    """Raises `EditError` for a spec that makes no sense or cannot be carried out on what is open."""
    _check_facts(spec)
    _check_numbers(spec)
    _check_units(lm, library, spec)


def _check_facts(spec: EditSpec) -> None:
    if not spec.facts:
        raise EditError("No fact was named to edit.", "Give a fact file, or a prompt with its answer.")
    if spec.updates and not spec.method.writes:
        writing = ", ".join(method.value for method in Method if method.writes)
        raise EditError(
            f"The method {spec.method.value!r} takes answers away and writes none.", f"Methods that write: {writing}."
        )
    for fact in spec.facts:
        if fact.target_new and fact.target_new.strip() == fact.answer.strip():
            raise EditError(f"The new answer of {_short(fact)} is the one it has.", "Name another answer, or none.")
    contradiction = contradicting(spec.facts)
    if contradiction is not None:
        one, other = contradiction
        raise EditError(
            f"{_short(one)} is to be answered in two ways, {_aim(one)} and {_aim(other)}.", "Leave one of them out."
        )


def contradicting(facts: Sequence[Fact]) -> tuple[Fact, Fact] | None:
    """Two facts that share a phrasing and aim at different answers, if there are any."""
    aims: dict[str, Fact] = {}
    for fact in facts:
        for prompt in phrasings(fact):
            other = aims.setdefault(prompt.strip(), fact)
            both_erased = not other.target_new and not fact.target_new
            if not both_erased and other.target_new.strip() != fact.target_new.strip():
                return other, fact
    return None


def _short(fact: Fact) -> str:
    return repr(fact.id or (fact.prompt if len(fact.prompt) <= 40 else fact.prompt[:39] + "…"))


def _aim(fact: Fact) -> str:
    return repr(fact.target_new) if fact.target_new else "not at all"


def _check_numbers(spec: EditSpec) -> None:
    if spec.tau2 is not None and not 0 <= spec.tau2 < 1:
        raise EditError(f"τ2 is {spec.tau2:g}.", "It is a share of the largest value: use 0 or more, and less than 1.")
    if spec.auto and spec.tau2 is not None:
        raise EditError("τ2 is both given and to be found.", "Give a number, or `auto`.")
    if spec.auto and not spec.method.has_tau2:
        raise EditError(f"The method {spec.method.value!r} has no τ2 to look for.", "Leave `auto` out.")
    if spec.top < 1:
        raise EditError(f"An edit of {spec.top} units changes nothing.", "Use one or more.")
    if not 0 < spec.budget <= 1:
        raise EditError(
            f"A budget of {spec.budget:g} of the model's weights cannot be kept.", "Use more than 0 and at most 1."
        )
    _check_limits(spec.limits)


def _check_limits(limits: Limits) -> None:
    for name, value in (("Rel", limits.min_reliability), ("Loc", limits.min_locality)):
        if not 0 <= value <= 1:
            raise EditError(f"The least {name} is {value:g}.", "It is a share: use a number from 0 to 1.")
    if not limits.max_delta_ppl >= 0:
        raise EditError(f"The most ΔPPL is {limits.max_delta_ppl:g}.", "Use 0 or more; .01 is one per cent.")


def _check_units(lm: LanguageModel, library: Library, spec: EditSpec) -> None:
    for unit in spec.units:
        check_unit(lm, library, unit)
    if spec.method is Method.GRADIENT:
        return
    wanted = Family.NEURON if spec.method is Method.NEURONS else Family.FEATURE
    for unit in spec.units:
        if unit.family is not wanted:
            raise EditError(
                f"The method {spec.method.value!r} edits {wanted.plural}, and {unit} is none.",
                "Use `neurons` for neurons, and another method for features.",
            )
    kinds = {unit.site.kind for unit in spec.units} or {spec.site}
    if wanted is Family.FEATURE and not kinds <= set(EDITABLE_KINDS):
        raise EditError(
            f"No down_proj writes into {', '.join(kind.value for kind in kinds - set(EDITABLE_KINDS))} features.",
            f"Use the features of {', '.join(kind.value for kind in EDITABLE_KINDS)}.",
        )
    if wanted is Family.FEATURE and not spec.units and spec.site not in library.kinds:
        loaded = ", ".join(kind.value for kind in library.kinds) or "none"
        raise EditError(f"No dictionary is loaded at {spec.site}.", f"Sites with dictionaries: {loaded}.")
